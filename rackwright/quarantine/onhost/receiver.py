"""Receiver of alerts that records signed verdicts about hosts in a chain of root's.

It runs on the monitoring host alone, on its standard library. ``respond`` answers one message of Alertmanager on
standard input and output, ``show`` prints the chain, and ``end HOST`` ends the quarantine of a host, with its reason on
standard input. Root alone may read the key, and write the chain.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FORMAT = 1
NAMESPACE = "rackwright-verdict"
NO_HASH = "0" * 64
CAUSES = ("GpuLost", "GpuMemoryError", "DriveFailing", "HostNotReached")
SETTINGS = Path("/etc/rackwright/quarantine_receiver")
CHAIN = Path("/var/lib/rackwright-quarantine/verdicts")
CHAIN_BYTES = 4 << 20
"""Size at which nothing is recorded any more; readers read no longer chain."""
HEAD_BYTES, BODY_BYTES = 8192, 1 << 20
ALERTS_MAX, DETAIL_MAX, REASON_MAX = 1000, 100, 500
SECONDS = 10


def main(arguments: list[str], settings: Path = SETTINGS, chain: Path = CHAIN) -> None:
    if arguments == ["respond"]:
        sys.stdout.write(f"HTTP/1.1 {respond(settings, chain)}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    elif arguments == ["show"]:
        with contextlib.suppress(FileNotFoundError), chain.open("rb") as file:
            sys.stdout.buffer.write(file.read(CHAIN_BYTES))
    elif len(arguments) == 2 and arguments[0] == "end":
        reason = re.sub(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]", " ", sys.stdin.read(REASON_MAX))
        with Chain(settings, chain) as opened:
            if not opened.end(arguments[1], reason):
                sys.exit(f"{arguments[1]} is not in quarantine")
    else:
        sys.exit("usage: rackwright-quarantine respond, show, or end HOST")


def respond(settings: Path, chain: Path) -> str:
    """Return the status of the answer to the request on standard input, after its alerts were recorded."""
    head, _, body = read_until(b"\r\n\r\n", b"", HEAD_BYTES).partition(b"\r\n\r\n")
    request, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    expected = "Bearer " + (settings / "credential").read_text(encoding="ascii").strip()
    # before the message is read: each account of the host reaches the port
    if not hmac.compare_digest(headers.get("authorization", "").encode(), expected.encode()):
        return "401 Unauthorized"
    length = headers.get("content-length", "")
    if not re.fullmatch("[0-9]{1,9}", length) or not request.startswith("POST / HTTP/1."):
        return "400 Bad Request"
    if int(length) > BODY_BYTES:
        return "413 Content Too Large"
    try:
        alerts = [*parse_alerts(json.loads(read_until(b"", body, int(length))[: int(length)]))]
    except (ValueError, RecursionError):
        return "400 Bad Request"
    with Chain(settings, chain) as opened:
        for alert in alerts:
            opened.begin(*alert)
    return "200 OK"


def read_until(end: bytes, content: bytes, most: int) -> bytes:
    """Return *content* with more of standard input, up to *end* in it or to *most* bytes; empty for no end."""
    while len(content) < most and not (end and end in content):
        part = os.read(0, most - len(content))
        if not part:
            break
        content += part
    return content


def parse_alerts(message: Any) -> Iterator[tuple[str, str, str, str]]:
    """Yield cause, host, detail and begin of each alert of *message* that fires and is a cause.

    Raises:
        ValueError: It is no message of Alertmanager.
    """
    alerts = message.get("alerts") if isinstance(message, dict) else None
    if not isinstance(alerts, list) or not all(isinstance(alert, dict) for alert in alerts):
        raise ValueError("no list of alerts")
    for alert in alerts[:ALERTS_MAX]:
        labels = alert.get("labels")
        if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
            raise ValueError("no labels")
        if alert.get("status") == "firing" and labels.get("alertname") in CAUSES:
            detail = labels.get("serial") or labels.get("gpu") or ""
            detail = re.sub(r"[^0-9A-Za-z /:.,_-]", "_", detail)[:DETAIL_MAX]
            yield labels["alertname"], labels.get("instance", ""), detail, parse_time(alert.get("startsAt"))


def parse_time(text: Any) -> str:
    """Return a time of Alertmanager's in UTC, in the form of verdicts.

    Raises:
        ValueError: It is no time.
    """
    match = re.fullmatch(r"([0-9-]{10}T[0-9:]{8})(?:[.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})", str(text))
    if match is None:
        raise ValueError("no time")
    time = datetime.fromisoformat(match.group(1) + match.group(2).replace("Z", "+00:00"))
    try:
        return format_time(time.astimezone(timezone.utc))
    except OverflowError:
        raise ValueError("no time") from None


def format_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def canonical(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()


class Chain:
    """The chain in its file, with a lock of the file while it is open."""

    def __init__(self, settings: Path, path: Path) -> None:
        self.key = settings / "signing.key"
        self.settings: dict[str, Any] = json.loads((settings / "settings.json").read_text(encoding="utf-8"))
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        content = os.pread(self.file, CHAIN_BYTES + 1, 0)
        whole = content[: content.rfind(b"\n") + 1]
        self.size = len(whole)
        self.verdicts: list[dict[str, Any]] = [json.loads(line)["verdict"] for line in whole.splitlines()]

    def __enter__(self) -> Chain:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.file)

    def causes(self) -> tuple[dict[str, set[str]], dict[str, str]]:
        """Return the causes of each host in quarantine, and the end of its last quarantine."""
        causes: dict[str, set[str]] = {}
        ends: dict[str, str] = {}
        for verdict in self.verdicts:
            if verdict["event"] == "ended":
                causes.pop(verdict["host"], None)
                ends[verdict["host"]] = verdict["time"]
            else:
                causes.setdefault(verdict["host"], set()).add(verdict["cause"])
        return causes, ends

    def begin(self, cause: str, host: str, detail: str, started: str) -> None:
        """Record that an alert puts *host* into quarantine; nothing if it does so already, or may not."""
        causes, ends = self.causes()
        hosts = self.settings["hosts"]
        if host not in hosts or cause in causes.get(host, ()):
            return
        if started <= ends.get(host, ""):
            return  # the operator has ended the quarantine since: a message that was sent again changes nothing
        inside = [name for name in causes if name in hosts]
        if host not in inside and len(inside) >= self.settings["limit"]:
            most = self.settings["limit"]
            sys.stderr.write(f"{host}: {cause}, but {len(inside)} of {len(hosts)} hosts are in quarantine, of {most}\n")
            return
        self.append({"event": "began", "host": host, "cause": cause, "detail": detail, "reason": ""})

    def end(self, host: str, reason: str) -> bool:
        """Record the end of the quarantine of *host*, and return whether it was in quarantine."""
        if host not in self.causes()[0]:
            return False
        self.append({"event": "ended", "host": host, "cause": "", "detail": "", "reason": reason})
        return True

    def append(self, data: dict[str, str]) -> None:
        last = self.verdicts[-1] if self.verdicts else None
        now = format_time(datetime.now(timezone.utc))
        verdict = {
            **data,
            "format": FORMAT,
            "receiver": self.settings["receiver"],
            "number": len(self.verdicts),
            "previous": hashlib.sha256(canonical(last)).hexdigest() if last else NO_HASH,
            # a clock that was set back makes no end that is before its begin
            "time": max(now, last["time"]) if last else now,
        }
        signature = base64.b64encode(self.sign(canonical(verdict))).decode()
        line = canonical({"signature": signature, "verdict": verdict}) + b"\n"
        if self.size + len(line) > CHAIN_BYTES:
            sys.exit("the chain of verdicts is full")
        os.ftruncate(self.file, self.size)  # a line that was not written as a whole ends here
        if os.pwrite(self.file, line, self.size) != len(line):
            sys.exit("the verdict was not written as a whole")
        os.fsync(self.file)
        self.size += len(line)
        self.verdicts.append(verdict)

    def sign(self, content: bytes) -> bytes:
        """Return the signature of *content* for the purpose of verdicts, in OpenSSH's format."""
        fields = (NAMESPACE.encode(), b"", b"sha512", hashlib.sha512(content).digest())
        signed = b"SSHSIG" + b"".join(struct.pack(">I", len(field)) + field for field in fields)
        # openssl reads what it signs with a key of Ed25519 from a file alone
        with tempfile.NamedTemporaryFile() as file:
            file.write(signed)
            file.flush()
            argv = ["/usr/bin/openssl", "pkeyutl", "-sign", "-rawin", "-in", file.name]
            argv += ["-inkey", str(self.key)]
            return subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=SECONDS).stdout


if __name__ == "__main__":
    main(sys.argv[1:])
