"""The lease between the hosts of one replica: they start vLLM together, and notice when one of them is lost.

vLLM itself does not notice: with a dead second host its /health stays 200, and requests hang. Each worker holds a
connection to the leader. Both send a line each second; a host that is silent for LEASE_SECONDS is lost. The leader then
ends, and its unit starts it again; the workers end vLLM and wait for the leader.

worker: {"rank": 1, "fingerprint": "…"}     leader: .  .  start  .  .
worker: .  .  .                             leader: refused REASON

All lines are signed with the key of the replica.
"""

import contextlib
import hashlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_object
from workloads.serving.settings import ServingSettings
from workloads.serving.signed_lines import SignedLines, read_key
from workloads.serving.vllm_settings import ReplicaSettings

BEAT_SECONDS = 1.0
LEASE_SECONDS = 10.0
"""Seconds without a line after which the other side is lost; a busy host answers within a few."""
LINE_BYTES = 4096
"""The longest line that is read from another host."""
BEAT, START, REFUSED = b".", b"start", b"refused"


class Stoppable(Protocol):
    """The vLLM of a worker."""

    def exit_reason(self) -> str | None: ...
    def end(self) -> None: ...


def fingerprint(version: str, settings: ServingSettings) -> str:
    """Return the digest of all that the hosts of a replica have to have in common."""
    vllm = settings.vllm.model_dump(mode="json", exclude={"replica": True, "devices": True, "kv_transfer": {"address"}})
    common = [version, settings.tensor_parallel, settings.context_tokens, settings.parallel, settings.variables, vllm]
    return hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()[:12]


@dataclass
class _Member:
    """A connection to another host."""

    connection: socket.socket
    signed: SignedLines
    last: float = field(default_factory=time.monotonic)
    """When the last line came."""
    pending: bytes = b""

    def begin(self) -> None:
        """Send the nonce of this side."""
        self.connection.sendall(self.signed.nonce + b"\n")

    def send(self, line: bytes) -> None:
        self.connection.sendall(self.signed.sign(line) + b"\n")

    def lines(self, seconds: float) -> list[bytes]:
        """Return the signed lines that come within *seconds*, as soon as there are some; each renews the lease.

        Raises:
            OSError: the other side has closed the connection, or sends something else.
        """
        if not select.select([self.connection], [], [], seconds)[0]:
            return []
        content = self.connection.recv(LINE_BYTES)
        *lines, self.pending = (self.pending + content).split(b"\n")
        if not content or len(self.pending) > LINE_BYTES:
            raise OSError("the connection is closed" if not content else "a line is too long")
        verified = [self.signed.verify(line) for line in lines]
        contents = [content for content in verified if content is not None]
        if contents:
            self.last = time.monotonic()
        return contents

    @property
    def is_lost(self) -> bool:
        return time.monotonic() - self.last > LEASE_SECONDS

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.close()


class ReplicaLeader:
    """The leader's side of the leases."""

    def __init__(self, replica: ReplicaSettings, fingerprint: str) -> None:
        """Listen for the workers.

        Raises:
            UserError: the port is not free, or the key cannot be read.
        """
        self._replica, self._fingerprint = replica, fingerprint
        self._key = read_key(Path(replica.key_file))
        self._members: dict[int, _Member] = {}
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._started = False
        self._lost: str | None = None
        try:
            self._listening = socket.create_server((replica.leader, replica.lease_port), family=_family(replica.leader))
        except OSError as error:
            problem = f"the replica's leader cannot listen on {replica.leader}:{replica.lease_port}: {error.strerror}"
            raise UserError(Diagnostic("vllm.replica", problem, "a free port", "Choose another vllm.port")) from error
        self._listening.settimeout(BEAT_SECONDS)
        self._beating = threading.Thread(target=self._beat, name="replica", daemon=True)
        self._beating.start()

    def wait_for_workers(self) -> None:
        """Return once all workers wait for the start."""
        while not self._is_complete():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listening.accept()
                self._admit(_Member(connection, SignedLines(self._key, "leader")))

    def start(self) -> None:
        """Make the workers start their part; from now on a lost one is the end of the replica."""
        with self._lock:
            self._started = True
            for rank in list(self._members):
                self._try(rank, lambda member: member.send(START))
        self._listening.close()

    def loss(self) -> str | None:
        """Return which host was lost; None while all are there."""
        return self._lost

    def close(self) -> None:
        """End the leases: the workers end their part."""
        self._closed.set()
        self._beating.join(2 * BEAT_SECONDS)
        self._listening.close()
        with self._lock:
            for member in self._members.values():
                member.close()

    def _is_complete(self) -> bool:
        with self._lock:
            return len(self._members) == len(self._replica.addresses) - 1

    def _admit(self, member: _Member) -> None:
        try:
            member.begin()
            end = time.monotonic() + LEASE_SECONDS
            while not (lines := member.lines(BEAT_SECONDS)):
                if time.monotonic() > end:
                    raise OSError("no line")
            hello = parse_object(lines[0])
            rank, found = hello["rank"], hello["fingerprint"]
            if rank not in range(1, len(self._replica.addresses)) or found != self._fingerprint:
                member.send(REFUSED + b" its model, settings or place in the replica differ from the leader's")
                raise OSError("refused")
        except (OSError, ValueError, KeyError, TypeError):
            member.close()
            return
        with self._lock:
            if old := self._members.pop(rank, None):
                old.close()
            self._members[rank] = member

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            with self._lock:
                for rank in list(self._members):
                    self._try(rank, _exchange)

    def _try(self, rank: int, act: Callable[[_Member], None]) -> None:
        """Run *act* with a member; note it as lost if that fails. The caller holds the lock."""
        try:
            act(self._members[rank])
        except OSError as error:
            self._members.pop(rank).close()
            if self._started and self._lost is None:
                self._lost = f"host {self._replica.addresses[rank]} of the replica was lost: {error.strerror or error}"


def _exchange(member: _Member) -> None:
    member.send(BEAT)
    member.lines(0)
    if member.is_lost:
        raise OSError(f"no sign of life for {LEASE_SECONDS:g} s")


def follow(
    replica: ReplicaSettings,
    fingerprint: str,
    start: Callable[[], Stoppable],
    stopped: threading.Event,
    report: Callable[[str], None],
) -> None:
    """Take part in the replica of a leader until *stopped*: start when it says so, end when it is lost, and again.

    Args:
        start: Starts this host's part of vLLM.
        report: Gets each event as a sentence, for the log.

    Raises:
        UserError: the key cannot be read.
    """
    reported, key = "", read_key(Path(replica.key_file))
    while not stopped.is_set():
        try:
            connection = socket.create_connection((replica.leader, replica.lease_port), LEASE_SECONDS)
        except OSError as error:
            event = f"waiting for the leader {replica.leader}: {error.strerror or error}"
        else:
            event = _take_part(_Member(connection, SignedLines(key, "worker")), replica, fingerprint, start, stopped)
        if event != reported:
            report(reported := event)
        stopped.wait(BEAT_SECONDS)


def _take_part(
    leader: _Member,
    replica: ReplicaSettings,
    fingerprint: str,
    start: Callable[[], Stoppable],
    stopped: threading.Event,
) -> str:
    """Hold the lease of *leader*, and return why it ended."""
    process: Stoppable | None = None
    try:
        leader.begin()
        while not leader.signed.is_ready:
            leader.lines(BEAT_SECONDS)
            if leader.is_lost or stopped.is_set():
                return f"the leader {replica.leader} does not begin"
        leader.send(json.dumps({"rank": replica.rank, "fingerprint": fingerprint}).encode())
        while not stopped.is_set():
            for line in leader.lines(BEAT_SECONDS):
                if line.startswith(REFUSED):
                    return f"the leader refused this host:{line[len(REFUSED) :].decode(errors='replace')}"
                if line == START and process is None:
                    process = start()
            if process and (reason := process.exit_reason()):
                return reason
            if leader.is_lost:
                return f"the leader {replica.leader} gave no sign of life for {LEASE_SECONDS:g} s"
            leader.send(BEAT)
        return "stopped"
    except OSError as error:
        return f"the leader {replica.leader} was lost: {error.strerror or error}"
    finally:
        leader.close()
        if process:
            process.end()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
