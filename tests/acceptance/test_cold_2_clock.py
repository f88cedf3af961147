"""Line 2, a wrong clock: the message of each command names the clock and its difference, and nothing is lost."""

import json
import os

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import format_claims
from tests.support.log import Log
from tests.support.store_lab import GATEWAY, STACK, StoreLab, machine, store_lab

BUCKET, BYTES = "models", 4 << 20
AHEAD_SECONDS = 20 * 60
NAMED = "the server's clock is "
AHEAD = (f"{NAMED}19 min", f"{NAMED}20 min")
"""The start of the message, for a clock that was set seconds ago."""


@line("cold", 2, part="clock")
def test_a_wrong_clock_of_the_store_is_named(log: Log) -> str:
    """The clock of the store's machine is set 20 minutes ahead: each command names it; afterwards all goes on."""
    with store_lab(log, declare=machine, containers=()) as lab:
        _make(lab, "before")
        _need_success(lab, "move", STACK, str(lab.directory / "before"), BUCKET, "--yes")
        log("setting the clock of the store ahead")
        lab.rackwright("twin", "fault", STACK, "clock", GATEWAY, str(AHEAD_SECONDS), status=0)
        reasons = {each["name"]: each["not_reached"] or "" for each in lab.audit()["resources"]}
        _need_named("audit", reasons[f"archive/{BUCKET}"])
        preview = lab.rackwright("preview", STACK)
        need(preview.returncode != 0, "the preview ends with 0")
        _need_named("preview", preview.stdout + preview.stderr)
        during = _make(lab, "during")
        for name, arguments in {
            "move": (str(lab.directory / "during"), BUCKET, "--yes"),
            "verify": (BUCKET,),
            "restore": (BUCKET, "before", "--to", str(lab.directory / "back")),
        }.items():
            done = lab.rackwright("tier", name, STACK, *arguments)
            need(done.returncode == 3, f"tier {name} ends with {done.returncode}")
            _need_named(f"tier {name}", done.stdout + done.stderr)
        need(during == (lab.directory / "during/weights.bin").read_bytes(), "a refused move changed the directory")
        log("setting the right time")
        lab.rackwright("twin", "fault", STACK, "clock", GATEWAY, "0", status=0)
        _need_success(lab, "move", STACK, str(lab.directory / "during"), BUCKET, "--yes")
        _need_success(lab, "verify", STACK, BUCKET)
        need(not (left := lab.differing()), f"in the end differ {format_claims(left)}")
    return (
        f"{GATEWAY} was {AHEAD_SECONDS // 60} min ahead: audit, preview and 3 commands named it, and nothing was lost"
    )


def _make(lab: StoreLab, name: str) -> bytes:
    """Make the directory *name*, and return the content of its large file."""
    directory, content = lab.directory / name, os.urandom(BYTES)
    directory.mkdir()
    (directory / "weights.bin").write_bytes(content)
    (directory / "config.json").write_text(json.dumps({"name": name}))
    return content


def _need_success(lab: StoreLab, *arguments: str) -> None:
    lab.rackwright("tier", *arguments, status=0)


def _need_named(what: str, text: str) -> None:
    flat = " ".join(text.split())
    need(any(start in flat for start in AHEAD), f"{what} does not name the clock: {flat[-500:]}")
