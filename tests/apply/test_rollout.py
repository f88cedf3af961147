"""Turns: who changes when, and who does not when others failed."""

import threading
import time
from collections.abc import Callable

import pytest

from rackwright.apply.rollout import HeldBack, Turns
from rackwright.errors import HostUnreachable, StepFailed
from rackwright.spec.rollout import Rollout

HOSTS = [f"h{number}" for number in range(1, 10)]


class Roll:
    """All hosts ask at once; the order in which they went is kept, wave by wave."""

    def __init__(self, policy: Rollout, fails: Callable[[str], Exception | None] = lambda host: None) -> None:
        self.turns = Turns(policy, lambda: False, window_seconds=0.05)
        self.waves: list[set[str]] = []
        self.ended: dict[str, Exception | None] = {}
        self._fails, self._at_it, self._guard = fails, set[str](), threading.Lock()
        threads = [threading.Thread(target=self._go, args=(host,)) for host in HOSTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    def _go(self, host: str) -> None:
        try:
            with self.turns.turn("base", host, lambda text: None):
                with self._guard:
                    if not self._at_it:
                        self.waves.append(set())
                    self._at_it.add(host)
                    self.waves[-1].add(host)
                while self.turns._waves["base"].going - self._at_it:  # the others of the wave
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
    return StepFailed(host, "task 'Install' ended with 1", "it ends well", "Look there")


def test_some_go_first_and_the_others_in_batches():
    roll = Roll(Rollout(canary=2, batch=4))

    assert [len(wave) for wave in roll.waves] == [2, 4, 3]
    assert roll.waves[0] == {"h1", "h2"}
    assert set(roll.ended.values()) == {None}


def test_a_batch_may_be_a_share():
    assert [len(wave) for wave in Roll(Rollout(batch="50%")).waves] == [1, 4, 4]


def test_one_that_fails_first_spares_all_others():
    roll = Roll(Rollout(), lambda host: failed(host) if host == "h1" else None)

    assert roll.waves == [{"h1"}]
    assert all(isinstance(roll.ended[host], HeldBack) for host in HOSTS[1:])
    assert "h1 failed" in str(roll.ended["h2"])
    assert "no step was run on h2" in str(roll.ended["h2"])


def test_some_may_fail():
    roll = Roll(Rollout(batch=3, max_failures=1), lambda host: failed(host) if host in ("h2", "h6") else None)

    assert roll.waves == [{"h1"}, {"h2", "h3", "h4"}, {"h5", "h6", "h7"}]
    assert [host for host in HOSTS if isinstance(roll.ended[host], HeldBack)] == ["h8", "h9"]


def test_a_host_that_is_not_reached_has_not_failed_and_is_no_proof():
    """
    Another goes first in its place.
    """
    dead = HostUnreachable("h1", "no answer", "it answers", "Switch it on")
    roll = Roll(Rollout(batch=8), lambda host: dead if host == "h1" else None)

    assert [len(wave) for wave in roll.waves] == [1, 1, 7]
    assert [host for host in HOSTS if roll.ended[host]] == ["h1"]


def test_a_change_of_another_name_waits_for_nobody():
    turns = Turns(Rollout(), lambda: False, window_seconds=0.01)

    with turns.turn("base", "h1", lambda text: None), turns.turn("access", "h1", lambda text: None):
        pass


def test_a_cancellation_ends_the_wait():
    turns = Turns(Rollout(), lambda: True, window_seconds=10)

    with pytest.raises(HeldBack, match="cancelled"), turns.turn("base", "h1", lambda text: None):
        pass
