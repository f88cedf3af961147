"""Snapshots: facts in files, and the newest of a time."""

import json
import os
from datetime import UTC, datetime, timedelta, timezone

import pytest

from rackwright.facts import snapshot
from rackwright.facts.facts import Facts
from rackwright.facts.snapshot import SnapshotError
from tests.support import recorded_facts

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def hour(number: int) -> datetime:
    return NOON + timedelta(hours=number)


def test_what_was_saved_is_loaded(tmp_path):
    facts = recorded_facts.facts("two-tiers")
    path = snapshot.save(tmp_path, "gpu-01", facts, NOON)

    assert path == tmp_path / "gpu-01" / "20261125T120000.000000Z.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert snapshot.load(tmp_path, NOON)["gpu-01"].raw == facts.raw


def test_the_newest_not_after_a_time_is_taken(tmp_path):
    for host, number in (("gpu-01", 0), ("gpu-01", 2), ("gpu-01", 4), ("gpu-02", 3)):
        snapshot.save(tmp_path, host, Facts({"format": 1, "taken_at": number}), hour(number))

    def taken(as_of: datetime) -> dict[str, float]:
        return {host: facts.taken_at for host, facts in snapshot.load(tmp_path, as_of).items()}

    assert taken(hour(3)) == {"gpu-01": 2, "gpu-02": 3}
    assert taken(hour(2)) == {"gpu-01": 2}
    assert taken(hour(-1)) == {}
    assert taken(hour(9)) == {"gpu-01": 4, "gpu-02": 3}
    assert taken(hour(2).astimezone(timezone(timedelta(hours=9)))) == {"gpu-01": 2}


def test_now_is_the_time_of_a_snapshot_without_one(tmp_path):
    before = datetime.now(UTC)
    snapshot.save(tmp_path, "gpu-01", Facts({"format": 1}))

    assert snapshot.load(tmp_path, before - timedelta(seconds=1)) == {}
    assert "gpu-01" in snapshot.load(tmp_path, datetime.now(UTC))


def test_a_save_that_is_cut_off_leaves_nothing(tmp_path, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(SnapshotError, match="No space left"):
        snapshot.save(tmp_path, "gpu-01", Facts({"format": 1}), NOON)
    assert list((tmp_path / "gpu-01").iterdir()) == []


def test_an_unwritable_place_is_reported(tmp_path):
    (tmp_path / "gpu-01").write_text("a file")

    with pytest.raises(SnapshotError, match="the snapshot cannot be written: "):
        snapshot.save(tmp_path, "gpu-01", Facts({"format": 1}), NOON)


def test_a_missing_directory_is_no_empty_one(tmp_path):
    with pytest.raises(SnapshotError, match="a directory that `rackwright audit --save` wrote"):
        snapshot.load(tmp_path / "none", NOON)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the facts of one host"),
        (b'{"format": 1', "the facts of one host"),
        (b"[]", "the facts of one host"),
        (b"\xff\xfe", "the facts of one host"),
        (json.dumps({"format": 99}).encode(), "the snapshot has format 99; format 1"),
        (b"{}", "the snapshot has format None"),
    ],
)
def test_a_snapshot_that_cannot_be_read_stops_the_load(tmp_path, content, words):
    snapshot.save(tmp_path, "gpu-01", Facts({"format": 1}), NOON)
    bad = tmp_path / "gpu-01" / "20261125T130000.000000Z.json"
    bad.write_bytes(content)

    with pytest.raises(SnapshotError, match=words) as raised:
        snapshot.load(tmp_path, hour(1))
    assert str(bad) in str(raised.value)
    assert raised.value.exit_status == 2
    assert "gpu-01" in snapshot.load(tmp_path, NOON)
