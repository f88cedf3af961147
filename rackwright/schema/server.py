"""Model servers: a model, the hosts that serve it, and the checks before it serves."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from rackwright.schema import cache_memory, kv_exchange, placement
from rackwright.schema import pods as on_pods
from rackwright.schema.base import Count, Many, Schema
from rackwright.schema.cluster import Cluster
from rackwright.schema.host import Host, Name
from rackwright.schema.pods import On, Pods
from rackwright.schema.problem import Keys, Problem, raise_any, setting_problems
from rackwright.schema.process_variables import ProcessVariables
from rackwright.schema.run import Environment, Run, address
from rackwright.schema.run import ports as run_ports
from rackwright.schema.secret import Key, name_problem
from rackwright.schema.units import SPAN, parse_time
from rackwright.schema.vllm import Vllm, group_problems, pod_problems, replica_problems

if TYPE_CHECKING:
    from workloads.serving.settings import ServingSettings

NAME_MAX = 25
"""Maximum length, because the account is ``server-NAME`` and Linux accepts 32 characters. Source: useradd(8)."""
EVERYWHERE = "0.0.0.0"
RESERVED = (
    "host", "port", "keys", "anybody", "tls_certificate", "tls_key", "tls_client_authorities", "own_socket", "watch",
    "vllm", "variables", "grpc_port", "quota_counts",
)  # fmt: skip
"""Settings of `workloads.serving` that follow from the server itself."""
REGISTERED = r"[A-Za-z0-9][A-Za-z0-9_. -]*(@[A-Za-z0-9_.-]+|/[0-9]+)"
"""Reference to a model of the registry, by an alias, which can move to another version, or by number."""
OWN = "rackwright"
"""Name of the key with which a host queries its own server."""


def _version(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{12}", text):
        help = "Copy `version` from its model.json"
        raise Problem(f"got {text!r}", "a version is the first 12 hexadecimal digits of a model's digest", help)
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        help = "Run `rackwright server promote`, which writes it"
        raise Problem(f"got {text!r}", "a SHA-256 has 64 hexadecimal digits", help)
    return text


def _registered_name(text: str) -> str:
    if not re.fullmatch(REGISTERED, text):
        expected = "a model of the registry is NAME@ALIAS or NAME/NUMBER"
        raise Problem(f"got {text!r}", expected, "Write it like digits@champion or digits/3")
    return text


def _below(path: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", path) or ".." in path.split("/"):
        expected = "a path has letters, digits and . _ - /, is relative, and does not leave its directory"
        raise Problem(f"got {path!r}", expected, "Write it like models/digits")
    return path


def _secret_name(name: str) -> str:
    if problem := name_problem(name):
        raise problem
    return name


def _every(text: str) -> str:
    if not 60 <= parse_time(text) <= 86400:
        raise Problem(f"got {text!r}", "the interval is 1min at least and 24h at most", "Write it like 15min")
    return text


Every = Annotated[str, AfterValidator(_every), Field(json_schema_extra={"pattern": f"^{SPAN}$"})]
Version = Annotated[str, AfterValidator(_version)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
Registered = Annotated[str, AfterValidator(_registered_name), Field(json_schema_extra={"pattern": f"^{REGISTERED}$"})]
Below = Annotated[str, AfterValidator(_below)]


class ServedModel(Schema):
    """The model of a server, published by `python -m workloads.quantize`."""

    path: Below | None = None
    """Directory of the model, below the project on this computer, or below the mount of `tier`."""
    tier: Name | None = None
    """Tier of the hosts from which each host copies the model."""
    registered: Registered | None = None
    """Name of the model at an MLflow server, instead of a path: digits@champion or digits/3."""
    version: Version | None = None
    """Required version; without a path, a version that the hosts have already, or the registered one."""
    sha256: Sha256 | None = None
    """SHA-256 of a registered model's model.json, which identifies the download; from `rackwright server promote`."""

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        if self.registered is not None:
            raise_any(self._elsewhere())
            return self
        if self.sha256 is not None:
            help = "Remove sha256, or add registered"
            raise Problem("got sha256 without registered", "sha256 belongs to a registered model", help, ("sha256",))
        if self.path is None and (self.version is None or self.tier is not None):
            problem = "got no path" if self.version is None else "got a tier and no path"
            help = "Write path: DIRECTORY, registered: NAME@ALIAS, or the version of a model that the hosts have"
            raise Problem(problem, "a model has a path, a name in the registry, or a version", help)
        if self.tier is not None and self.version is None:
            help = "Add `version` of its model.json"
            raise Problem("got no version", "a model on a tier is declared with its version", help)
        return self

    def _elsewhere(self) -> Iterator[Problem]:
        """Yield the problems of a registered model's other fields."""
        for name in ("path", "tier"):
            if getattr(self, name) is not None:
                expected, help = "a registered model comes from the registry", "Remove one of the two"
                yield Problem(f"got {name} and registered", expected, help, (name,), also=("registered",))
        if self.sha256 is not None and self.version is None:
            expected, help = (
                "sha256 and version identify the same model",
                "Run `rackwright server promote`, which writes both",
            )
            yield Problem("got sha256 and no version", expected, help, ("sha256",))

    def of_version(self, version: str) -> "ServedModel":
        """Return the model with another *version*, which hosts have already, and without the sha256 of this one."""
        return self if version == self.version else self.model_copy(update={"version": version, "sha256": None})


class Gate(Schema):
    """Requirements for the model's own report before it serves."""

    accuracy_kept: Annotated[float, Field(ge=0)] | None = 0.98
    """Minimum share of the original's accuracy, in the report of `python -m workloads.quantize`; null waives it, as a
    language model needs, which has no such report."""

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the fields, null included: a dump without null would have the default again."""
        return {"accuracy_kept": None} if self.accuracy_kept is None else dump(self)


class Canary(Schema):
    """Labelled rows that each host's server must answer before the next host changes."""

    data: Below
    """NumPy file (.npz) below the project's directory: an array for each input, by its name, and `labels`."""
    accuracy: Annotated[float, Field(gt=0, le=1)]
    """Minimum share of correct answers."""
    every: Every | None = None
    """Interval between checks while a release serves, such as 15min or 6h; no checks by default."""
    change: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Change of the share of correct answers within a day, up or down, above which it is reported."""
    roll_back: bool = False
    """Return to the previous release automatically if the share of correct answers falls below `accuracy`."""

    @model_validator(mode="after")
    def _is_watched(self) -> Self:
        if self.every is None:
            names = [name for name in ("change", "roll_back") if name in self.model_fields_set]
            expected = "without every there are no checks between rollouts"
            raise_any(
                Problem(f"got {name} and no every", expected, f"Add every: 15min, or remove {name}", (name,))
                for name in names
            )
        return self

    @property
    def every_seconds(self) -> int | None:
        return None if self.every is None else parse_time(self.every)


QUOTAS = ("requests_per_minute", "tokens_per_minute", "tokens_per_day")


TOKENS_MAX = 10**12
"""Largest number of tokens in a day: one host does not reach it."""


class ServerKey(Schema):
    """A key of the server's clients."""

    secret: Annotated[str, AfterValidator(_secret_name)]
    """Name of the secret with the key, at least 32 random characters."""
    scopes: Many[Literal["infer", "read", "metrics", "exchange"]] = ("infer", "read")
    """Permissions: query the model (`infer`), read its description (`read`), read metrics (`metrics`), and for a
    router in front of servers with `vllm.kv_transfer`, lead the cache of any prompt between them (`exchange`)."""
    requests_per_minute: Count | None = None
    """The most requests to the model in a minute, over all hosts: each allows an equal part; no limit by default."""
    tokens_per_minute: Count | None = None
    """Tokens of prompts and answers in a minute, over all hosts, after which a further request is refused; each host
    allows an equal part. No limit by default."""
    tokens_per_day: Annotated[int, Field(ge=1, le=TOKENS_MAX)] | None = None
    """Tokens of prompts and answers in a day in UTC, over all hosts: each allows an equal part; no limit by default."""

    @property
    def quotas(self) -> dict[str, int]:
        """The declared limits, by their names in the server's file of keys."""
        limits = {name: getattr(self, name) for name in QUOTAS}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def quotas_of(self, number: int, servers: int) -> dict[str, int]:
        """Return the part of each limit for one of several servers.

        Args:
            number: The number of this server, from 0. The first ones get what is left of the division.
            servers: The servers that answer clients.
        """
        return {name: limit // servers + (number < limit % servers) for name, limit in self.quotas.items()}


class Tls(Schema):
    """HTTPS instead of HTTP."""

    certificate: Key
    """Certificate with its chain, PEM: `{secret: NAME}`."""
    key: Key
    """Private key, PEM: `{secret: NAME}`."""


class Server(Schema):
    """A model that several hosts serve independently; role `load_balancer` distributes the requests."""

    model: ServedModel
    """The model."""
    hosts: Many[str] = ()
    """Hosts of the used fleet, in the order of their changes."""
    group: str | None = None
    """Group whose hosts are taken instead of `hosts`, in the order of the fleet."""
    on: On = "hosts"
    """Carrier of the server: `hosts` for units of the hosts, `kubernetes` for pods of their cluster."""
    pods: Pods | None = None
    """Pods of a server on Kubernetes."""
    listen: Literal["fabric", "everywhere"] = "fabric"
    """Addresses to listen on: the host's fabric address, or all its addresses."""
    port: Annotated[int, Field(ge=1024, le=65535)] = 8080
    """Port, the same on all hosts."""
    grpc_port: Annotated[int, Field(ge=1024, le=65535)] | None = None
    """Port for KServe's protocol over gRPC, which Triton's clients speak by default, on the same addresses and with the
    same keys; for models that take arrays. Without it there is HTTP alone."""
    keys: dict[Name, ServerKey] = Field(default_factory=dict)
    """Keys of the clients, by the client's name in the log."""
    anybody: bool = False
    """Serve without keys."""
    tls: Tls | None = None
    """Certificate and key for HTTPS; HTTP by default."""
    gate: Gate = Gate()
    """Requirements for the model's report."""
    canary: Canary | None = None
    """Check of the model on each host."""
    environment: Environment | None = None
    """Python environment of the server; by default that of role `workloads`, else ``/opt/serving``."""
    ready_seconds: Count = 120
    """Seconds until a server must be ready."""
    vllm: Vllm | None = None
    """Layout and options of vLLM, for a model that vLLM serves."""
    variables: ProcessVariables = Field(default_factory=dict)
    """Environment variables of the processes that tune communication, memory, logs and kernels. The list of
    their names is docs/reference/variables.md. They are no place for secrets."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings, in the form of `python -m workloads.serving MODEL --print`."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        raise_any(_problems(self))
        return self

    @property
    def gpu_layers(self) -> int:
        """Layers that llama.cpp computes on GPUs."""
        layers = self.set.get("gpu_layers", 0)
        return layers if isinstance(layers, int) else 0

    def members(self, hosts: Mapping[str, Host]) -> tuple[str, ...]:
        """Return the hosts of the server, in the order of their changes."""
        return placement.members(self, hosts)

    def alone_on(self, host: str) -> "Server":
        """Return the server as *host* alone has it."""
        return self.model_copy(update={"hosts": (host,), "group": None})

    def address(self, host: Host) -> str:
        """Return the address that the server listens on; empty if the host has no fabric."""
        return EVERYWHERE if self.listen == "everywhere" else (address(host) or "").split("/")[0]

    def url(self, host: Host) -> str:
        """Return the URL at which clients reach the server on *host*."""
        name = host.address if self.listen == "everywhere" else self.address(host)
        return f"http{'s' if self.tls else ''}://{f'[{name}]' if ':' in name else name}:{self.port}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the secrets that the server's own fields reference."""
        tls = (self.tls.certificate, self.tls.key) if self.tls else ()
        return (*(key.secret for key in self.keys.values()), *(str(each["secret"]) for each in tls))


def _problems(server: Server) -> Iterator[Problem]:
    yield from placement.problems(server, "a server", "a host serves it once", "Remove one of them")
    every = {"canary": server.canary and server.canary.every}
    refused = {"tls": server.tls, "keys": server.keys, **every}
    yield from on_pods.own_problems(server, "a server", refused)
    if server.on == "kubernetes" and server.vllm:
        yield from pod_problems(server.vllm)
        if server.pods and server.pods.autoscale:
            expected = "the load of vLLM on GPUs does not show in the use of processors"
            yield Problem("got autoscale with vllm", expected, "Remove autoscale", ("pods", "autoscale"))
    if server.on == "kubernetes" and server.model.tier:
        expected, help = "the model of a server on Kubernetes is on this computer", "Remove tier, or write on: hosts"
        yield Problem("got tier with on: kubernetes", expected, help, ("model", "tier"))
    if server.grpc_port == server.port:
        expected = "HTTP and gRPC have different ports"
        yield Problem(f"got port {server.port} twice", expected, "Choose another port", ("grpc_port",))
    if server.grpc_port is not None and server.vllm:
        expected = "KServe's protocol is for models that take arrays, which vLLM does not serve"
        yield Problem("got grpc_port and vllm", expected, "Remove grpc_port", ("grpc_port",))
    if server.anybody == bool(server.keys):
        problem = "got keys and anybody" if server.keys else "got no keys"
        expected = "a server has keys, or serves anybody"
        yield Problem(problem, expected, "Write keys: {NAME: {secret: NAME}}, or anybody: true")
    if OWN in server.keys:
        expected = "that is the name of the key with which a host queries its own server"
        yield Problem(f"got {OWN}", expected, "Choose another name", ("keys", OWN))
    if server.vllm and server.vllm.tensor_parallel is not None and "tensor_parallel" in server.set:
        expected = "vllm has the number of GPUs already"
        yield Problem("got tensor_parallel twice", expected, "Remove it", ("set", "tensor_parallel"))
    for name in RESERVED:
        if name in server.set:
            expected = "it follows from the server: its hosts, port, keys, tls, canary, vllm, variables and grpc_port"
            yield Problem(f"got {name}", expected, "Remove it", ("set", name))


def settings(server: Server, host: str, **more: Any) -> "ServingSettings":
    """Return the settings of *server* on the address *host*, with *more*.

    Raises:
        ValidationError: a value of `set` is invalid.
    """
    from workloads.serving.settings import ServingSettings

    own = {"grpc_port": server.grpc_port} if server.grpc_port is not None else {}
    values = {**server.set, **own, "host": host, "port": server.port, "anybody": server.anybody, **more}
    if server.variables:
        values["variables"] = server.variables
    if server.vllm:
        values["vllm"] = server.vllm.settings
    return ServingSettings.model_validate_json(json.dumps(values))


def problems(
    servers: Mapping[str, Server], hosts: Mapping[str, Host], clusters: Mapping[Name, Cluster]
) -> Iterator[Problem]:
    """Yield the problems of *servers* on *hosts* and their *clusters*; paths are relative to the servers."""
    for name, server in servers.items():
        if len(name) > NAME_MAX:
            expected = f"the name, which is part of an account's name, has {NAME_MAX} characters at most"
            yield Problem(f"got the name {name!r}", expected, "Shorten it", (name,))
        members = [member for member in server.members(hosts) if member in hosts]
        for problem in (
            *placement.unknown_hosts(server, hosts),
            *_host_problems(server, hosts, members),
            *_replica_problems(server, members),
            *_quota_problems(server, members),
            *_layer_problems(server, hosts, members),
            *_set(server),
            *on_pods.problems(server, tuple(members), clusters),
            *_group_problems(server, tuple(members), clusters),
        ):
            yield problem.below(name)
    yield from kv_exchange.problems(servers, hosts)
    yield from cache_memory.problems(servers, hosts)
    yield from _port_problems(servers, hosts)


def _host_problems(server: Server, hosts: Mapping[str, Host], members: list[str]) -> Iterator[Problem]:
    place: Keys = ("group",) if server.group is not None else ("hosts",)
    for member in members:
        has_replicas = server.vllm is not None and (server.vllm.replica_hosts > 1 or bool(server.vllm.kv_transfer))
        if server.on == "hosts" and (server.listen == "fabric" or has_replicas) and address(hosts[member]) is None:
            help = f"Declare network: {{}} at {member} or its group, and addresses of its port"
            help += "" if has_replicas else ", or write listen: everywhere"
            yield Problem(f"got {member}", "it has no fabric: no network with addresses is declared", help, place)
        tier = server.model.tier
        if tier is not None and tier not in hosts[member].tiers:
            expected = f"tiers of {member}: {', '.join(hosts[member].tiers) or 'none'}"
            help = f"Declare tier {tier} on {member}, or remove {member} from the server"
            yield Problem(f"got {tier!r}", expected, help, ("model", "tier"))


def _replica_problems(server: Server, members: list[str]) -> Iterator[Problem]:
    if server.vllm:
        count = (server.pods and server.pods.count) or len(members)
        yield from replica_problems(server.vllm, count, server.pods is not None, server.port, server.canary is not None)


def _quota_problems(server: Server, members: list[str]) -> Iterator[Problem]:
    """Yield the problems of quotas that are too small for a part at each host that answers clients."""
    servers = len(members) // (server.vllm.replica_hosts if server.vllm else 1)
    for name, key in server.keys.items():
        for quota, limit in key.quotas.items():
            if limit < servers:
                expected = f"{servers} hosts answer clients, and each allows a part of it, at least 1"
                yield Problem(f"got {limit}", expected, f"Write {servers} or more", ("keys", name, quota))


def _layer_problems(server: Server, hosts: Mapping[str, Host], members: list[str]) -> Iterator[Problem]:
    """Yield the problems of a server of llama.cpp that computes layers on GPUs."""
    layers, place = server.gpu_layers, ("set", "gpu_layers")
    if not layers:
        return
    if server.on == "kubernetes":
        expected = "llama.cpp has GPUs on hosts, not in pods"
        yield Problem(f"got {layers} with on: kubernetes", expected, "Write on: hosts, or remove gpu_layers", place)
    elif server.environment is None:
        expected = "llama.cpp of role workloads computes on processors alone"
        help = (
            "Name an environment of the hosts with a build of xllamacpp for their GPUs: environment: {path: /opt/NAME}"
        )
        yield Problem(f"got {layers} and no environment", expected, help, place)
    for member in members:
        if not hosts[member].minimum.gpus:
            help = f"Write gpu_layers: 0, or remove {member} from the server"
            yield Problem(f"got {layers}, and {member} has no GPU", "a GPU on each host", help, place)


def _group_problems(server: Server, members: tuple[str, ...], clusters: Mapping[Name, Cluster]) -> Iterator[Problem]:
    """Yield the problems of a server in pods whose replicas have several of them."""
    found = on_pods.cluster_of(members, clusters) if members else None
    if server.vllm and server.pods and found:
        yield from group_problems(server.vllm, server.pods.team, *found)


def _set(server: Server) -> Iterator[Problem]:
    try:
        settings(server, "127.0.0.1")
    except ValidationError as error:
        help = "See `python -m workloads.serving MODEL --print`"
        from workloads.serving.settings import ServingSettings

        for problem in setting_problems(error, ServingSettings.model_fields, help):
            yield problem if problem.path[:1] == ("vllm",) else problem.below("set")


def _ports(server: Server, hosts: Mapping[str, Host]) -> Iterator[tuple[str, int, Keys]]:
    """Yield the ports of *server* on hosts: the host, the port, and the keys that declare it."""
    ports: dict[int, Keys] = {server.port: ("port",)}
    if server.grpc_port is not None:
        ports[server.grpc_port] = ("grpc_port",)
    if server.vllm:
        ports = {**server.vllm.ports, **ports}
    members = server.members(hosts) if server.on == "hosts" else ()
    yield from ((member, port, keys) for member in members for port, keys in ports.items())


def _port_problems(servers: Mapping[str, Server], hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield a problem for the first port of each server that another server of the host would listen on."""
    first: dict[tuple[str, int], str] = {}
    for name, server in servers.items():
        for member, port, keys in _ports(server, hosts):
            other = first.setdefault((member, port), name)
            if other != name:
                expected, help = "each server of a host has its own port", "Choose another port"
                note = f"server {other} listens there on {member}"
                yield Problem(f"got port {port}", expected, help, (name, *keys), note=note, also=(other,))
                break


def ports_of_runs(
    servers: Mapping[str, Server], runs: Mapping[str, Run], hosts: Mapping[str, Host]
) -> Iterator[Problem]:
    """Yield a problem for the first port of each server that a run of the host listens on; paths as in the fleet."""
    taken = {(member, port): name for name, run in runs.items() for member, port, _ in run_ports(run, hosts)}
    for name, server in servers.items():
        for member, port, keys in _ports(server, hosts):
            if run := taken.get((member, port)):
                expected, help = "runs and servers of a host have different ports", "Choose another port"
                note = f"run {run} listens there on {member}"
                place = ("servers", name, *keys)
                yield Problem(f"got port {port}", expected, help, place, note=note, also=("runs", run))
                break
