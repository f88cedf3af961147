"""Generated fleets: declared without errors, written and read back, whatever the seed."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from rackwright.core.repository import Repository
from rackwright.fleet import load_fleet
from rackwright.schema import Fleet
from rackwright.schema.fleet import problems
from rackwright.schema.twin import twin_of
from rackwright.stack import Stack, declare
from rackwright.twin.fleet import build_twin
from rackwright.twin.vm.machine import check
from tests.support.fleets import MEMBERS_MAX, generate, write_yaml

seeds = st.integers(min_value=0, max_value=2**32 - 1)


def stack_of(fleet: Fleet) -> Stack:
    return Stack("generated", Path(), fleet, {}, Repository({}), b"salt")


@given(seeds)
def test_a_generated_fleet_declares_and_its_specs_survive_the_wire(seed: int) -> None:
    fleet = generate(seed)
    assert list(problems(fleet.hosts)) == []
    declared = declare(stack_of(fleet))
    assert len(declared) == sum(1 + len(host.tiers) for host in fleet.hosts.values())
    for resource in declared:
        text = resource.spec.model_dump_json(exclude_none=True)
        assert type(resource.spec).model_validate_json(text) == resource.spec


@given(seeds)
def test_a_generated_fleet_is_the_same_after_writing_and_reading(seed: int) -> None:
    fleet = generate(seed)
    with TemporaryDirectory() as directory:
        path = Path(directory, "generated.yaml")
        write_yaml(fleet, path)
        assert load_fleet(path, {}) == fleet


@given(seeds)
def test_a_generated_fleet_can_be_a_twin(seed: int) -> None:
    fleet, _ = twin_of(generate(seed))
    assert 1 <= len(fleet.hosts) <= 2
    for host in fleet.hosts.values():
        assert 2 <= len(host.tiers) <= 3
        assert all(len(host.members(tier)) <= MEMBERS_MAX for tier in host.tiers)
    for machine in build_twin("generated", Path(), fleet).machines.values():
        check(machine)


@given(seeds)
def test_the_seed_decides(seed: int) -> None:
    assert generate(seed) == generate(seed)
    assert generate(seed) != generate(seed + 1)
