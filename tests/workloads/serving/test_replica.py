"""The hosts of one replica: they start together, notice a lost one, and start together again."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_servers import eventually
from tests.support.training_runs import ROOT, environment
from workloads.errors import UserError
from workloads.serving import model as model_directory
from workloads.serving import replica as leases
from workloads.serving.replica import ReplicaLeader, fingerprint, follow
from workloads.serving.runtimes import replica_canary
from workloads.serving.runtimes.replica_canary import ReplicaCanary
from workloads.serving.settings import ServingSettings
from workloads.serving.signed_lines import SignedLines
from workloads.serving.vllm_settings import ReplicaSettings, VllmSettings

KEY = "ab" * 32
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


def free_port() -> int:
    """Return the first of three ports that are likely free."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return min(int(server.getsockname()[1]), 65000)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)


class Process:
    """A worker's vLLM."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.ended = False

    def exit_reason(self) -> str | None:
        return self.reason

    def end(self) -> None:
        self.ended = True


class Worker:
    """A worker in a thread."""

    def __init__(self, replica: ReplicaSettings, fingerprint: str = "same") -> None:
        self.processes: list[Process] = []
        self.events: list[str] = []
        self.stopped = threading.Event()
        argv = (replica, fingerprint, self._start, self.stopped, self.events.append)
        self.thread = threading.Thread(target=follow, args=argv, daemon=True)
        self.thread.start()

    def _start(self) -> Process:
        self.processes.append(process := Process())
        return process

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join(30)


@pytest.fixture
def place(quick: None, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return what makes a leader, or a worker of a rank, of one replica; all of them end with the test."""
    port, made = free_port(), []

    def make(rank: int, hosts: int = 3, fingerprint: str = "same", key: str = KEY) -> Any:
        file = tmp_path / f"{rank}.key"
        file.write_text(key)
        addresses = HOSTS[:hosts]
        settings = ReplicaSettings(addresses=addresses, rank=rank, interface="lo", key_file=str(file), port=port)
        made.append(found := Worker(settings, fingerprint) if rank else ReplicaLeader(settings, fingerprint))
        return found

    yield make
    for each in made:
        each.stop() if isinstance(each, Worker) else each.close()


def test_workers_start_once_all_are_there(place: Callable[..., Any]) -> None:
    first = place(1)
    eventually(lambda: first.events == ["waiting for the leader 127.0.0.1: Connection refused"])
    leader = place(0)
    waiting = threading.Thread(target=leader.wait_for_workers)
    waiting.start()
    second = place(2)
    waiting.join(30)
    assert not waiting.is_alive()
    assert not first.processes and not second.processes, "the leader says when"

    leader.start()
    eventually(lambda: len(first.processes) == len(second.processes) == 1)
    assert leader.loss() is None


def test_a_lost_worker_is_the_end_and_the_others_begin_again(place: Callable[..., Any]) -> None:
    leader, first, second = place(0), place(1), place(2)
    leader.wait_for_workers()
    leader.start()
    eventually(lambda: len(first.processes) == len(second.processes) == 1)
    second.stop()
    eventually(leader.loss)
    assert leader.loss().startswith("host 127.0.0.3 of the replica was lost: ")
    assert second.processes[0].ended
    leader.close()
    eventually(lambda: first.processes[0].ended)
    eventually(lambda: any(event.startswith("the leader 127.0.0.1 was lost: ") for event in first.events))

    again, third = place(0), place(2)
    again.wait_for_workers()
    again.start()
    eventually(lambda: len(first.processes) == 2 and len(third.processes) == 1)


def test_a_worker_whose_vllm_ends_is_lost(place: Callable[..., Any]) -> None:
    leader, worker = place(0, 2), place(1, 2)
    leader.wait_for_workers()
    leader.start()
    eventually(lambda: worker.processes)
    worker.processes[0].reason = "vLLM ended by SIGKILL"
    eventually(leader.loss)
    assert worker.processes[0].ended
    assert "vLLM ended by SIGKILL" in worker.events


def test_a_silent_host_is_lost(place: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.5)
    leader = place(0, 2)
    with closing(socket.create_connection((HOSTS[0], leader._replica.lease_port))) as silent:
        waiting = threading.Thread(target=leader.wait_for_workers)
        waiting.start()
        greet(silent, KEY)
        waiting.join(30)
        leader.start()
        eventually(leader.loss)
    assert leader.loss() == "host 127.0.0.2 of the replica was lost: no sign of life for 0.5 s"


def greet(connection: socket.socket, key: str, rank: int = 1) -> SignedLines:
    """Greet a leader as a worker with *key* does, and return the signatures of the connection."""
    signed = SignedLines(key.encode(), "worker")
    connection.sendall(signed.nonce + b"\n")
    assert signed.verify(connection.makefile("rb").readline().strip()) is None
    hello = json.dumps({"rank": rank, "fingerprint": "same"}).encode()
    connection.sendall(signed.sign(hello) + b"\n")
    return signed


def is_closed(connection: socket.socket) -> bool:
    """Return whether the other side closes *connection* within 30 s."""
    connection.settimeout(30)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(4096):
            pass
    return True


def test_a_worker_without_the_key_is_turned_away_and_replaces_no_other(place: Callable[..., Any]) -> None:
    leader, worker = place(0, 3), place(1, 3)
    waiting = threading.Thread(target=leader.wait_for_workers)
    waiting.start()
    eventually(lambda: 1 in leader._members)
    present = leader._members[1]
    with closing(socket.create_connection((HOSTS[0], leader._replica.lease_port))) as stranger:
        greet(stranger, "cd" * 32)
        assert is_closed(stranger)
    assert leader._members[1] is present
    place(2, 3)
    waiting.join(30)
    assert not waiting.is_alive()
    assert worker.events == []


def test_a_worker_starts_for_no_leader_without_the_key(place: Callable[..., Any]) -> None:
    leader, worker = place(0, 2), place(1, 2, key="cd" * 32)
    waiting = threading.Thread(target=leader.wait_for_workers, daemon=True)
    waiting.start()
    eventually(lambda: any(event.startswith("the leader 127.0.0.1 was lost") for event in worker.events))
    assert waiting.is_alive() and not worker.processes
    place(1, 2)
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_recorded_worker_is_refused_in_another_connection(place: Callable[..., Any]) -> None:
    leader = place(0, 2)
    waiting = threading.Thread(target=leader.wait_for_workers)
    waiting.start()
    address = HOSTS[0], leader._replica.lease_port
    with closing(socket.create_connection(address)) as first:
        signed = greet(first, KEY)
        waiting.join(30)
        assert not waiting.is_alive()
        first.sendall(signed.sign(b".") + b"\n")
    eventually(lambda: not leader._members)
    again = threading.Thread(target=leader.wait_for_workers)
    again.start()
    recorded = SignedLines(KEY.encode(), "worker")
    recorded.verify(b"0" * 32)  # the nonce of an earlier leader
    hello = recorded.sign(json.dumps({"rank": 1, "fingerprint": "same"}).encode())
    with closing(socket.create_connection(address)) as replayed:
        replayed.sendall(recorded.nonce + b"\n" + hello + b"\n")
        assert is_closed(replayed)
    assert again.is_alive()
    place(1, 2)
    again.join(30)
    assert not again.is_alive()


@pytest.mark.parametrize("content", [None, b"", b"short"])
def test_a_key_that_is_missing_or_short_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    settings = ReplicaSettings(addresses=HOSTS, rank=0, interface="lo", key_file=str(path), port=free_port())
    with pytest.raises(UserError, match="the key of the leases"):
        ReplicaLeader(settings, "same")


@pytest.mark.parametrize(
    "hello", [b"{}\n", b"x\n", b'{"rank": 0, "fingerprint": "same"}\n', b"x" * 9000, b'{"rank": 7}\n']
)
def test_what_is_no_worker_is_turned_away(place: Callable[..., Any], hello: bytes) -> None:
    leader = place(0, 2)
    waiting = threading.Thread(target=leader.wait_for_workers)
    waiting.start()
    with closing(socket.create_connection((HOSTS[0], leader._replica.lease_port), 30)) as stranger:
        stranger.sendall(hello)
        with contextlib.suppress(ConnectionResetError):
            while stranger.recv(4096):
                pass
    place(1, 2)
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_worker_with_other_settings_is_refused(place: Callable[..., Any]) -> None:
    leader, worker = place(0, 2), place(1, 2, fingerprint="other")
    waiting = threading.Thread(target=leader.wait_for_workers)
    waiting.start()
    eventually(lambda: any("refused this host" in event for event in worker.events))
    assert not worker.processes
    place(1, 2)
    waiting.join(30)
    assert not waiting.is_alive()


def test_the_hosts_of_a_replica_agree_on_all_but_their_place() -> None:
    def settings(rank: int, **more: Any) -> ServingSettings:
        replica = ReplicaSettings(addresses=HOSTS, rank=rank, interface=f"eth{rank}", key_file="/etc/key")
        return ServingSettings(vllm=VllmSettings(replica=replica, **more))

    assert fingerprint("v", settings(0)) == fingerprint("v", settings(1))
    assert fingerprint("v", settings(0)) != fingerprint("w", settings(0))
    assert fingerprint("v", settings(0)) != fingerprint("v", settings(0, kv_cache_dtype="fp8"))


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a command `vllm` for several hosts on PATH."""
    made = tmp_path / "bin" / "vllm"
    made.parent.mkdir()
    made.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.support.models.like_vllm_over_hosts "$@"\n')
    made.chmod(0o755)
    monkeypatch.setenv("PATH", str(made.parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_a_leader_and_a_worker_serve_as_one(tmp_path: Path, command: None) -> None:
    (tmp_path / "weights").write_bytes(b"weights")
    model = tmp_path / "model"
    model_directory.publish(model, {"w": tmp_path / "weights"}, "talk", (), (), {}, runtime="vllm")
    port = free_port()

    def start(rank: int) -> subprocess.Popen[str]:
        (tmp_path / "key").write_text(KEY)
        key = str(tmp_path / "key")
        replica = {"addresses": HOSTS[:2], "rank": rank, "interface": "lo", "port": port, "key_file": key}
        settings = {"port": 0, "own_socket": str(tmp_path / f"{rank}.sock"), "vllm": {"replica": replica}}
        (tmp_path / f"{rank}.json").write_text(json.dumps(settings))
        argv = [sys.executable, "-m", "workloads.serving", str(model), "--settings", str(tmp_path / f"{rank}.json")]
        return subprocess.Popen(argv, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)

    def ready(rank: int) -> bool:
        with closing(socket.socket(socket.AF_UNIX)) as client:
            try:
                client.connect(str(tmp_path / f"{rank}.sock"))
            except OSError:
                return False
            client.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b" 200 " in client.recv(4096).splitlines()[0]

    worker = start(1)
    leader = start(0)
    try:
        eventually(lambda: ready(1))
        eventually(lambda: ready(0))
        worker.kill()
        assert leader.wait(60) == 4, "its unit starts it again"
        worker.wait(60)
        worker, leader = start(1), start(0)
        eventually(lambda: ready(0))
        leader.kill()
        leader.wait(60)
        leader = start(0)
        eventually(lambda: ready(0))
        for process in (leader, worker):
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    finally:
        for process in (leader, worker):
            process.kill()
            process.wait()


def test_a_replica_that_hangs_is_noticed(tmp_path: Path, command: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_canary, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(replica_canary, "DEADLINE_SECONDS", 1.0)
    path = tmp_path / "door.sock"
    argv = [str(tmp_path / "bin" / "vllm"), "--uds", str(path), "--node-rank=0", "--nnodes=2", "--master-addr=x"]
    with subprocess.Popen(argv, cwd=ROOT, env={**environment(), "VLLM_HOST_IP": "x"}) as vllm:
        try:
            eventually(path.exists)
            canary = ReplicaCanary(path, "key", "talk")
            eventually(lambda: canary._progress() == 0)
            assert canary.failure() is None
            hang = replica_canary.UnixConnection(path, 30)
            hang.request("POST", "/v1/completions", json.dumps({"prompt": "hang"}))
            eventually(canary.failure)
            assert canary.failure() == "the replica did not answer within 1 s: timed out"
        finally:
            canary.close()
            vllm.kill()
