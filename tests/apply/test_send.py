"""A file of this computer on a host: in parts, whole, and only with the content that was declared."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackwright.apply import runner, session
from rackwright.apply.pool import Hosts
from rackwright.apply.steps import execute
from rackwright.errors import StepFailed
from rackwright.kinds.contract import Send
from tests.simulated import SimulatedRack


@pytest.fixture
def rack() -> Iterator[SimulatedRack]:
    with SimulatedRack({"alpha": {}}) as rack:
        yield rack


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PART_BYTES", 4)


def sent(rack: SimulatedRack, source: Path, target: Path, sha256: str | None = None) -> list[str]:
    """Send *source* to *target* by what the host does with each part, and return what was said."""
    rack["alpha"].on_step = runner.receive
    said: list[str] = []
    hosts = Hosts(rack.endpoints, b"salt")
    digest = hashlib.sha256(source.read_bytes()).hexdigest() if sha256 is None else sha256
    try:
        with hosts.lock("alpha", "alpha/x", said.append):
            execute(hosts, "alpha", "alpha/x", [Send("send it", str(source), str(target), digest)], said.append)
    finally:
        hosts.close()
    return said


@pytest.mark.parametrize("content", [b"", b"abc", b"abcd", b"abcdefghi"], ids=len)
def test_a_file_arrives_as_it_is(rack: SimulatedRack, tmp_path: Path, content: bytes) -> None:
    source, target = tmp_path / "source", tmp_path / "new" / "folder" / "target"
    source.write_bytes(content)

    sent(rack, source, target)

    assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert len(rack["alpha"].steps) == max(1, -(-len(content) // 4))


def test_what_an_interrupted_run_left_is_not_gone_on_with(rack: SimulatedRack, tmp_path: Path) -> None:
    (tmp_path / ".target.rackwright").write_bytes(b"half of another")
    (tmp_path / "source").write_bytes(b"whole")

    sent(rack, tmp_path / "source", tmp_path / "target")

    assert (tmp_path / "target").read_bytes() == b"whole"


def test_another_content_than_was_declared_is_not_put_in_its_place(rack: SimulatedRack, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"changed since")
    (tmp_path / "target").write_bytes(b"as it was")

    with pytest.raises(StepFailed, match="is not what was declared"):
        sent(rack, tmp_path / "source", tmp_path / "target", "0" * 64)
    assert (tmp_path / "target").read_bytes() == b"as it was"


def test_a_file_that_is_gone_is_said(rack: SimulatedRack, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="cannot be read: No such file"):
        sent(rack, tmp_path / "none", tmp_path / "target", "0" * 64)
