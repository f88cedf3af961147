"""`rackwright drive replace`, as typed: one serial number of the fleet's file changes, or nothing does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import TypedProject
from tests.support import recorded_facts
from tests.support.diagnostics import sentences
from tests.support.simulated import SimulatedRack

DRIVES = [{"serial": "F1-BOOT", "boot": True}, {"serial": "OLD"}]


@pytest.fixture
def rack() -> Iterator[SimulatedRack]:
    with SimulatedRack({"alpha": recorded_facts.raw(recorded_facts.TODAY)}) as rack:
        yield rack


@pytest.fixture
def typed(rack: SimulatedRack, tmp_path: Path) -> TypedProject:
    return TypedProject(rack, tmp_path, {"identity": {"serial": "S-1"}, "os": "debian-12", "drives": DRIVES})


def test_the_serial_takes_the_place_of_the_old_one_and_no_host_is_asked(typed):
    before = typed.fleet.read_text()
    done = typed("drive", "replace", "lab", "alpha", "OLD", "NEW")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("fleet.yaml: alpha has NEW in the place of OLD; to see the effect, run `rackwright")
    assert typed.fleet.read_text() == before.replace("OLD", "NEW")
    assert not typed.alpha.steps


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("lab", "alhpa", "OLD", "NEW"), "stack lab: the stack has no host alhpa; one of alpha. Write alpha."),
        (("lab", "alpha", "ODL", "NEW"), "host alpha declares no drive ODL; one of F1-BOOT, OLD. Write OLD."),
        (("lab", "alpha", "OLD", "sda"), "got 'sda'; a drive is named by its serial number"),
    ],
)
def test_what_is_refused_leaves_the_file_as_it_was(arguments, expected, typed):
    before = typed.fleet.read_text()
    done = typed("drive", "replace", *arguments)

    assert done.returncode == 2
    assert expected in sentences(done.stderr)
    assert typed.fleet.read_text() == before
    files = {path.name for path in typed.fleet.parent.iterdir()}
    assert files == {"Pulumi.lab.yaml", "fleet.known_hosts", "fleet.yaml"}
