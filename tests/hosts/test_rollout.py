"""Turns: who changes when, and who does not when others failed."""

import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import pytest
from pydantic import ValidationError

from rackwright.errors import ChangeRefused, Diagnostic, HostUnreachable, StepFailed
from rackwright.hosts import rollout
from rackwright.hosts.rollout import RolloutGate, RolloutHalted
from rackwright.schema.rollout import Rollout

T = TypeVar("T")
HOSTS = [f"h{number}" for number in range(1, 10)]


class Latecomers:
    """The hosts that may still join: one more than there are, until *number* threads have asked for their slots.

    A gate asks for them in each thread that waits, so no test depends on how fast its threads start.
    """

    def __init__(self, number: int) -> None:
        self._number, self._asked = number, set[int]()

    def __call__(self) -> set[str]:
        self._asked.add(threading.get_ident())
        return {"a host that has not asked yet"} if len(self._asked) < self._number else set()


class Roll:
    """All hosts ask at once; the order in which they went is kept, wave by wave."""

    def __init__(self, policy: Rollout, fails: Callable[[str], Exception | None] = lambda host: None) -> None:
        self.rollout_gate = RolloutGate(policy, lambda: False, window_seconds=0, coming=Latecomers(len(HOSTS)))
        self.rollout_groups: list[set[str]] = []
        self.ended: dict[str, Exception | None] = {}
        self._fails, self._at_it, self._guard = fails, set[str](), threading.Lock()
        threads = [threading.Thread(target=self._go, args=(host,)) for host in HOSTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    def _go(self, host: str) -> None:
        try:
            with self.rollout_gate.slot("base", host, lambda text: None):
                with self._guard:
                    if not self._at_it:
                        self.rollout_groups.append(set())
                    self._at_it.add(host)
                    self.rollout_groups[-1].add(host)
                while self.rollout_gate._rollout_groups["base"].going - self._at_it:  # the others of the wave
                    time.sleep(0.001)
                time.sleep(0.01)
                with self._guard:
                    self._at_it.discard(host)
                if error := self._fails(host):
                    raise error
            self.ended[host] = None
        except Exception as error:
            self.ended[host] = error


def failed(host: str) -> StepFailed:
    return StepFailed(Diagnostic(host, "task 'Install' ended with 1", "it ends well", "Look there"))


def test_some_go_first_and_the_others_in_batches():
    roll = Roll(Rollout(canary=2, batch=4))

    assert [len(rollout_group) for rollout_group in roll.rollout_groups] == [2, 4, 3]
    assert roll.rollout_groups[0] == {"h1", "h2"}
    assert set(roll.ended.values()) == {None}


def test_whose_turn_has_begun_is_reported_until_it_ends():
    rollout_gate = RolloutGate(Rollout(), lambda: False, window_seconds=0)

    with rollout_gate.slot("base", "h1", lambda text: None):
        assert (rollout_gate.going("base"), rollout_gate.going("access")) == ({"h1"}, frozenset())

    assert rollout_gate.going("base") == frozenset()


def test_a_wave_waits_for_those_that_are_being_looked_at():
    """
    They may ask next: who asked first would be a wave by itself.
    """
    looked_at, asked = {"h1", "h2"}, threading.Event()
    together = threading.Barrier(2, timeout=30)

    def coming() -> set[str]:
        asked.set()
        return looked_at

    rollout_gate = RolloutGate(Rollout(canary=2), lambda: False, window_seconds=0, coming=coming)

    def go(host: str) -> None:
        with rollout_gate.slot("base", host, lambda text: None):
            together.wait()

    threads = [threading.Thread(target=go, args=(host,)) for host in ("h1", "h2")]
    threads[0].start()
    assert asked.wait(30) and not rollout_gate.going("base")
    threads[1].start()
    looked_at.clear()
    for thread in threads:
        thread.join(30)

    assert not together.broken


def test_an_endless_probe_delays_no_other_host_for_ever(monkeypatch):
    monkeypatch.setattr(rollout, "COMING_SECONDS", 0.01)
    rollout_gate = RolloutGate(Rollout(), lambda: False, window_seconds=0, coming=lambda: {"h2"})

    with rollout_gate.slot("base", "h1", lambda text: None):
        assert rollout_gate.going("base") == {"h1"}


def test_a_batch_may_be_a_share():
    assert [len(rollout_group) for rollout_group in Roll(Rollout(batch="50%")).rollout_groups] == [1, 4, 4]


def test_one_that_fails_first_spares_all_others():
    roll = Roll(Rollout(), lambda host: failed(host) if host == "h1" else None)

    assert roll.rollout_groups == [{"h1"}]
    assert all(isinstance(roll.ended[host], RolloutHalted) for host in HOSTS[1:])
    assert "h1 failed" in str(roll.ended["h2"])
    assert "no step was run on h2" in str(roll.ended["h2"])


def test_some_may_fail():
    roll = Roll(Rollout(batch=3, max_failures=1), lambda host: failed(host) if host in ("h2", "h6") else None)

    assert roll.rollout_groups == [{"h1"}, {"h2", "h3", "h4"}, {"h5", "h6", "h7"}]
    assert [host for host in HOSTS if isinstance(roll.ended[host], RolloutHalted)] == ["h8", "h9"]


def test_a_host_that_is_not_reached_has_not_failed_and_is_no_proof():
    """
    Another goes first in its place.
    """
    dead = HostUnreachable(Diagnostic("h1", "no answer", "it answers", "Switch it on"))
    roll = Roll(Rollout(batch=8), lambda host: dead if host == "h1" else None)

    assert [len(rollout_group) for rollout_group in roll.rollout_groups] == [1, 1, 7]
    assert [host for host in HOSTS if roll.ended[host]] == ["h1"]


def test_a_host_that_was_refused_holds_no_other_back_and_is_no_proof():
    """
    Nothing was done there, so it shows nothing about the change.
    """
    no = ChangeRefused(Diagnostic("h1/base", "got data", "none", "Give it up"))
    roll = Roll(Rollout(batch=8), lambda host: no if host == "h1" else None)

    assert [len(rollout_group) for rollout_group in roll.rollout_groups] == [1, 1, 7]
    assert [host for host in HOSTS if roll.ended[host]] == ["h1"]


def test_hosts_have_their_changes_together_and_so_in_one_order():
    """
    A wave that finds a part of its hosts at another change waits for all: else each order would be a run of its own.
    """
    asked = [(rollout_group, host) for host in HOSTS for rollout_group in ("access", "driver", "runtime")]
    rollout_gate = RolloutGate(Rollout(canary=9), lambda: False, window_seconds=0, coming=Latecomers(len(asked)))
    order: dict[str, list[str]] = {host: [] for host in HOSTS}
    guard = threading.Lock()

    def go(rollout_group: str, host: str) -> None:
        with rollout_gate.slot(rollout_group, host, lambda text: None), guard:
            order[host].append(rollout_group)

    random.Random(1).shuffle(asked)
    threads = [threading.Thread(target=go, args=each) for each in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len({tuple(rollout_groups) for rollout_groups in order.values()}) == 1, order


def test_a_cancellation_ends_the_wait():
    rollout_gate = RolloutGate(Rollout(), lambda: True, window_seconds=10)

    with pytest.raises(RolloutHalted, match="cancelled"), rollout_gate.slot("base", "h1", lambda text: None):
        pass


class Stack:
    """Changes that are held until a test ends them; what each waited for is kept."""

    def __init__(self, limit: int, unreachable: frozenset[str] = frozenset()) -> None:
        self.rollout_gate = RolloutGate(Rollout(canary=9), lambda: False, 0.0, limit, lambda: unreachable)
        self.messages: queue.Queue[tuple[str, str]] = queue.Queue()
        self.begun: queue.Queue[str] = queue.Queue()
        self.refused: queue.Queue[tuple[str, RolloutHalted]] = queue.Queue()
        self._ends: dict[str, threading.Event] = {}
        self._threads: dict[str, threading.Thread] = {}

    def ask(self, rollout_group: str, host: str) -> None:
        """Let *host* ask for its slot, and return when it has begun, has reported what it waits for, or is refused."""
        name, heard = f"{host}/{rollout_group}", threading.Event()
        self._ends[name] = threading.Event()

        def go() -> None:
            def say(text: str) -> None:
                self.messages.put((name, text))
                heard.set()

            try:
                with self.rollout_gate.slot(rollout_group, host, say):
                    self.begun.put(name)
                    heard.set()
                    assert self._ends[name].wait(30)
            except RolloutHalted as error:
                self.refused.put((name, error))
                heard.set()

        self._threads[name] = threading.Thread(target=go, daemon=True)
        self._threads[name].start()
        assert heard.wait(30)

    def end(self, name: str) -> None:
        self._ends[name].set()
        self._threads[name].join(30)

    def joined(self) -> bool:
        """Return whether all have ended, once the test has ended those that had begun."""
        for event in self._ends.values():
            event.set()
        for thread in self._threads.values():
            thread.join(30)
        return not any(thread.is_alive() for thread in self._threads.values())


def all_of(waiting: "queue.Queue[T]") -> list[T]:
    return [waiting.get_nowait() for _ in range(waiting.qsize())]


def test_a_host_has_one_change_at_a_time_and_others_have_theirs():
    stack = Stack(9)
    stack.ask("base", "h1")
    stack.ask("access", "h1")
    stack.ask("runtime", "h2")

    assert all_of(stack.begun) == ["h1/base", "h2/runtime"]
    assert all_of(stack.messages) == [("h1/access", "waiting for h1 to be as declared otherwise")]
    stack.end("h1/base")
    assert stack.begun.get(timeout=30) == "h1/access"
    assert stack.joined()


def test_no_more_than_so_many_are_changed_at_once_whatever_changes_on_them():
    stack = Stack(2)
    stack.ask("base", "h1")
    stack.ask("driver", "h2")
    stack.ask("runtime", "h3")

    assert all_of(stack.begun) == ["h1/base", "h2/driver"]
    assert all_of(stack.messages) == [("h3/runtime", "waiting: h1, h2 are being changed, at most 2 at a time")]
    stack.end("h1/base")
    assert stack.begun.get(timeout=30) == "h3/runtime"
    assert stack.joined()


def test_a_host_that_waits_for_its_next_change_takes_no_room():
    stack = Stack(1)
    stack.ask("base", "h1")
    stack.ask("driver", "h1")
    stack.ask("base", "h2")

    assert all_of(stack.begun) == ["h1/base"]
    assert {name for name, _ in all_of(stack.messages)} == {"h1/driver", "h2/base"}
    stack.end("h1/base")
    first = stack.begun.get(timeout=30)
    assert stack.begun.empty(), "one at a time"
    stack.end(first)
    assert {first, stack.begun.get(timeout=30)} == {"h1/driver", "h2/base"}
    assert stack.joined()


def test_waves_that_share_hosts_all_come_to_their_end():
    rollout_gate = RolloutGate(Rollout(batch=3), lambda: False, 0.01, limit=2)
    away: Counter[str] = Counter()
    most, guard = [], threading.Lock()

    def go(rollout_group: str, host: str) -> None:
        with rollout_gate.slot(rollout_group, host, lambda text: None):
            with guard:
                away[host] += 1
                most.append(len(+away))
            with guard:
                away[host] -= 1

    asked = [(rollout_group, host) for rollout_group in ("base", "driver", "runtime") for host in HOSTS]
    threads = [threading.Thread(target=go, args=each, daemon=True) for each in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(most) == len(asked), "none waits for ever"
    assert max(most) <= 2


def test_a_host_that_is_not_reached_is_away_as_well():
    stack = Stack(2, frozenset({"h9"}))
    stack.ask("base", "h9")
    stack.ask("driver", "h1")
    stack.ask("runtime", "h2")

    assert all_of(stack.begun) == ["h9/base", "h1/driver"], "it takes no room by being tried"
    message = "waiting: h1 is being changed and h9 is not reached, at most 2 at a time"
    assert all_of(stack.messages) == [("h2/runtime", message)]
    assert stack.joined()


def test_with_too_many_unreachable_hosts_no_command_waits():
    stack = Stack(2, frozenset({"h8", "h9"}))
    stack.ask("base", "h1")

    [(_, error)] = all_of(stack.refused)
    assert "h8, h9 are not reached; at most 2 of the fleet changed or not reached at once" in str(error)
    assert "no step was run on h1" in str(error)
    assert stack.joined()


@pytest.mark.parametrize(
    ("written", "hosts", "most"), [(None, 40, None), (3, 40, 3), ("10%", 40, 4), ("10%", 5, 1), ("100%", 5, 5)]
)
def test_how_many_may_be_away_is_a_number_or_a_share_of_the_fleet(written, hosts, most):
    assert Rollout(max_unavailable=written).unavailable_of(hosts) == most


@pytest.mark.parametrize("written", [0, -1, "0%", "101%", "many", "5"])
def test_what_is_neither_is_refused(written):
    with pytest.raises(ValidationError, match="a number of hosts, 1 or more, or a share of them"):
        Rollout(max_unavailable=written)
