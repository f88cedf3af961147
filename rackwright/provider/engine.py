"""The provider's log lines to Pulumi's engine, each for one resource."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

from rackwright.core.contract import Claim, Difference, Plan
from rackwright.errors import one_line, visible
from rackwright.provider import outcomes
from rackwright.provider.lifetime import note_activity
from rackwright.provider.outcomes import Outcome
from rackwright.provider.server import CHANNEL_OPTIONS

LOG_SECONDS = 5


class Engine:
    """The engine that started the provider, at *address*; empty without an engine."""

    def __init__(self, address: str) -> None:
        self._address = address

    @cached_property
    def _stub(self) -> engine_pb2_grpc.EngineStub:
        return engine_pb2_grpc.EngineStub(grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS))

    def log(self, urn: str, text: str, severity: engine_pb2.LogSeverity.ValueType, ephemeral: bool = False) -> None:
        if not self._address:
            return
        request = engine_pb2.LogRequest(urn=urn, message=text, severity=severity, ephemeral=ephemeral)
        with contextlib.suppress(grpc.RpcError):  # an engine that does not listen has ended, and so will the provider
            self._stub.Log(request, timeout=LOG_SECONDS)


class ResourceLog:
    """The engine's log for one resource."""

    def __init__(self, engine: Engine, urn: str, redact: Callable[[str], str]) -> None:
        """
        Args:
            redact: Removes secrets from a text.
        """
        self._engine, self._urn, self._redact = engine, urn, redact
        self._is_active = False

    def _safe(self, text: str) -> str:
        """Return *text* without secrets and with visible control characters: it may quote output of a host."""
        return visible(self._redact(text))

    def status(self, text: str) -> None:
        safe = self._safe(text)
        self._engine.log(self._urn, safe, engine_pb2.INFO, ephemeral=True)
        name = self._urn.rpartition("::")[2]
        self._is_active = True
        note_activity(name.partition("/")[0], safe, name)

    def end(self) -> None:
        """Record the end of the call, if it has shown a status."""
        if self._is_active:
            name = self._urn.rpartition("::")[2]
            note_activity(name.partition("/")[0], "", name)

    def info(self, text: str) -> None:
        self._engine.log(self._urn, self._safe(text), engine_pb2.INFO)

    def warn(self, text: str, outcome: Outcome) -> None:
        self._engine.log(self._urn, self._safe(text), engine_pb2.WARNING)
        self.note(outcome)

    def note(self, outcome: Outcome, reason: str = "") -> None:
        """Record *outcome* for the command that started pulumi, without a message to the engine.

        Args:
            reason: One line about a failure, which the command prints at once.
        """
        outcomes.note(outcome, self._urn.rpartition("::")[2], one_line(self._redact(reason)))

    def plan(
        self, claims: Sequence[Claim], plan: Plan, differences: Iterable[Difference], changes: str, known_later: int
    ) -> None:
        """Record *plan* for the command that started pulumi, without a message to the engine."""
        name = self._urn.rpartition("::")[2]
        outcomes.note_plan(name, claims, plan, differences, changes, known_later, self._redact)
