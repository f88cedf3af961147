"""A provider, called as the engine calls it: over gRPC, with an engine that listens to its log."""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime import rpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, provider_pb2_grpc, status_pb2

from rackwright.core.contract import Kind
from rackwright.core.repository import Repository
from rackwright.hosts.rollout import RolloutGate
from rackwright.hosts.verdicts import QuarantineLook
from rackwright.provider.codec import decode, encode, secret
from rackwright.provider.protocol import Provider
from rackwright.provider.resource import Resources
from rackwright.provider.server import serve
from rackwright.provider.site import Site, Sites
from rackwright.schema.rollout import Rollout
from tests.support.operations_log import Entries, in_memory
from tests.support.toy_kind import TOKEN, Box, Memory, execute

OpenSite = Callable[[str, Mapping[str, str]], Site]
RED = {"host": "h1", "name": "a.b", "colour": "red", "not_rehearsable": ["hardware"]}
BOX = "box:a.b"


@dataclass(frozen=True)
class LogMessage:
    severity: str
    text: str
    ephemeral: bool
    about: str


class Listener(engine_pb2_grpc.EngineServicer):
    def __init__(self) -> None:
        self.messages: list[LogMessage] = []

    def Log(self, request: engine_pb2.LogRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        severity = engine_pb2.LogSeverity.Name(request.severity)
        self.messages.append(LogMessage(severity, request.message, request.ephemeral, request.urn.rpartition("::")[2]))
        return empty_pb2.Empty()


@dataclass(frozen=True)
class Failure:
    """How a call ended that did not end well."""

    code: str
    message: str
    kept: provider_pb2.ErrorResourceInitFailed
    """State that the engine keeps after the failure; empty if there is none."""


def bare(struct: Struct) -> dict[str, Any]:
    """Return *struct* as the engine hands it to a provider that does not accept secrets."""

    def opened(value: Any) -> Any:
        if isinstance(value, dict):
            return opened(value["value"]) if rpc._special_sig_key in value else {k: opened(v) for k, v in value.items()}
        return value

    return {name: opened(value) for name, value in decode(struct).items()}


@dataclass
class Rig:
    stub: provider_pb2_grpc.ResourceProviderStub
    listener: Listener
    provider: Provider
    port: int
    hosts: Memory
    """Memory of the toy boxes."""
    token: str = TOKEN
    """Type of the resources that are called for."""
    opened: list[str] = field(default_factory=list)
    """Stacks whose site was opened."""
    declared: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """Result of an import by type and id."""
    maintenance: dict[str, str] = field(default_factory=dict)
    quarantine: list[QuarantineLook] = field(default_factory=list)
    """The hosts in quarantine, on which no toy box begins; empty without a declared quarantine."""
    retired: set[str] = field(default_factory=set)
    undeclared: set[str] = field(default_factory=set)
    """Hosts that answer, and that the fleet does not have any more."""
    entries: Entries = field(default_factory=list)
    """Entries of the operations log."""

    def messages(self, severity: str) -> list[str]:
        return [
            message.text for message in self.listener.messages if message.severity == severity and not message.ephemeral
        ]

    def forget(self) -> None:
        """Begin a new phase: connections and facts of the one before are gone."""
        self.stub.Cancel(empty_pb2.Empty())

    def status_lines(self) -> list[str]:
        return [message.text for message in self.listener.messages if message.ephemeral]

    def urn(self, inputs: Mapping[str, Any]) -> str:
        name = "/".join(str(inputs[part]) for part in ("host", "name") if part in inputs)
        return f"urn:pulumi:lab::rackwright::rackwright:index:Rack$rackwright:index:GpuHost${self.token}::{name}"

    def configure(self, **secrets: str) -> None:
        """Hand over the stack's configuration as the engine does."""
        args = encode({"fleet": "fleet.yaml", "secrets": secret(json.dumps(secrets))})
        urn = "urn:pulumi:lab::rackwright::pulumi:providers:rackwright::default"
        self.stub.Configure(provider_pb2.ConfigureRequest(urn=urn, args=args))

    def check(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.stub.Check(provider_pb2.CheckRequest(urn=self.urn(inputs), news=encode(inputs)))
        assert not answer.failures
        return bare(answer.inputs)

    def create(self, inputs: Mapping[str, Any], preview: bool = False, timeout: float = 0) -> "State":
        checked = self.check(inputs)
        answer = self.stub.Create(
            provider_pb2.CreateRequest(
                urn=self.urn(inputs), properties=encode(checked), preview=preview, timeout=timeout
            )
        )
        assert answer.refresh_before_update
        return State(answer.id, checked, bare(answer.properties))

    def read(self, state: "State") -> "State":
        request = provider_pb2.ReadRequest(
            id=state.id, urn=self.urn(state.inputs), inputs=encode(state.inputs), properties=encode(state.outputs)
        )
        answer = self.stub.Read(request)
        assert answer.refresh_before_update
        return State(answer.id, bare(answer.inputs), bare(answer.properties))

    def diff(self, state: "State", inputs: Mapping[str, Any]) -> dict[str, str]:
        """Return each path with the name of its kind; ``input`` for a difference between inputs."""
        request = provider_pb2.DiffRequest(
            id=state.id,
            urn=self.urn(inputs),
            olds=encode(state.outputs),
            old_inputs=encode(state.inputs),
            news=encode(self.check(inputs)),
        )
        answer = self.stub.Diff(request)
        assert answer.hasDetailedDiff and not answer.replaces
        changed = provider_pb2.DiffResponse.DIFF_SOME if answer.detailedDiff else provider_pb2.DiffResponse.DIFF_NONE
        assert answer.changes == changed
        name = provider_pb2.PropertyDiff.Kind.Name
        return {path: "input" if found.inputDiff else name(found.kind) for path, found in answer.detailedDiff.items()}

    def update(self, state: "State", inputs: Mapping[str, Any], preview: bool = False) -> "State":
        checked = self.check(inputs)
        request = provider_pb2.UpdateRequest(
            id=state.id,
            urn=self.urn(inputs),
            olds=encode(state.outputs),
            old_inputs=encode(state.inputs),
            news=encode(checked),
            preview=preview,
        )
        answer = self.stub.Update(request)
        assert answer.refresh_before_update
        return State(state.id, checked, bare(answer.properties))

    def delete(self, state: "State", same_run: bool = False) -> None:
        """
        Args:
            same_run: Whether the program has declared resources before, in the same run.
        """
        if not same_run:
            self.provider._sites.declared.clear()
        request = provider_pb2.DeleteRequest(
            id=state.id, urn=self.urn(state.inputs), properties=encode(state.outputs), old_inputs=encode(state.inputs)
        )
        self.stub.Delete(request)


@dataclass(frozen=True)
class State:
    """State of a resource that the engine keeps."""

    id: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]


@contextmanager
def rig(kinds: Mapping[str, Kind[Any]] | None = None, open_site: OpenSite | None = None) -> Iterator[Rig]:
    """Run a provider of toy boxes, or of *kinds* on the sites that *open_site* gives."""
    listener = Listener()
    engine = grpc.server(ThreadPoolExecutor(8))
    engine_pb2_grpc.add_EngineServicer_to_server(listener, engine)
    address = f"127.0.0.1:{engine.add_insecure_port('127.0.0.1:0')}"
    engine.start()
    hosts, opened = Memory(), list[str]()
    declared: dict[tuple[str, str], Mapping[str, Any]] = {}
    maintenance, retired, undeclared = dict[str, str](), set[str](), set[str]()
    quarantine: list[QuarantineLook] = []
    entries: Entries = []

    def open_memory(stack: str, secrets: Mapping[str, str]) -> Site:
        opened.append(stack)
        rollout_gate = RolloutGate(Rollout(), lambda: False)
        find_inputs = lambda *id: declared.get(id)  # noqa: E731
        record = in_memory(entries)
        site = Site(Repository({}), hosts, execute, rollout_gate, record, find_inputs, maintenance, retired)
        return replace(
            site,
            is_declared=lambda source: str(source) not in undeclared,
            quarantine=lambda: quarantine[0] if quarantine else None,
        )

    sites = Sites(open_site or open_memory)
    provider = Provider(Resources(kinds or {TOKEN: Box()}, sites, (TOKEN,)), sites, address)
    server, port = serve(provider)
    # a failure carries the state in its trailer, and gRPC in Go, the engine's, takes 16 MiB where this one takes 8 KiB
    limit = [("grpc.max_metadata_size", 16 << 20)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=limit) as channel:
        stub = provider_pb2_grpc.ResourceProviderStub(channel)
        yield Rig(
            *(stub, listener, provider, port, hosts),
            opened=opened,
            declared=declared,
            maintenance=maintenance,
            quarantine=quarantine,
            retired=retired,
            undeclared=undeclared,
            entries=entries,
        )
    server.stop(None).wait()
    engine.stop(None).wait()


@contextmanager
def failing(code: str) -> Iterator[list[Failure]]:
    """Expect a call to end with *code*; the list holds how it did."""
    failures: list[Failure] = []
    try:
        yield failures
    except grpc.RpcError as error:
        trailers = {trailer.key: trailer.value for trailer in error.trailing_metadata() or ()}
        kept = provider_pb2.ErrorResourceInitFailed()
        if details := trailers.get("grpc-status-details-bin"):
            status = status_pb2.Status.FromString(details)
            assert status.code == error.code().value[0]  # grpc-go takes no other
            assert status.details[0].Unpack(kept)
        failures.append(Failure(error.code().name, error.details() or "", kept))
    assert [failure.code for failure in failures] == [code]
