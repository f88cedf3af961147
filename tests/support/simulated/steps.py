"""Runs on a simulated host when steps are asked for: the real runner, over the test's facts and the test's steps."""

import base64
import json
import os
import socket
import sys
import zlib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

ROOT, DIRECTORY = Path(sys.argv[1]), Path(sys.argv[2])
for name in ("rackwright", "rackwright.facts", "rackwright.facts.probe", "rackwright.hosts", "rackwright.hosts.onhost"):
    # as on a host, a package has no module of its own: that of the probe imports pydantic and the catalogue
    package = sys.modules[name] = ModuleType(name)
    package.__path__ = [str(ROOT.joinpath(*name.split(".")))]

from rackwright.hosts.onhost import on_drives, runner  # noqa: E402
from rackwright.hosts.onhost.messages import Stop  # noqa: E402


def main() -> None:
    job = json.loads(sys.stdin.buffer.readline())
    vars(runner).update(
        has_systemd=lambda: False,
        perform=perform,
    )
    vars(on_drives).update(block=SimpleNamespace(drive=drive))
    runner.main({**job, "lock": str(DIRECTORY / "lock")})


def drive(machine: None, serial: str) -> dict[str, Any]:
    facts = json.loads(zlib.decompress(base64.b64decode((DIRECTORY / "facts").read_bytes())))
    for found in facts["drives"]:
        if found["serial"] == serial:
            return dict(found)
    raise Stop(f"no drive {serial} here; nothing was written")


def perform(step: dict[str, Any], unit: str, job: dict[str, Any]) -> None:
    for serial, expected in (step.get("expects") or {}).items():
        try:
            on_drives.check_content(serial, expected, None, serial)
        except on_drives.DriveStepRefused as reason:
            raise Stop(f"{reason}; nothing was written") from None
    with (DIRECTORY / "steps").open("a") as log:
        log.write(json.dumps(step) + "\n")
    with socket.socket(socket.AF_UNIX) as test, test.makefile("rw") as lines:
        test.connect(str(DIRECTORY.parent / "steps.sock"))
        lines.write(json.dumps({"directory": str(DIRECTORY), "step": {**step, "pid": os.getpid()}}) + "\n")
        lines.flush()
        reason = json.loads(lines.readline())
    if reason is not None:
        raise Stop(reason)


main()
