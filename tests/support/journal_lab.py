"""Hosts that send entries to the journal of their monitoring host, by their own journal and without it."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.support.lab import Lab
from tests.support.monitoring_lab import SERVICE

PORT, ADDRESS = 19532, "10.33.0.1"
DIRECTORY = "/var/lib/rackwright-journal"
SENDER = "/etc/rackwright/journal_sender"
OWN = (f"{SENDER}/client.crt", f"{SENDER}/client.key")
"""Files of the certificate and the key of a host that sends its journal."""
SEND = f"""
import http.client, json, os, ssl, sys, time
job = json.loads(sys.argv[1])
context = ssl.create_default_context(cafile="{SENDER}/authority.crt")
if job["certificate"]:
    context.load_cert_chain(*job["certificate"])
def entries():
    for number in range(job["count"]):
        fields = {{"__REALTIME_TIMESTAMP": f"{{time.time_ns() // 1000}}", "__MONOTONIC_TIMESTAMP": f"{{number + 1}}"}}
        fields |= {{"_BOOT_ID": "5" * 32, **job["fields"]}}
        entry = b"".join(f"{{name}}={{value}}\\n".encode() for name, value in fields.items())
        if job["size"]:
            entry += b"NOISE\\n" + job["size"].to_bytes(8, "little") + os.urandom(job["size"]) + b"\\n"
        yield entry + b"\\n"
source = (job["source"], 0) if job["source"] else None
connection = http.client.HTTPSConnection("{ADDRESS}", {PORT}, timeout=60, context=context, source_address=source)
try:
    kind = {{"Content-Type": "application/vnd.fdo.journal"}}
    connection.request("POST", "/upload", entries(), kind, encode_chunked=True)
    print(connection.getresponse().status)
except (OSError, http.client.HTTPException) as error:
    print("refused", type(error).__name__)
"""
WRITE = """
import array, fcntl, json, os, socket, struct, sys
fields = json.loads(sys.argv[1])
file = os.memfd_create("entry", os.MFD_ALLOW_SEALING)
with open(file, "wb", closefd=False) as entry:
    for name, value in fields.items():
        content = bytes(value) if isinstance(value, int) else value.encode()
        entry.write(name.encode() + b"\\n" + struct.pack("<Q", len(content)) + content + b"\\n")
fcntl.fcntl(file, fcntl.F_ADD_SEALS, 15)
place = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
place.connect("/run/systemd/journal/socket")
place.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))])
"""


def sending(
    fields: Mapping[str, str],
    certificate: Sequence[str] = OWN,
    source: str = "",
    count: int = 1,
    size: int = 0,
) -> str:
    """Return the command that sends entries past the journal of a host; it prints the status, or `refused`.

    Args:
        certificate: Files of the certificate and its key; none for a client without one.
        source: Address from which it connects; empty for the usual one.
        count: Number of entries.
        size: Random bytes in each entry.
    """
    job = {"fields": fields, "certificate": certificate, "source": source, "count": count, "size": size}
    return f"python3 - {shlex.quote(json.dumps(job))} <<'END'\n{SEND}\nEND"


def writing(fields: Mapping[str, str | int], account: str = "nobody") -> str:
    """Return the command of *account* that writes an entry to the journal of its host; a number stands for zeros."""
    return f"cd / && runuser -u {account} -- python3 - {shlex.quote(json.dumps(fields))} <<'END'\n{WRITE}\nEND"


def entries(lab: Lab, *arguments: str) -> list[dict[str, Any]]:
    """Return the entries that `rackwright journal` shows, in its order."""
    done = lab.rackwright("journal", lab.stack, *arguments, "--json", "--lines", "10000", status=0)
    found: list[dict[str, Any]] = json.loads(done.stdout)["entries"]
    return found


def having(lab: Lab, word: str, *arguments: str) -> Iterator[tuple[str, str]]:
    """Yield host and message of each entry with *word* in its message."""
    return ((each["host"], each["message"]) for each in entries(lab, *arguments) if word in each["message"])


def size_mib(lab: Lab, host: str) -> int:
    """Return the MiB of the journal of *host* on the drive of the monitoring host: the most of 20 samples."""
    # a file that leaves while du reads is no error
    sample = f"du -sm {DIRECTORY}/{host} 2>/dev/null || true; sleep 0.05"
    return max(int(text.split()[0]) for text in lab.ssh(SERVICE, f"for _ in $(seq 20); do {sample}; done").splitlines())
