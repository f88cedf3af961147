"""The retention of single objects, on a real SeaweedFS: what an account with the right to bypass it can change."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rackwright.schema.object_store import Retention
from rackwright.tiering import archive, retention
from rackwright.tiering.bucket import Bucket
from rackwright.tiering.directory import LocalDirectory

DAYS = 30
DECLARED = Retention(mode="governance", days=DAYS)
KEY = "model-1/files/weights.bin"


@pytest.fixture
def retained(server, request, tmp_path) -> Bucket:
    """A bucket with a default retention, and one archive."""
    client, name = server.client(), f"r-{abs(hash(request.node.name))}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": DAYS}}
    client.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    bucket, directory = Bucket(name, client), tmp_path / "model"
    directory.mkdir()
    (directory / "weights.bin").write_bytes(b"a" * 1000)
    (directory / "large.bin").write_bytes(b"b" * (9 << 20))  # in parts
    archive.move(bucket, archive.plan(bucket, "model-1", LocalDirectory(directory)), LocalDirectory(directory), True,
                 None, lambda text: None)  # fmt: skip
    return bucket


def problems(bucket: Bucket, declared: Retention = DECLARED) -> list[str]:
    found = retention.find_shorter(bucket, archive.load_manifest(bucket, "model-1"), declared)
    return [f"{each.where.partition('/model-1/')[2]}: {each.problem}" for each in found]


def retain(bucket: Bucket, key: str = KEY, **changes: Any) -> None:
    changed = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=DAYS), **changes}
    bucket.client.put_object_retention(Bucket=bucket.name, Key=key, Retention=changed, BypassGovernanceRetention=True)


def test_objects_with_the_declared_retention_are_in_order(retained: Bucket) -> None:
    assert problems(retained) == []
    retain(retained, RetainUntilDate=datetime.now(UTC) + timedelta(days=DAYS + 1))
    assert problems(retained) == [], "it may be longer"


def test_a_retention_that_was_cut_is_found(retained: Bucket) -> None:
    """
    An account with the right to bypass retention made it seconds, and no command noticed.
    """
    end = datetime.now(UTC) + timedelta(days=2)
    for key in (KEY, "model-1/manifest.json", "model-1/files/large.bin"):
        retain(retained, key, RetainUntilDate=end)
    text = f"the object is retained until {end:%Y-%m-%d %H:%M UTC} only"
    assert problems(retained) == [f"manifest.json: {text}", f"files/large.bin: {text}", f"files/weights.bin: {text}"]


def test_a_retention_that_is_over_by_bypass_is_found(retained: Bucket) -> None:
    retain(retained, RetainUntilDate=datetime.now(UTC) + timedelta(seconds=2))
    [problem] = problems(retained)
    assert problem.startswith("files/weights.bin: the object is retained until ")


def test_a_weaker_mode_and_an_object_without_retention_are_found(server, bucket, retained: Bucket) -> None:
    weaker = "the object is retained in mode governance, which an account may shorten"
    assert problems(retained, Retention(mode="compliance", days=DAYS)) == [
        f"{each}: {weaker}" for each in ("manifest.json", "files/large.bin", "files/weights.bin")
    ]
    bucket.client.put_object(Bucket=bucket.name, Key="model-1/files/weights.bin", Body=b"")
    manifest = archive.load_manifest(retained, "model-1")
    [found] = retention.find_shorter(bucket, manifest, DECLARED)
    assert found.problem == "the object has no retention" and "30 days from its upload" in str(found.expected)


def test_after_the_declared_time_nothing_is_required(retained: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    retain(retained, RetainUntilDate=datetime.now(UTC) + timedelta(seconds=2))

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(days=DAYS + 1)

    monkeypatch.setattr(retention, "datetime", Later)
    assert problems(retained) == []
