"""Snapshots: loaded as facts, or `SnapshotError`; what is loaded answers as facts of a host do."""

import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import strategies as st

from rackwright.facts import snapshot
from rackwright.facts.facts import Facts
from rackwright.facts.snapshot import SnapshotError
from rackwright.facts.view import UnknownFact
from tests.support import recorded_facts
from tests.support.fuzz.bounds import cases
from tests.support.fuzz.mutate import Mutations, mutated_bytes, mutated_data, of_bytes, of_data

DATA = [recorded_facts.raw(situation) for situation in recorded_facts.SITUATIONS]
TEXTS = [json.dumps(data, indent=1).encode() for data in DATA]
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Target:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = snapshot.save(directory, "gpu-01", Facts({"format": 1}), NOON)

    def check(self, case: tuple[int, bool, Mutations]) -> None:
        which, as_data, mutations = case
        if as_data:
            changed = mutated_data(DATA[which], mutations)
            self.path.write_text(json.dumps(changed))
        else:
            self.path.write_bytes(mutated_bytes(TEXTS[which], mutations))
        try:
            facts = snapshot.load(self.directory, NOON)["gpu-01"]
        except SnapshotError as refused:
            assert str(self.path) in str(refused)
            return
        try:
            for each in (*facts.drives, *facts.arrays, *facts.filesystems, *facts.mounts):
                assert each is not None
            for drive in facts.drives:
                assert isinstance(drive.content, str) and isinstance(drive.serial, str)
            for array in facts.arrays:
                assert isinstance(array.condition, str)
        except UnknownFact as reason:
            assert str(reason)


def run(count: int, number: int) -> None:
    which = st.integers(0, len(TEXTS) - 1)
    strategy = st.one_of(
        st.tuples(which, st.just(True), of_data),
        st.tuples(which, st.just(False), of_bytes),
    )
    with TemporaryDirectory() as directory:
        cases(count, number, strategy, Target(Path(directory)).check)
