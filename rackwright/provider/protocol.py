"""Pulumi's provider protocol over gRPC, one thread per call."""

import json
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import plugin_pb2, provider_pb2, status_pb2

from rackwright import terminal
from rackwright.errors import (
    ChangeRefused,
    DeclarationError,
    StepFailed,
    Unreachable,
    UserError,
    visible,
)
from rackwright.hosts.pool import ChangeCancelled
from rackwright.hosts.rollout import RolloutHalted
from rackwright.provider import codec
from rackwright.provider.codec import decode, encode
from rackwright.provider.engine import Engine, ResourceLog
from rackwright.provider.operation import Operation, OperationCancelled, OutOfTime, SavedState
from rackwright.provider.outcomes import Outcome
from rackwright.provider.resource import Change, InvalidResource, Resources
from rackwright.provider.server import Context, Greeter
from rackwright.provider.site import Sites
from rackwright.provider.state_format import PROPERTY
from rackwright.provider.subject import COMPUTED, Urn
from rackwright.schema.secret import parse_values

T = TypeVar("T")
UNUSED = COMPUTED - {PROPERTY}
"""Inputs that Diff and Read do not use."""

READ_SECONDS = 120.0
"""Timeout of reads and previews without a custom timeout."""
CHANGE_SECONDS = 1800.0
"""Timeout of create, update and delete without a custom timeout."""
QUIET_SECONDS = 0.5
"""Seconds without a call after which no further call of a preview comes: the engine sends dependent calls at once."""
PATIENCE_SECONDS = 60.0
"""Seconds that a refusal waits for others at most."""

# Never UNKNOWN, INTERNAL or DATA_LOSS: after those the engine warns that its state may be corrupt.
_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (DeclarationError, grpc.StatusCode.INVALID_ARGUMENT),
    (InvalidResource, grpc.StatusCode.INVALID_ARGUMENT),
    (Unreachable, grpc.StatusCode.UNAVAILABLE),
    (StepFailed, grpc.StatusCode.ABORTED),
    (UserError, grpc.StatusCode.FAILED_PRECONDITION),
    (OutOfTime, grpc.StatusCode.DEADLINE_EXCEEDED),
    (OperationCancelled, grpc.StatusCode.CANCELLED),
    (Exception, grpc.StatusCode.ABORTED),
)
_OUTCOMES: tuple[tuple[type[UserError], Outcome], ...] = (
    (ChangeRefused, "refused"),
    (DeclarationError, "refused"),
    (RolloutHalted, "halted"),
    (Unreachable, "unreachable"),
    (UserError, "failed"),
)
_KINDS: dict[Change, provider_pb2.PropertyDiff.Kind.ValueType] = {
    "add": provider_pb2.PropertyDiff.ADD,
    "update": provider_pb2.PropertyDiff.UPDATE,
    "input": provider_pb2.PropertyDiff.UPDATE,
}


class Provider(Greeter):
    """The gRPC service for the engine; Resources implements the calls."""

    def __init__(self, resources: Resources, sites: Sites, engine_address: str = "") -> None:
        self._resources, self._sites = resources, sites
        self._engine = Engine(engine_address)
        self._takes_secrets = True
        """Whether Configure may be called: once for the engine that started it, once for each that attaches."""
        self._running: set[Operation] = set()
        self._refused: set[Operation] = set()
        """Running operations that are refused and wait for others."""
        self._last_call = time.monotonic()
        """The time at which a call last began or ended."""
        self._guard = threading.Lock()

    # The plugin.

    def Handshake(
        self, request: provider_pb2.ProviderHandshakeRequest, context: Context
    ) -> provider_pb2.ProviderHandshakeResponse:
        self._engine = Engine(request.engine_address)
        return super().Handshake(request, context)

    def Attach(self, request: plugin_pb2.PluginAttach, context: Context) -> empty_pb2.Empty:
        with self._guard:
            self._engine, self._takes_secrets = Engine(request.address), True
        return empty_pb2.Empty()

    def GetSchema(self, request: provider_pb2.GetSchemaRequest, context: Context) -> provider_pb2.GetSchemaResponse:
        return provider_pb2.GetSchemaResponse(schema=json.dumps(self._resources.package_schema()))

    def CheckConfig(self, request: provider_pb2.CheckRequest, context: Context) -> provider_pb2.CheckResponse:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: provider_pb2.DiffRequest, context: Context) -> provider_pb2.DiffResponse:
        """Return a change that never replaces the provider: a replacement would replace every resource."""
        same = request.olds == request.news
        changes = provider_pb2.DiffResponse.DIFF_NONE if same else provider_pb2.DiffResponse.DIFF_SOME
        return provider_pb2.DiffResponse(changes=changes)

    def Configure(self, request: provider_pb2.ConfigureRequest, context: Context) -> provider_pb2.ConfigureResponse:
        """Take the stack's secrets, once; no other call passes them."""
        with self._guard:
            if not self._takes_secrets:
                context.abort(
                    grpc.StatusCode.FAILED_PRECONDITION, "Configure was called twice; an engine calls it once"
                )
            self._takes_secrets = False
        secrets = codec.bare(decode(request.args).get("secrets", ""))
        try:
            self._sites.configure(parse_values(secrets, Urn.parse(request.urn).stack))
        except DeclarationError as errors:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, errors.render(severity=""))
        return provider_pb2.ConfigureResponse(acceptSecrets=False, supportsPreview=True)

    def Cancel(self, request: empty_pb2.Empty, context: Context) -> empty_pb2.Empty:
        self.cancel()
        return empty_pb2.Empty()

    def cancel(self) -> None:
        """Stop all running operations; their calls end with CANCELLED."""
        with self._guard:
            running = [*self._running]
        for operation in running:
            operation.stop(OperationCancelled("cancelled"))
        self._sites.cancel()

    def close(self) -> None:
        """Close the connections to all hosts."""
        self._sites.close()

    # The resources.

    def Check(self, request: provider_pb2.CheckRequest, context: Context) -> provider_pb2.CheckResponse:
        inputs, problems = self._perform(
            context, request, None, lambda urn, _: self._resources.check(urn, decode(request.news))
        )
        failures = [provider_pb2.CheckFailure(property=problem.path, reason=problem.reason) for problem in problems]
        return provider_pb2.CheckResponse(inputs=encode(inputs), failures=failures)

    def Diff(self, request: provider_pb2.DiffRequest, context: Context) -> provider_pb2.DiffResponse:
        old, new = (decode(inputs, without=UNUSED) for inputs in (request.old_inputs, request.news))
        state = decode(request.olds)
        changes = self._perform(
            context, request, None, lambda urn, operation: self._resources.diff(urn, old, state, new, operation)
        )
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changes else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=sorted({path.partition("[")[0].partition(".")[0] for path in changes}),
            detailedDiff={
                path: provider_pb2.PropertyDiff(kind=_KINDS[change], inputDiff=change == "input")
                for path, change in changes.items()
            },
            hasDetailedDiff=True,
        )

    def Read(self, request: provider_pb2.ReadRequest, context: Context) -> provider_pb2.ReadResponse:
        old_inputs, state = decode(request.inputs, without=UNUSED), decode(request.properties)
        resources = self._resources

        def read(urn: Urn, operation: Operation) -> tuple[Struct, dict[str, Any]]:
            if old_inputs:
                return request.inputs, resources.read(urn, old_inputs, state, operation)
            inputs, outputs = resources.import_resource(urn, request.id)
            return encode(inputs), outputs

        inputs, outputs = self._perform(context, request, request.timeout or READ_SECONDS, read)
        return provider_pb2.ReadResponse(
            id=request.id, inputs=inputs, properties=encode(outputs), refresh_before_update=True
        )

    def Create(self, request: provider_pb2.CreateRequest, context: Context) -> provider_pb2.CreateResponse:
        id, outputs = self._change(context, request, {}, {}, decode(request.properties))
        return provider_pb2.CreateResponse(id=id, properties=encode(outputs), refresh_before_update=True)

    def Update(self, request: provider_pb2.UpdateRequest, context: Context) -> provider_pb2.UpdateResponse:
        old, state, new = decode(request.old_inputs), decode(request.olds), decode(request.news)
        _, outputs = self._change(context, request, old, state, new)
        return provider_pb2.UpdateResponse(properties=encode(outputs), refresh_before_update=True)

    def Delete(self, request: provider_pb2.DeleteRequest, context: Context) -> empty_pb2.Empty:
        inputs = decode(request.old_inputs)
        self._perform(
            context,
            request,
            request.timeout or CHANGE_SECONDS,
            lambda urn, operation: self._resources.delete(urn, inputs, operation),
        )
        return empty_pb2.Empty()

    def _change(
        self,
        context: Context,
        request: provider_pb2.CreateRequest | provider_pb2.UpdateRequest,
        old: dict[str, Any],
        state: dict[str, Any],
        new: dict[str, Any],
    ) -> tuple[str, dict[str, Any]]:
        resources = self._resources

        def preview(urn: Urn, operation: Operation) -> dict[str, Any]:
            try:
                return resources.preview(urn, old, state, new, operation)
            except UserError:  # a failed bucket must not hide the plans of the hosts
                self._wait_for_other_refusals(operation)
                raise

        if request.preview:
            return "", self._perform(context, request, READ_SECONDS, preview)
        return self._perform(
            context,
            request,
            request.timeout or CHANGE_SECONDS,
            lambda urn, operation: resources.apply(urn, old, state, new, operation),
        )

    def _wait_for_other_refusals(self, operation: Operation) -> None:
        """Wait until every running call is refused: the engine ends a preview at the first error.

        All refused calls wait here and then return together, so that the engine shows every refusal.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._guard:
            self._refused.add(operation)
        while time.monotonic() < deadline:
            with self._guard:
                if self._running <= self._refused and time.monotonic() - self._last_call > QUIET_SECONDS:
                    return
            time.sleep(QUIET_SECONDS / 10)

    def _perform(self, context: Context, request: Any, seconds: float | None, work: Callable[[Urn, Operation], T]) -> T:
        """Return what *work* returns, or end the call with the status that fits what it raised.

        Args:
            seconds: The timeout; None for work that needs no host.
        """
        log = ResourceLog(self._engine, request.urn, self._sites.redact)
        operation = Operation(log)
        with self._guard:
            self._running.add(operation)
            self._last_call = time.monotonic()
        try:
            urn = Urn.parse(request.urn)
            return work(urn, operation) if seconds is None else operation.run(lambda: work(urn, operation), seconds)
        except Exception as error:
            code, message = _status(error, self._sites.redact)
            log.note(*_outcome(error))
            if operation.saved_state:
                context.set_trailing_metadata(
                    (("grpc-status-details-bin", _error_details(operation.saved_state, code, message)),)
                )
            context.abort(code, message)
        finally:
            log.end()
            with self._guard:
                self._running.discard(operation)
                self._refused.discard(operation)
                self._last_call = time.monotonic()


def _outcome(error: Exception) -> tuple[Outcome, str]:
    """Return the outcome of a call that *error* ended, and the reason for the operator; a cancelled call has none."""
    if isinstance(error, OperationCancelled | ChangeCancelled):
        return "cancelled", ""
    if not isinstance(error, UserError):
        return "failed", f"{type(error).__name__}: {error}" if not isinstance(error, OutOfTime) else str(error)
    more = f" (and {len(error.diagnostics) - 1} more)" if len(error.diagnostics) > 1 else ""
    return next(outcome for kind, outcome in _OUTCOMES if isinstance(error, kind)), f"{error.diagnostic.problem}{more}"


def _status(error: Exception, redact: Callable[[str], str]) -> tuple[grpc.StatusCode, str]:
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    if isinstance(error, UserError | OutOfTime | OperationCancelled):
        return code, redact(error.render(severity="") if isinstance(error, UserError) else visible(str(error)))
    terminal.notify(redact("".join(traceback.format_exception(error))))
    message = f"rackwright itself failed: {type(error).__name__}: {error}. Its traceback is among the messages above."
    return code, visible(redact(message))


def _error_details(state: SavedState, code: grpc.StatusCode, reason: str) -> bytes:
    """Return the gRPC error details with which the engine saves *state* and tries again at the next update."""
    failed = provider_pb2.ErrorResourceInitFailed(
        id=state.id, properties=encode(state.outputs), reasons=[reason], refresh_before_update=True
    )
    details = any_pb2.Any()
    details.Pack(failed)
    status = status_pb2.Status(code=code.value[0], message=reason, details=[details])
    return bytes(status.SerializeToString())
