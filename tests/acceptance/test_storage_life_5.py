"""Drives that leave: erased by each method, looked at from outside, certified; and one that keeps its blocks."""

import json
import os
import subprocess
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.tiers import DEVICE

HOST = "alpha"
METHODS = {"RW-FORMAT": "format", "RW-DISCARD": "discard", "RW-WRITE": "overwrite"}
KEEPS = "RW-KEEPS"
"""A drive that ignores discards."""
BUSES = {"RW-FORMAT": "nvme", "RW-DISCARD": "sas", "RW-WRITE": "sas", KEEPS: "sas"}
BLOCK = 4096
FILL = """import os, sys
block = sys.stdin.buffer.read(4096)
assert len(block) == 4096
with open(sys.argv[1], "r+b", buffering=0) as drive:
    size = drive.seek(0, os.SEEK_END)
    assert size % 4096 == 0, size
    drive.seek(0)
    for start in range(0, size, 1 << 20):
        drive.write((block * 256)[: size - start])
    os.fsync(drive.fileno())
"""
"""In the guest: the pattern, over all of a drive."""


def fleet() -> str:
    drives: list[dict[str, Any]] = [{"serial": "RW-BOOT", "boot": True}]
    drives += [{"serial": serial, "bus": bus, "size": "512MB"} for serial, bus in BUSES.items()]
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "drives": drives,
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:05", "addresses": ["10.32.0.5/24"]}],
    }
    return yaml.safe_dump({"fleet": "leaving", "hosts": {HOST: host}}, sort_keys=False)


@line("storage-life", 5)
def test_removed_drives_are_erased_and_certified(log: Log) -> str:
    pattern = os.urandom(BLOCK)
    with Lab(log.empty_directory() / "project", fleet(), log) as lab:
        signers = _operator(lab.directory)
        lab.start()
        for serial in BUSES:
            log(f"filling {serial}")
            _fill(lab, serial, pattern)
            whole = _image(lab, serial).stat().st_size // BLOCK
            need(_blocks(lab, serial, pattern) == whole, f"{serial}: its image does not have what was written to it")

        for serial, method in METHODS.items():
            log(f"{serial}: {method}")
            _erase(lab, serial, method)
            need(not (left := _blocks(lab, serial, pattern)), f"{serial}: {left} blocks are left after {method}")
            need(not (left := _not_zero(lab, serial)), f"{serial}: {left} blocks of its image have content")
            _is_proved(lab, serial, method, signers)

        log(f"{KEEPS} ignores discards")
        lab.rackwright("twin", "fault", lab.stack, "drive-ignore-discard", HOST, KEEPS, status=0)
        output = _command(lab, KEEPS, "discard", *_consent(lab, KEEPS, "discard"), status=4).stderr
        whole = _image(lab, KEEPS).stat().st_size // BLOCK
        need(f"{whole} of {whole} blocks of 4096 bytes have content" in output, f"no clear error: {output}")
        need(_blocks(lab, KEEPS, pattern) == whole, f"{KEEPS} has lost what it was to keep")
        need(not [*lab.directory.glob(f"{KEEPS}*")], "there is a certificate of a drive that was not erased")

        log("a changed certificate")
        changed = lab.directory / "RW-WRITE.json"
        changed.write_text(changed.read_text().replace('"RW-WRITE"', '"RW-WROTE"'))
        _prove(lab, changed, signers, status=1)
    erased = ", ".join(f"{method} ({BUSES[serial]})" for serial, method in METHODS.items())
    return f"erased by {erased}: none of {whole} blocks of the pattern in any image; discards ignored: no certificate"


def _operator(directory: Path) -> Path:
    """Make the key that signs, and return who is allowed to."""
    key, signers = directory / "operator", directory / "signers"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signers.write_text(f"operator@example.org {key.with_suffix('.pub').read_text()}")
    return signers


def _fill(lab: Lab, serial: str, pattern: bytes) -> None:
    lab.ssh(HOST, f"cat > /run/fill.py <<'END'\n{FILL}END")
    script = f"{DEVICE}\npython3 /run/fill.py $(device {serial})"
    done = subprocess.run(lab.twin.ssh(HOST, f"sudo -n sh -ec {quote(script)}"), input=pattern, capture_output=True)
    need(done.returncode == 0, f"{serial} was not filled: {done.stderr.decode(errors='replace')}")


def _image(lab: Lab, serial: str) -> Path:
    return lab.twin.layout.disk(HOST, serial)


def _blocks(lab: Lab, serial: str, pattern: bytes) -> int:
    """Return how often the pattern is in a drive's image, wherever in it that begins."""
    return _image(lab, serial).read_bytes().count(pattern[:64])


def _not_zero(lab: Lab, serial: str) -> int:
    """Return how many blocks of a drive's image are not all zero."""
    content, zeros = _image(lab, serial).read_bytes(), bytes(BLOCK)
    return sum(content[place : place + BLOCK] != zeros for place in range(0, len(content), BLOCK))


def _command(lab: Lab, serial: str, method: str, *more: str, status: int) -> subprocess.CompletedProcess[str]:
    signed = ("--sign-with", "operator", "--certificate", f"{serial}.json")
    return lab.rackwright("drive", "erase", lab.stack, HOST, serial, "--method", method, *signed, *more, status=status)


def _consent(lab: Lab, serial: str, method: str) -> tuple[str, str]:
    """Return what gives up what a drive holds, by what the command shows without it."""
    report = json.loads(_command(lab, serial, method, "--json", status=2).stdout)["contents"]
    need(report[serial] != "blank", f"{serial} is full, and looks blank")
    return "--consent", f"{serial}={report[serial]}"


def _erase(lab: Lab, serial: str, method: str) -> None:
    wrong = _command(lab, serial, method, "--consent", f"{serial}=ext4 0000", status=2).stderr
    need("and the consent is for 'ext4 0000'" in wrong, f"another content was given up, and it says: {wrong}")
    _command(lab, serial, method, *_consent(lab, serial, method), status=0)


def _prove(lab: Lab, path: Path, signers: Path, status: int) -> str:
    return lab.rackwright(
        "drive", "certificate", str(path), "--allowed-signers", str(signers), "--json", status=status
    ).stdout


def _is_proved(lab: Lab, serial: str, method: str, signers: Path) -> None:
    report = json.loads(_prove(lab, lab.directory / f"{serial}.json", signers, status=0))
    [drive] = report["certificate"]["drives"]
    found = drive["serial"], drive["method"], drive["verification"]["bytes_read"], report["signer"]
    wanted = serial, method, _image(lab, serial).stat().st_size, "operator@example.org"
    need(found == wanted, f"its certificate says {found}, and not {wanted}")
