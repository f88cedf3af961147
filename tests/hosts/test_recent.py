"""Facts of a preview that the update after it uses again, and the watch of a probe."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rackwright.errors import HostUnreachable
from rackwright.facts.facts import FORMAT
from rackwright.hosts import recent
from rackwright.hosts.pool import CONNECT, READ, Hosts
from rackwright.hosts.recent import RecentFacts
from tests.hosts.conftest import RAW
from tests.support.simulated import SimulatedRack

HOST = "gpu-01"
NOW = {**RAW, "format": FORMAT}


@pytest.fixture
def folder(rack: SimulatedRack, tmp_path: Path) -> Iterator[RecentFacts]:
    """The directory of a preview that has read HOST, which is off since then."""
    folder = RecentFacts(tmp_path / "facts")
    rack[HOST].set_facts({**NOW, "taken_at": 7.0})
    before = Hosts(rack.endpoints, b"salt", recent=folder)
    before.facts(HOST)
    before.close()
    rack.switch_off(HOST)
    yield folder


@pytest.fixture
def after(rack: SimulatedRack, folder: RecentFacts) -> Iterator[Hosts]:
    """The hosts of the process that follows."""
    hosts = Hosts(rack.endpoints, b"salt", recent=folder)
    yield hosts
    hosts.close()


def test_facts_of_the_preview_are_used_again(after: Hosts) -> None:
    assert after.facts(HOST).taken_at == 7.0


def test_steps_follow_from_fresh_facts_alone(after: Hosts) -> None:
    with pytest.raises(HostUnreachable):
        after.facts(HOST, fresh=True)
    after.try_again()
    after.forget_facts(HOST)
    with pytest.raises(HostUnreachable):
        after.facts(HOST)


@pytest.mark.parametrize("age", [timedelta(seconds=61), timedelta(hours=3), timedelta(seconds=-30)])
def test_facts_of_another_time_are_not_used(after: Hosts, folder: RecentFacts, age: timedelta) -> None:
    [path] = (folder.directory / HOST).iterdir()
    path.rename(path.with_name(f"{(datetime.now(UTC) - age).strftime('%Y%m%dT%H%M%S.%fZ')}.json"))
    with pytest.raises(HostUnreachable):
        after.facts(HOST)


def test_a_damaged_file_is_no_fact(after: Hosts, folder: RecentFacts) -> None:
    [path] = (folder.directory / HOST).iterdir()
    path.write_text("{")
    with pytest.raises(HostUnreachable):
        after.facts(HOST)


def test_a_disk_without_space_keeps_no_facts(rack: SimulatedRack, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rack[HOST].set_facts(NOW)
    hosts = Hosts(rack.endpoints, b"salt", recent=RecentFacts(tmp_path / "file"))
    assert hosts.facts(HOST).taken_at == 1.0
    hosts.close()


def test_a_probe_names_its_steps_and_its_end(rack: SimulatedRack) -> None:
    seen: list[tuple[str, str]] = []
    hosts = Hosts(rack.endpoints, b"salt", watch=lambda host, text: seen.append((host, text)))
    hosts.facts(HOST)
    hosts.facts(HOST)
    rack.switch_off("gpu-02")
    with pytest.raises(HostUnreachable):
        hosts.facts("gpu-02")
    hosts.close()
    assert seen == [(HOST, CONNECT), (HOST, READ), (HOST, ""), ("gpu-02", CONNECT), ("gpu-02", "")]


def test_the_age_is_a_minute() -> None:
    assert timedelta(minutes=1) == recent.AGE
