"""A file of this computer on a host: in parts, whole, and only with the content that was declared."""

import grp
import hashlib
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.core.contract import Send
from rackwright.errors import StepFailed
from rackwright.hosts import session
from rackwright.hosts.onhost import put_files
from rackwright.hosts.pool import Hosts
from rackwright.hosts.steps import execute
from tests.support.simulated import SimulatedRack

USER = pwd.getpwuid(os.geteuid()).pw_name
GROUP = "nogroup" if os.geteuid() == 0 else grp.getgrgid(os.getegid()).gr_name


@pytest.fixture
def rack() -> Iterator[SimulatedRack]:
    with SimulatedRack({"alpha": {}}) as rack:
        yield rack


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PART_BYTES", 4)


def sent(
    rack: SimulatedRack,
    source: Path,
    target: Path,
    sha256: str | None = None,
    receive: Callable[[dict[str, Any]], None] = put_files.receive,
    **changes: Any,
) -> list[str]:
    """Send *source* to *target* by what the host does with each part, and return the messages.

    Args:
        changes: Further fields of the step.
    """
    rack["alpha"].on_step = receive
    messages: list[str] = []
    hosts = Hosts(rack.endpoints, b"salt")
    digest = hashlib.sha256(source.read_bytes()).hexdigest() if sha256 is None else sha256
    try:
        with hosts.lease("alpha", "alpha/x", messages.append):
            execute(
                hosts,
                "alpha",
                "alpha/x",
                [Send("send it", str(source), str(target), digest, **changes)],
                messages.append,
            )
    finally:
        hosts.close()
    return messages


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


def test_a_file_that_is_gone_is_reported(rack: SimulatedRack, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="cannot be read: No such file"):
        sent(rack, tmp_path / "none", tmp_path / "target", "0" * 64)


@pytest.mark.parametrize("given", [{}, {"mode": 0o640, "owner": f"{USER}:{GROUP}"}], ids=["by default", "as declared"])
def test_a_file_has_its_owner_and_mode_before_it_has_content(
    rack: SimulatedRack, tmp_path: Path, given: dict[str, Any]
) -> None:
    """
    The first part is written where another account could open the file already.
    """
    seen: list[tuple[int, int, int]] = []
    create = put_files.create

    def received(step: dict[str, Any]) -> None:
        def created(path: Path, step: dict[str, Any]) -> int:
            descriptor = create(path, step)
            status = os.fstat(descriptor)
            seen.append((stat.S_IMODE(status.st_mode), status.st_gid, status.st_size))
            return descriptor

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(put_files, "create", created)
            put_files.receive(step)

    (tmp_path / "source").write_bytes(b"rows of customers")
    given = given or ({} if os.geteuid() == 0 else {"owner": f"{USER}:{GROUP}"})
    sent(rack, tmp_path / "source", tmp_path / "target", receive=received, **given)
    target = (tmp_path / "target").stat()
    mode = given.get("mode", 0o600)

    assert seen == [(mode, target.st_gid, 0)]
    assert stat.S_IMODE(target.st_mode) == mode
    assert target.st_gid == grp.getgrnam(given.get("owner", "root:root").partition(":")[2]).gr_gid


def test_an_owner_that_the_host_does_not_know_stops_it(rack: SimulatedRack, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"rows")

    with pytest.raises(StepFailed, match="owner root:server-nowhere"):
        sent(rack, tmp_path / "source", tmp_path / "target", owner="root:server-nowhere")
    assert not (tmp_path / "target").exists()
