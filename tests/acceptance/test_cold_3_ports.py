"""Line 3, ports: another host gets nothing from any port of a store without a certificate or a signed request."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from rackwright.schema.secret import derive_value
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.store_lab import ADDRESSES, DISKS, GATEWAY, USER, StoreLab, store_lab

ASK = """\
import json, socket, ssl, sys
places, authority = json.load(sys.stdin)
request = "GET {} HTTP/1.1\\r\\nHost: store\\r\\nConnection: close\\r\\n\\r\\n"
trusted = ssl.create_default_context(cadata=authority)
trusted.check_hostname = False

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
"""A program that prints the answer to each request, for a host without a certificate of the store."""
PATHS = (
    "/",
    "/status",
    "/dir/status",
    "/cluster/status",
    "/buckets/",
    "/models",
    "/metrics",
    "/debug/pprof/",
    "/ui/index.html",
)
REFUSED = ("no handshake", "closed", "no answer", "TLS alert", "400", "401", "403")
HEALTH = [ADDRESSES[GATEWAY], 8333, "/status", True, "200"]
"""The only answer: the health of S3, for load balancers. It has no content."""
LOCAL = ("127.0.0.1", "[::1]", "127.0.0.53%lo", "127.0.0.54")
SECRETS = ("archive_key", "archive_trainer", "store_internal")
SEARCH = """\
cat > /run/needle <<'END'
{value}
END
grep -rlF -f /run/needle /etc /var/log /run/log /tmp /var/lib/rackwright /opt/rackwright
for each in /proc/[0-9]*/cmdline; do grep -qF -f /run/needle $each && echo $each; done
journalctl --no-pager | grep -qF -f /run/needle && echo journal
"""
"""A script that prints each file, process and journal with a value."""
HELD = {"/etc/rackwright/object_store/accounts.json", "/etc/seaweedfs/security.toml"}


@line("cold", 3, part="ports")
def test_no_port_of_a_store_answers_another_host(log: Log) -> str:
    """Every listening port of both hosts is asked in plain text and with TLS; secrets are in no log and no argument."""
    with store_lab(log) as lab:
        client = lab.client()
        client.put_object(Bucket="backups", Key="m", Body=b"weights")
        places = [*_places(lab)]
        listening = {(address, port) for address, port, _, _ in places}
        need({8333, 9333, 9340, 8888} <= {port for _, port in listening}, f"found only {sorted(listening)}")
        authority = lab.fleet.object_stores["archive"].ca
        lab.ssh(USER, f"cat > /run/ask.py <<'END'\n{ASK}END")
        output = lab.ssh(USER, f"python3 /run/ask.py <<'END'\n{json.dumps([places, authority])}\nEND")
        answers = [json.loads(text) for text in output.splitlines()]
        need(len(answers) == len(places), f"{len(answers)} answers to {len(places)} requests")
        open_ports = [answer for answer in answers if answer[-1] not in REFUSED and answer != HEALTH]
        need(not open_ports, f"answered: {open_ports[:5]}")
        signed = client.get_object(Bucket="backups", Key="m")["Body"].read()
        need(signed == b"weights", f"a signed request got {signed!r}")
        _need_secrets_only_in_their_files(lab)
        health = f"curl -sk https://{ADDRESSES[GATEWAY]}:8333/status"
        need(lab.ssh(USER, health) == "", "the health of S3 has a content")
    return f"{len(listening)} ports of two hosts refused {len(answers)} requests without credentials"


def _places(lab: StoreLab) -> Iterator[tuple[str, int, str, bool]]:
    """Yield address, port and path of each request, and whether it is encrypted."""
    for host in (GATEWAY, DISKS):
        for local in lab.ssh(host, "ss -Hltn | awk '{print $4}'").split():
            address, _, port = local.rpartition(":")
            if int(port) == 22:
                continue
            paths = PATHS[:1] if address in LOCAL else PATHS
            yield from ((ADDRESSES[host], int(port), path, tls) for path in paths for tls in (False, True))


def _need_secrets_only_in_their_files(lab: StoreLab) -> None:
    values = {name: derive_value(name) for name in SECRETS}
    texts = {str(each): each.read_text(errors="replace") for each in _files_of_the_controller(lab)}
    need(any("state" in path for path in texts), f"no state among {len(texts)} files")
    for name, value in values.items():
        need(not (found := [path for path, text in texts.items() if value in text]), f"{name} is in {found}")
    for host in (GATEWAY, DISKS):
        for name, value in values.items():
            found = lab.ssh(host, SEARCH.format(value=value), status=None).split()
            need({*found} <= HELD, f"{host}: {name} is in {found}")


def _files_of_the_controller(lab: StoreLab) -> Iterator[Path]:
    """Yield the log of this check so far, and all files of the project without those of its twin and its mirror."""
    yield lab.log.path
    for folder, folders, names in os.walk(lab.directory):
        folders[:] = [name for name in folders if name not in ("twins", "mirrors", ".venv")]
        yield from (place for name in names if (place := Path(folder, name)).is_file())
