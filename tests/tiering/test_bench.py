"""The speed of tiers and buckets: what is measured, and that nothing stays."""

from pathlib import Path

import pytest

from rackwright.errors import StepFailed
from rackwright.tiering import bench
from rackwright.tiering.remote import HostDirectory
from tests.support.host_program import LocalHost

SIZE = 3 << 20


def on(path: Path) -> HostDirectory:
    return HostDirectory("gpu-01", str(path), LocalHost)  # type: ignore[arg-type]


def test_a_tier_and_a_bucket_are_measured_and_nothing_stays(bucket, tmp_path):
    (tmp_path / "mine").write_bytes(b"mine")

    tier, store = bench.measure(on(tmp_path), [bucket], SIZE, lambda text: None)

    assert (tier.place, store.place) == (f"gpu-01:{tmp_path}", f"s3://{bucket.name} from gpu-01")
    assert all(each.bytes == SIZE and each.write_seconds > 0 and each.read_seconds > 0 for each in (tier, store))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert "Versions" not in bucket.client.list_object_versions(Bucket=bucket.name)


def test_a_failure_of_the_store_leaves_nothing_on_the_tier(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket.client, "generate_presigned_url", lambda *_, **__: "http://127.0.0.1:9/nothing")

    with pytest.raises(StepFailed):
        list(bench.measure(on(tmp_path), [bucket], SIZE, lambda text: None))

    assert list(tmp_path.iterdir()) == []


def test_a_tier_without_room_is_refused_and_gets_nothing(tmp_path):
    with pytest.raises(StepFailed, match="has no room for twice"):
        list(bench.measure(on(tmp_path), [], 1 << 62, lambda text: None))

    assert list(tmp_path.iterdir()) == []


def test_the_text_has_rates():
    assert bench.Speed("gpu-01:/srv/hot", 10**9, 2.0, 0.5).text == (
        "gpu-01:/srv/hot: 500MB per second written, 2GB per second read"
    )
