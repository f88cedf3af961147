"""Line 2, a lost host: a store with two copies gives every object back while one of its hosts is off."""

import json
import os
from pathlib import Path

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import format_claims
from tests.support.log import Log
from tests.support.store_lab import DISKS, ROLES, STACK, StoreLab, store_lab

BUCKET, LARGE_BYTES = "models", 20 << 20


@line("cold", 2, part="host")
def test_a_lost_host_of_the_store_loses_no_object(log: Log) -> str:
    """One of two hosts is off: reads go on, the audit names the host, a move loses nothing; afterwards all is whole."""
    with store_lab(log) as lab:
        _archive(lab, "before", lab.directory / "before")
        log(f"cutting the power of {DISKS}")
        lab.rackwright("twin", "fault", STACK, "power-off", DISKS, status=0)
        lab.rackwright("tier", "verify", STACK, BUCKET, "before", status=0)
        unreachable = _unreachable(lab)
        need(ROLES[DISKS] in unreachable, f"the audit does not reach {sorted(unreachable)}")
        need({name.split("/")[0] for name in unreachable} == {DISKS}, f"not reached: {sorted(unreachable)}")
        preview = lab.rackwright("preview", STACK)
        named = preview.returncode and DISKS in preview.stdout + preview.stderr
        need(named, f"the preview ends with {preview.returncode}, and does not name the host")
        during = lab.directory / "during"
        outcome = _archive(lab, "during", during, status=None)
        need(outcome == 0 or during.joinpath("weights.bin").exists(), "a stopped move lost the directory")
        log(f"switching {DISKS} on again")
        lab.rackwright("twin", "fault", STACK, "power-on", DISKS, status=0)
        eventually(lambda: _is_whole(lab), "the parts of the store run again", 300)
        if outcome:  # the same command continues
            eventually(lambda: _move(lab, during) == 0, "the move ends", 300)
        lab.rackwright("tier", "verify", STACK, BUCKET, status=0)
        need(not (left := lab.differing()), f"in the end differ {format_claims(left)}")
    stopped = "a move ended meanwhile" if outcome == 0 else f"a move stopped with status {outcome} and continued"
    return f"{DISKS} was off: every object was read, {stopped}, and two archives are whole"


def _unreachable(lab: StoreLab) -> set[str]:
    """Return the names of the resources that the audit does not reach."""
    return {each["name"] for each in lab.audit()["resources"] if each["not_reached"]}


def _is_whole(lab: StoreLab) -> bool:
    return not _unreachable(lab) and not lab.audit_differences()


def _archive(lab: StoreLab, name: str, directory: Path, status: int | None = 0) -> int:
    """Make *directory*, move it into the bucket, and return the exit status of the move."""
    directory.mkdir(parents=True)
    (directory / "weights.bin").write_bytes(os.urandom(LARGE_BYTES))
    (directory / "config.json").write_text(json.dumps({"name": name}))
    return _move(lab, directory, status)


def _move(lab: StoreLab, directory: Path, status: int | None = None) -> int:
    return lab.rackwright("tier", "move", STACK, str(directory), BUCKET, "--yes", status=status).returncode
