"""Power cuts of all machines of a store at each step of a move: nothing that was acknowledged is lost."""

import os
from pathlib import Path

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.store_cuts import losses, machines, move_with_cuts
from tests.support.store_parts import make_synchronous

CONTENT = {"config.json": b"{}", "shards/1.bin": b"a" * 300_000, "shards/2.bin": os.urandom(34 << 20), "empty": b""}
STEPS_MIN = 8
MACHINES = 2


def _source(directory: Path) -> Path:
    for path, content in CONTENT.items():
        place = directory / "model" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return directory / "model"


def _synchronous(directory: Path) -> None:
    done = make_synchronous(directory)
    need(done.returncode == 0, done.stderr)


def _as_before(directory: Path) -> None:
    """Leave the writes of the store to the kernel, as versions before did."""


@line("hardening2", "truth3", part="moves")
def test_a_power_cut_at_each_step_of_a_move_loses_nothing(log: Log) -> str:
    return _cut_at_each_step(log, "ext4")


@line("hardening2", "truth3", part="moves-xfs")
def test_a_power_cut_at_each_step_of_a_move_to_a_store_on_xfs_loses_nothing(log: Log) -> str:
    return _cut_at_each_step(log, "xfs")


def _cut_at_each_step(log: Log, filesystem: str) -> str:
    """Start the drives of both machines again, as each cut leaves them: they have what was acknowledged by then."""
    directory = log.empty_directory()
    with machines(directory, filesystem, MACHINES, _synchronous) as store:
        cuts = move_with_cuts(store, _source(directory))
        need(len(cuts) >= STEPS_MIN, f"the move has {len(cuts)} steps only")
        for cut in cuts:
            lost = losses(store, cut, CONTENT)
            log(f"{cut.step}: {len(cut.acknowledged)} acknowledged, lost {lost or 'none'}")
            need(not lost, f"a cut after {cut.step} lost {', '.join(lost)}")
            for drive in cut.drives:
                drive.unlink()
    return f"{len(cuts)} cuts of {MACHINES} machines on {filesystem}: nothing lost"


@line("hardening2", "truth3", part="moves-control")
def test_without_synchronous_writes_a_power_cut_loses_the_only_copy(log: Log) -> str:
    """The same cuts on drives as versions before had them: the test above can fail."""
    directory = log.empty_directory()
    with machines(directory, "ext4", MACHINES, _as_before) as store:
        last = move_with_cuts(store, _source(directory))[-1]
        lost = losses(store, last, CONTENT)
    need(len(lost) > len(CONTENT), f"the cut after {last.step} lost {lost or 'nothing'}")
    return f"{len(lost)} objects and files lost after the source was deleted"
