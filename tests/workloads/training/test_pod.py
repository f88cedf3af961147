"""The processes of one pod of a run: their command, their exit status, and the watch over the other pods."""

import json
import socket
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from workloads.training import pod
from workloads.training.hosts import LaunchResult
from workloads.training.metrics import file_of
from workloads.training.peers import watch_peers
from workloads.training.plan import LaunchHost, LaunchPlan, pod_command
from workloads.training.pod import is_finished, number_of

LOST_SECONDS = 1.0
WAIT_SECONDS = 60.0


def plan_in(directory: Path) -> LaunchPlan:
    return LaunchPlan(
        name="digits",
        host="digits-launcher-0",
        hosts=(LaunchHost("digits-launcher-0", "127.0.0.1"), LaunchHost("digits-worker-0", "127.0.0.1")),
        processes=2,
        launcher="torchrun",
        min_processes=None,
        interface="eth0",
        rendezvous_port=29411,
        config=directory / "config.json",
        out=directory,
        home=directory,
        log=directory / "log",
        grace_seconds=10,
        data=None,
        provenance={},
    )


def test_each_pod_starts_its_own_processes(tmp_path):
    argv = pod_command(plan_in(tmp_path), 1, "python")

    assert argv[:3] == ["python", "-m", "torch.distributed.run"]
    place = {argv[index]: argv[index + 1] for index in range(3, 13, 2)}
    assert place["--nnodes"] == place["--nproc-per-node"] == "2"
    assert (place["--node-rank"], place["--master-addr"]) == ("1", "127.0.0.1")
    assert place["--master-port"] == "29411"


def test_the_number_of_a_pod_follows_from_its_job():
    assert number_of(1, {"JOB_COMPLETION_INDEX": "2"}) == 3
    assert number_of(0, {}) == 0


@pytest.mark.parametrize(("event", "expected"), [("finished", True), ("stopped", False)])
def test_a_pod_that_stopped_for_another_one_is_not_finished(tmp_path, event, expected):
    """
    torchrun ends with 0 in both cases, and Kubernetes would never start such a pod again.
    """
    (tmp_path / "metrics-2.jsonl").write_text('{"step": 3}\n' + json.dumps({"event": event, "step": 3}) + "\n")

    assert is_finished(plan_in(tmp_path), 1) is expected


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_a_silent_pod_is_lost_and_one_that_ends_is_not(tmp_path):
    """
    The connection of the silent pod stays open, as that of a node without power does.
    """
    lost, reasons = threading.Event(), []

    def on_loss(reason: str) -> None:
        reasons.append(reason)
        lost.set()

    port = free_port()
    with watch_peers(plan_in(tmp_path), 0, on_loss, port, LOST_SECONDS):
        _connected(port).close()
        with _connected(port) as silent:
            silent.send(b".")
            assert lost.wait(WAIT_SECONDS)
    [reason] = reasons
    assert reason.startswith("127.0.0.1 is lost: nothing came from it")


def test_the_pods_connect_to_the_first_one(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_SECONDS)
        with watch_peers(plan_in(tmp_path), 1, pytest.fail, server.getsockname()[1], LOST_SECONDS):
            connection, _ = server.accept()
            with connection:
                assert connection.recv(1) == b"."


def _connected(port: int) -> socket.socket:
    """Return a connection to the pod that listens on *port*."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), WAIT_SECONDS)
        except ConnectionRefusedError:
            continue


def test_the_first_pod_keeps_the_outcome_beside_the_checkpoints(tmp_path, monkeypatch):
    """
    The directory of a pod ends with it; by the kept state the host knows a finished run and its configuration.
    """
    plan = replace(plan_in(tmp_path), home=tmp_path / "gone")
    plan.config.write_text("{}")
    for number in (0, 2):
        (tmp_path / file_of(tmp_path, str(number)).name).write_text('{"event": "finished"}\n')

    class Ended(pod.LaunchedProcesses):
        def __init__(self, *args: object) -> None:
            self.before = pod.load_state(plan_in(tmp_path))

        def wait(self) -> LaunchResult:
            assert self.before.get("outcome") is None
            return LaunchResult("finished", 0)

    monkeypatch.setattr(pod, "LaunchedProcesses", Ended)
    monkeypatch.setattr(pod, "check_host", lambda plan: None)
    monkeypatch.setattr(pod, "watch_peers", lambda *args: nullcontext())

    assert pod.run(plan, 1) == 0 and pod.load_state(plan_in(tmp_path)) == {}
    for attempt in (1, 2):
        assert pod.run(plan, 0) == 0
        state = pod.load_state(plan_in(tmp_path))
        assert (state["outcome"], state["attempt"], state["config"]) == ("finished", attempt, plan.digest)
