"""`rackwright host reidentify`, as typed, against a simulated host that got another mainboard."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import TypedProject
from tests.support import recorded_facts
from tests.support.diagnostics import sentences
from tests.support.simulated import SimulatedRack

RAW: dict[str, Any] = recorded_facts.raw(recorded_facts.TODAY)
RAW["identity"] = {**RAW["identity"], "serial": "NEW-1", "uuid": "4c4c4544-0042-3510-8054-b4c04f4a5331"}
DRIVES = [{"serial": "F1-BOOT", "boot": True}, {"serial": "F1-NVME0"}, {"serial": "GONE"}]
NICS = [{"name": "rack0", "mac": "52:54:00:01:00:01"}, {"name": "board0", "mac": "52:54:00:01:00:99"}]
HOST = {"identity": {"serial": "OLD-1"}, "os": "debian-12", "drives": DRIVES, "nics": NICS}
SHOWN = """\
  declared  serial OLD-1
  found     serial NEW-1, uuid 4c4c4544-0042-3510-8054-b4c04f4a5331
  drives    2 of 3 declared are present, not GONE
  ports     1 of 2 declared are present, not board0
"""


@pytest.fixture
def rack() -> Iterator[SimulatedRack]:
    with SimulatedRack({"alpha": RAW}) as rack:
        yield rack


@pytest.fixture
def typed(rack: SimulatedRack, tmp_path: Path) -> TypedProject:
    return TypedProject(rack, tmp_path, HOST)


def reidentify(typed: TypedProject, *options: str):
    return typed("host", "reidentify", "lab", "alpha", *options)


def test_both_identities_are_shown_and_nothing_is_written_without_a_yes(typed):
    before = typed.fleet.read_text()
    done = reidentify(typed)

    assert done.returncode == 2
    assert done.stdout == f"alpha at {typed.alpha.address}, whose host key is the pinned one\n{SHOWN}"
    assert done.stderr == "nothing was written: confirm with --yes that it is the same host\n"
    assert typed.fleet.read_text() == before


def test_the_new_identity_takes_the_place_of_the_old_one_and_of_nothing_else(typed):
    before = typed.fleet.read_text()
    done = reidentify(typed, "--yes")

    assert done.returncode == 0, done.stderr
    assert typed.fleet.read_text() == before.replace("OLD-1", "NEW-1")
    again = reidentify(typed)
    assert (again.returncode, again.stderr) == (0, "alpha has the declared identity\n")
    assert not typed.alpha.steps


def test_it_is_reported_for_machines(typed):
    report = json.loads(reidentify(typed, "--json").stdout)

    assert (report["declared"], report["changes"]) == ({"serial": "OLD-1"}, {"serial": "NEW-1"})
    assert report["drives"] == {"F1-BOOT": True, "F1-NVME0": True, "GONE": False}
    assert report["ports"] == {"rack0": True, "board0": False}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"drives": [{"serial": "BOOT", "boot": True}, {"serial": "GONE"}]},
            "the machine has none of the drives BOOT, GONE; at least one of them; a host keeps its drives",
        ),
        (
            {"identity": {"bmc_mac": "52:54:00:00:00:77"}},
            "the mainboard reports no bmc_mac; each declared field of the identity; it reports serial NEW-1, uuid 4c4c",
        ),
    ],
)
def test_another_machine_or_one_that_does_not_tell_is_refused(changed, expected, rack, tmp_path):
    typed = TypedProject(rack, tmp_path, {**HOST, **changed})
    before = typed.fleet.read_text()
    done = reidentify(typed, "--yes")

    assert (done.returncode, done.stdout) == (2, "")
    assert f"alpha: {expected}" in sentences(done.stderr)
    assert typed.fleet.read_text() == before


def test_another_host_key_is_refused(typed, rack):
    pins = typed.directory / "stacks/fleet.known_hosts"
    pins.write_text(pins.read_text().replace(rack["alpha"].host_key.split()[1][-12:], "A" * 12))
    done = reidentify(typed, "--yes")

    assert done.returncode != 0
    assert not done.stdout
    assert "OLD-1" in typed.fleet.read_text()
