"""A model server over gRPC and SSH, on a simulated host: made, exchanged, gone back by itself, and gone."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rackwright.hosts.pool import Hosts
from rackwright.hosts.rollout import RolloutGate
from rackwright.hosts.steps import execute
from rackwright.kinds.model_server import ModelServerKind
from rackwright.kinds.model_server.files import release_of
from rackwright.kinds.table import KINDS
from rackwright.provider.site import Site
from rackwright.schema.rollout import Rollout
from tests.support.model_server_spec import OTHER, REPOSITORY, SPEC, WATCHED, bare, served
from tests.support.operations_log import in_memory
from tests.support.provider_rig import Rig, failing, rig
from tests.support.recorded_hosts import STACK
from tests.support.simulated import SimulatedHost, SimulatedRack
from tests.support.specs import changed

ON_TIER = SPEC.model_copy(update={"source": None, "files": {}, "mount": "/srv/warm"})
BETTER = ON_TIER.model_copy(update={"version": OTHER})
SERVER = "server:digits"


def inputs(spec=ON_TIER) -> dict[str, Any]:
    report: dict[str, Any] = spec.model_dump(mode="json", exclude_none=True)
    return report


@pytest.fixture
def rack() -> Iterator[SimulatedRack]:
    with SimulatedRack({SPEC.host: bare()}) as rack:
        rack[SPEC.host].set_texts({})
        yield rack


@pytest.fixture
def host(rack: SimulatedRack) -> SimulatedHost:
    return rack[SPEC.host]


@pytest.fixture(name="rig")
def _rig(rack: SimulatedRack) -> Iterator[Rig]:
    opened: list[Hosts] = []

    def open_site(stack: str, secrets: Mapping[str, str]) -> Site:
        opened.append(Hosts(rack.endpoints, STACK.salt))
        return Site(REPOSITORY, opened[-1], execute, RolloutGate(Rollout(), lambda: False), in_memory())

    with rig(KINDS, open_site) as made:
        made.token = ModelServerKind.token
        yield made
    for hosts in opened:
        hosts.close()


def works(host: SimulatedHost, spec=ON_TIER) -> None:
    """Let *host* show *spec* as served once it was asked to serve it."""

    def work(step: dict[str, Any]) -> None:
        if step["text"].startswith("note in the owner file: ready"):
            host.set_facts(served(spec))

    host.on_step = work


def test_the_steps_that_run_are_those_that_were_previewed(rig: Rig, host: SimulatedHost) -> None:
    rig.create(inputs(), preview=True)
    previewed = [line for message in rig.messages("INFO") for line in message.splitlines() if line.startswith("step ")]
    works(host)

    state = rig.create(inputs())

    total = len(host.steps)
    assert previewed == [f"step {number}/{total}: {step['text']}" for number, step in enumerate(host.steps, 1)]
    assert state.outputs["report"]["version"] == ON_TIER.version
    assert rig.diff(rig.read(state), inputs()) == {}


def test_no_secret_is_in_the_state(rig: Rig, host: SimulatedHost) -> None:
    works(host)
    state = rig.create(inputs())

    assert not [secret for secret in REPOSITORY.secrets.values() if secret in repr(state)]


def test_a_server_that_stopped_is_one_difference_and_started_again(rig: Rig, host: SimulatedHost) -> None:
    host.set_facts(served(ON_TIER))
    state = rig.create(inputs())
    raw = served(ON_TIER)
    raw["servers"]["digits"].update(ready=False, why="it does not answer")
    host.set_facts(raw)
    rig.forget()
    drifted = rig.read(state)

    assert rig.diff(drifted, inputs()) == {f'claims["{SERVER}"].outcome': "UPDATE"}
    works(host)
    assert rig.diff(rig.update(drifted, inputs()), inputs()) == {}
    assert [step["text"].split()[0] for step in host.steps] == ["serve", "note"]


def test_a_release_that_the_host_gave_up_fails_the_update_with_its_reason(rig: Rig, host: SimulatedHost) -> None:
    """
    What is found afterwards is the version before, and the next run tries again.
    """
    host.set_facts(served(ON_TIER))
    state = rig.create(inputs())
    why = "the canary has 3.0000% right; release aaaaaaaaaaaa, which ran before, serves again"

    def give_up(step: dict[str, Any]) -> None:
        if step["text"].startswith("serve version"):
            raise RuntimeError(why)

    host.on_step = give_up
    with failing("ABORTED") as failures:
        rig.update(state, inputs(BETTER))

    assert why in failures[0].message
    assert "done: " in failures[0].message
    rig.forget()
    left = rig.diff(rig.read(state), inputs(BETTER))
    assert {f'claims["{SERVER}"].version', f'claims["{SERVER}"].release'} <= {*left}


def test_a_host_that_serves_another_version_than_it_says_is_caught(rig: Rig, host: SimulatedHost) -> None:
    """
    Every step ends well, and nothing has changed.
    """
    host.set_facts(served(ON_TIER))
    state = rig.create(inputs())

    with failing("ABORTED") as failures:
        rig.update(state, inputs(BETTER))

    assert f"{SERVER}.version is {ON_TIER.version}, wanted {OTHER}" in failures[0].message
    assert f"wanted {release_of(BETTER, REPOSITORY)}" in failures[0].message


def test_one_that_is_watched_is_found_as_it_is_declared(rig: Rig, host: SimulatedHost) -> None:
    """
    Numbers of a part of a part come over the wire as what they are.
    """
    spec = changed(ON_TIER, canary=WATCHED.declared.canary, rows=WATCHED.rows)
    host.set_facts(served(spec))
    state = rig.create(inputs(spec))

    assert host.steps == []
    assert rig.diff(rig.read(state), inputs(spec)) == {}
    assert state.outputs["report"]["accuracy"] == {"unknown": "no canary check has run yet"}


def test_it_goes_without_a_trace(rig: Rig, host: SimulatedHost) -> None:
    host.set_facts(served(ON_TIER))
    state = rig.create(inputs())
    host.on_step = lambda step: host.set_facts(bare()) if step["text"] == "remove the owner file" else None

    rig.delete(state)

    assert host.steps[0]["text"] == "stop server-digits.service, which completes running requests"
