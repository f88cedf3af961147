"""The end of a run in pods: how its jobs are suspended, with a queue and without."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rackwright.errors import StepFailed
from rackwright.hosts.pool import Hosts
from rackwright.status import pods
from tests.support.pod_workloads import TRAINING, spec_of


class FakeHosts:
    """The control plane: notes commands, and fails at those that contain *failing*."""

    def __init__(self, failing: str = "") -> None:
        self.commands: list[str] = []
        self.failing = failing

    @contextmanager
    def lease(self, host: str, *more: object) -> Iterator[None]:
        yield

    def connection(self, host: str) -> Any:
        return SimpleNamespace(run=self._run)

    def _run(self, argv: Sequence[str], timeout: float) -> Any:
        self.commands.append(" ".join(argv))
        fails = bool(self.failing) and self.failing in self.commands[-1]
        return SimpleNamespace(status=int(fails), stderr="refused" if fails else "")


@pytest.mark.parametrize("queue", [False, True], ids=["jobs", "a queue"])
def test_a_stopped_run_is_suspended_where_it_would_be_started_again(queue):
    """
    Kueue starts a suspended job set again, unless its entry in the queue is not active.
    """
    hosts = FakeHosts()
    pods.stop(cast("Hosts", hosts), spec_of(TRAINING.model_copy(update={"queue": queue})), lambda text: None)
    *suspending, waiting = hosts.commands

    assert "wait pods" in waiting and "rackwright.local/run=digits" in waiting
    if queue:
        [command] = suspending
        assert '"active": false' in command and command.endswith("vision digits")
    else:
        assert ["Job/digits-launcher" in suspending[0], "Job/digits-worker" in suspending[1]] == [True, True]
        assert all('"suspend": true' in command for command in suspending)


def test_a_refusal_ends_the_stop():
    hosts = FakeHosts(failing="patch")
    with pytest.raises(StepFailed, match="refused"):
        pods.stop(cast("Hosts", hosts), spec_of(TRAINING), lambda text: None)
    assert len(hosts.commands) == 1
