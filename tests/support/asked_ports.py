"""Requests to ports of a host from another host that has no credentials, and what counts as a refusal."""

import json
from collections.abc import Sequence
from typing import Any

from tests.support.expect import need
from tests.support.lab import Lab

Place = tuple[str, int, str, bool]
"""Address, port and path of a request, and whether it is encrypted."""
REFUSED = ("no handshake", "closed", "no answer", "TLS alert", "400", "401", "403")
_ASK = """\
import json, socket, ssl, sys
places, authority, own = json.load(sys.stdin)
request = "GET {} HTTP/1.1\\r\\nHost: host\\r\\nConnection: close\\r\\n\\r\\n"
trusted = ssl.create_default_context(cadata=authority)
trusted.check_hostname = False
if not authority:
    trusted.verify_mode = ssl.CERT_NONE
if own:
    trusted.load_cert_chain(*own)

def answer(address, port, path, encrypted):
    try:
        with socket.create_connection((address, port), 20) as plain:
            connection = trusted.wrap_socket(plain) if encrypted else plain
            connection.sendall(request.format(path).encode())
            received = b""
            while data := connection.recv(65536):
                received += data
    except ssl.SSLError as error:
        return "no handshake"
    except ConnectionRefusedError:
        return "closed"
    except OSError as error:
        return "no answer"
    if received.startswith(b"HTTP/"):
        return received.split(b" ")[1].decode()
    return "TLS alert" if received.startswith(b"\\x15") else "no answer" if not received else "data"

for address, port, path, encrypted in places:
    print(json.dumps([address, port, path, encrypted, answer(address, port, path, encrypted)]))
"""


def listeners(lab: Lab, host: str) -> list[tuple[str, int]]:
    """Return the addresses and ports at which programs of *host* listen, without its SSH server."""
    found = []
    for local in lab.ssh(host, "ss -Hltn | awk '{print $4}'").split():
        address, _, port = local.rpartition(":")
        if int(port) != 22:
            found.append((address, int(port)))
    return found


def ask(
    lab: Lab, host: str, places: Sequence[Place], authority: str | None = None, own: tuple[str, str] | None = None
) -> list[list[Any]]:
    """Ask each of *places* from *host*, and return it with the status of its answer, or why there is none.

    Args:
        authority: The certificate by which servers are verified; without it any server is accepted.
        own: Files of a certificate and its key on *host*, which it shows.
    """
    lab.ssh(host, f"cat > /run/ask.py <<'END'\n{_ASK}END")
    output = lab.ssh(host, f"python3 /run/ask.py <<'END'\n{json.dumps([places, authority, own])}\nEND")
    answers = [json.loads(text) for text in output.splitlines()]
    need(len(answers) == len(places), f"{len(answers)} answers to {len(places)} requests")
    return answers
