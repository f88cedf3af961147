"""Roles over gRPC and SSH, on simulated hosts; who plays them is the test's."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from rackwright.core.contract import PlayRole
from rackwright.hosts.pool import Hosts
from rackwright.hosts.rollout import RolloutGate
from rackwright.hosts.session import NotDone
from rackwright.hosts.steps import execute
from rackwright.kinds.role import RoleKind
from rackwright.provider.site import Site
from rackwright.schema.rollout import Rollout
from tests.support.operations_log import in_memory
from tests.support.provider_rig import Rig, failing, rig
from tests.support.role_spec import MOTD, REPOSITORY, SPEC, file, good
from tests.support.simulated import SimulatedRack

NAMES = ("alpha", "beta", "gamma")
Played = list[tuple[str, PlayRole]]


def inputs(host: str) -> dict[str, Any]:
    about = SPEC.about.model_copy(update={"name": host})
    return SPEC.model_copy(update={"host": host, "about": about}).model_dump(mode="json", exclude_none=True)


def as_promised(host: str) -> dict[str, Any]:
    raw = good()
    raw["files"] |= {"/etc/motd": file(MOTD.replace("alpha", host), "0640")}  # type: ignore[operator]
    raw["owners"] = {"role-toy": {"id": f"{host}/toy", "fleet": "lab", "phase": "ready", "wrote": ["/etc/motd"]}}
    return raw


def edited(host: str) -> dict[str, Any]:
    raw = as_promised(host)
    raw["files"] |= {"/etc/motd": file("by hand\n", "0640")}
    return raw


@pytest.fixture
def rack() -> Iterator[SimulatedRack]:
    with SimulatedRack({name: edited(name) for name in NAMES}) as rack:
        for name in NAMES:
            rack[name].set_texts({"/etc/motd": "by hand\n"})
        yield rack


@pytest.fixture
def roles(rack: SimulatedRack) -> Iterator[Callable[..., Rig]]:
    """Return a function that makes a provider whose roles are played by *play*."""
    opened: list[Any] = []

    def make(play: Callable[..., None]) -> Rig:
        hosts = Hosts(rack.endpoints, REPOSITORY.salt)
        site = Site(
            REPOSITORY,
            hosts,
            partial(execute, play=play),
            RolloutGate(Rollout(), lambda: False, window_seconds=0.3),
            in_memory(),
        )
        made = rig({RoleKind.token: RoleKind()}, lambda stack, secrets: site)
        opened.extend((made, hosts))
        entered = made.__enter__()
        entered.token = RoleKind.token
        return entered

    yield make
    for each in opened:
        each.close() if isinstance(each, Hosts) else each.__exit__(None, None, None)


def mend(rack: SimulatedRack, played: Played) -> Callable[..., None]:
    def play(step: PlayRole, host: str, say: Callable[[str], None]) -> None:
        played.append((host, step))
        say("Write the files")
        rack[host].set_facts(as_promised(host))

    return play


def test_a_preview_shows_what_will_change_in_a_file_and_plays_nothing(roles, rack):
    played: Played = []
    made = roles(mend(rack, played))

    made.create(inputs("alpha"), preview=True)

    plan, diff = made.messages("INFO")
    assert plan.splitlines() == ["step 1/1: play role toy"]
    assert diff.splitlines()[-2:] == ["-by hand", f"+{MOTD.rstrip()}"]
    assert played == []


def test_a_role_is_played_until_its_claims_hold(roles, rack):
    played: Played = []
    made = roles(mend(rack, played))

    state = made.create(inputs("alpha"))

    assert [host for host, _ in played] == ["alpha"]
    assert "step 1/1: play role toy: Write the files" in made.status_lines()
    assert state.outputs["created"] is True
    assert made.diff(made.read(state), inputs("alpha")) == {}


def test_a_role_that_does_not_do_what_it_says_is_caught_claim_by_claim(roles):
    made = roles(lambda step, host, say: None)

    with failing("ABORTED") as failures:
        made.create(inputs("alpha"))
    assert "the host differs: file:/etc/motd.content is" in failures[0].message


def test_a_task_that_fails_is_reported_with_its_reason(roles):
    def fails(step: PlayRole, host: str, say: Callable[[str], None]) -> None:
        raise NotDone("task 'Install': no such package")

    with failing("ABORTED") as failures:
        roles(fails).create(inputs("alpha"))
    assert "step 1 of 1 (play role toy) failed on alpha: task 'Install': no such package" in failures[0].message


def test_one_that_fails_first_leaves_the_others_untouched(roles, rack):
    """
    All three change at once; alpha goes first and does not become what was promised.
    """
    played: Played = []
    made = roles(lambda step, host, say: played.append((host, step)))
    ended: dict[str, str] = {}

    def create(host: str) -> None:
        with failing("ABORTED") as failures:
            made.create(inputs(host))
        ended[host] = failures[0].message

    threads = [threading.Thread(target=create, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [host for host, _ in played] == ["alpha"]
    assert all("alpha failed" in ended[name] and f"no step was run on {name}" in ended[name] for name in NAMES[1:])
    assert rack["beta"].steps == []


def test_taking_a_role_away_puts_back_what_stood_there(roles, rack):
    made = roles(mend(rack, []))
    state = made.create(inputs("alpha"))
    rack["alpha"].on_step = lambda step: rack["alpha"].set_facts({**as_promised("alpha"), "owners": {}})

    made.delete(state)

    assert [step["text"] for step in rack["alpha"].steps] == [
        "note in the owner file: removing",
        "restore the earlier version of 1 file",
        "reload systemd",
        "remove /var/lib/rackwright/owners/role-toy.json",
    ]
