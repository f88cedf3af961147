"""Resets of a virtual machine with a store during moves: its kernel loses its memory, and the store nothing."""

import os
import random
import subprocess
import time

from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.store_lab import GATEWAY, STACK, StoreLab, machine, store_lab
from tests.support.tiers import SEED

BUCKET, FILES, BYTES = "models", 6, 3 << 20
CUTS = 3
SECONDS = 900


@line("hardening2", "truth3", part="moves-machine")
def test_resets_of_the_stores_machine_during_moves_lose_nothing(log: Log) -> str:
    """A whole move, and a reset at once; then resets in the middle of moves, each of which is completed afterwards."""
    contents: dict[str, dict[str, bytes]] = {}
    with store_lab(log, declare=machine, containers=()) as lab:
        _fill(lab, "whole", contents)
        began = time.monotonic()
        lab.rackwright("tier", "move", STACK, str(lab.directory / "whole"), BUCKET, "--yes", status=0)
        seconds = time.monotonic() - began
        faults.hard_reset(lab.twin, GATEWAY, log.write)
        _verify(lab, contents)
        draw = random.Random(SEED)
        for number in range(CUTS):
            name, moment = f"cut-{number}", draw.uniform(0.3, 0.95) * seconds
            _fill(lab, name, contents)
            argv = [
                str(ROOT / ".venv/bin/rackwright"),
                "tier",
                "move",
                STACK,
                str(lab.directory / name),
                BUCKET,
                "--yes",
            ]
            with subprocess.Popen(argv, cwd=lab.directory, env=lab.environment, stdout=subprocess.DEVNULL) as moving:
                time.sleep(moment)
                faults.hard_reset(lab.twin, GATEWAY, log.write)
                status = moving.wait(SECONDS)
            left = sorted(p.name for p in (lab.directory / name).rglob("*") if p.is_file())
            log(f"reset {moment:.1f} s after the start of a move, which ended with {status}; {len(left)} files left")
            if left:
                need(len(left) == FILES, f"{len(left)} of {FILES} files left after status {status}")
                lab.rackwright("tier", "move", STACK, str(lab.directory / name), BUCKET, "--yes", status=0)
            _verify(lab, contents)
        need(not lab.differing(), "something differs in the end")
    return f"{CUTS + 1} resets, one at once after a move: {len(contents)} archives with {FILES} files each are whole"


def _fill(lab: StoreLab, name: str, contents: dict[str, dict[str, bytes]]) -> None:
    contents[name] = {f"{number}.bin": os.urandom(BYTES) for number in range(FILES)}
    (lab.directory / name).mkdir()
    for path, content in contents[name].items():
        (lab.directory / name / path).write_bytes(content)


def _verify(lab: StoreLab, contents: dict[str, dict[str, bytes]]) -> None:
    """Restore every archive, and compare it with what was moved."""
    lab.rackwright("tier", "verify", STACK, BUCKET, status=0)
    for name, files in contents.items():
        to = lab.directory / f"back-{name}-{time.monotonic_ns()}"
        lab.rackwright("tier", "restore", STACK, BUCKET, name, "--to", str(to), status=0)
        for path, content in files.items():
            need((to / path).read_bytes() == content, f"{name}/{path} came back otherwise")
