"""The resources of a stack's model servers, one on each host, in rollout order."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import file_digest
from pathlib import Path
from typing import Any

from rackwright.errors import DeclarationError, Diagnostic, UserError, command
from rackwright.foreign import open_regular
from rackwright.kinds.model_server import ModelServerKind
from rackwright.kinds.model_server.spec import SLACK_SECONDS, CanaryRows, ExchangePeer, ExchangePlace, ServerSpec
from rackwright.kinds.pods.spec import GRPC_PORT, PORT, RowsPart, ServerPart
from rackwright.kinds.shared.gpu_assignment import GpuAssignment
from rackwright.schema.kv_exchange import exchange_of, fabric_addresses
from rackwright.schema.secret import name_of
from rackwright.schema.server import EVERYWHERE, Server, settings
from rackwright.stack import pods, vllm
from rackwright.stack.adapters import adapters
from rackwright.stack.environment_names import suitable
from rackwright.stack.environments import environment_path
from rackwright.stack.resource import DeclaredResource
from rackwright.stack.stack import Stack
from workloads.quantize import versions
from workloads.serving import model as model_directory
from workloads.serving.fit import Layout
from workloads.serving.model import DamagedModel, Model
from workloads.tracking import registry

GpuAssignments = Mapping[tuple[str, str], GpuAssignment]
"""GPUs of runs and servers, by owner file and host: ``("server-talk", HOST)``."""
LANGUAGE = model_directory.LANGUAGE
"""Runtimes of language models."""
LANGUAGE_SETTINGS = ("gpu_layers", "embeddings")
"""Settings that only servers of language models have, beside vllm."""


def computes_on_gpus(stack: Stack, name: str, server: Server) -> bool:
    """Return whether *server* takes GPUs of its hosts; False if its model is invalid, which `servers` reports."""
    if vllm.computes_on_processors(server):
        return False
    try:
        model = _load_model(stack, name, server)
    except DeclarationError:
        return False
    is_vllm = server.vllm is not None or (model is not None and model.runtime == "vllm")
    return is_vllm or server.gpu_layers > 0


def server_notes(stack: Stack) -> Iterator[str]:
    """Yield notes about the GPUs of language models on hosts; the declaration of *stack* has no errors."""
    for name, server in stack.fleet.servers.items():
        model = _load_model(stack, name, server)
        if model is not None and model.runtime == "vllm":
            yield from vllm.notes(stack, name, server, model)


def servers(stack: Stack, gpus: GpuAssignments, names: Iterable[str]) -> Iterator[DeclaredResource]:
    """Yield the resources of the servers *names*; each host changes only after the one before it is as declared.

    Args:
        gpus: The GPUs of servers, by owner file and host.

    Raises:
        DeclarationError: a model or canary is missing or invalid.
    """
    wrong: list[Diagnostic] = []
    resources: list[DeclaredResource] = []
    common: dict[str, dict[str, Any]] = {}
    placements: dict[str, dict[str, vllm.Placement]] = {}
    layouts: dict[str, Layout | None] = {}
    for name in names:
        server = stack.fleet.servers[name]
        wrong += _gate_problems(name, server)
        try:
            model = _load_model(stack, name, server)
            common[name] = _common(stack, name, server, model)
            _check_settings(name, server, model)
            if server.vllm or (model and model.runtime == "vllm"):
                _check_runtime(name, server, model)
                if server.pods:
                    layouts[name] = vllm.place_in_pods(stack, name, server, model)
                else:
                    placements[name] = vllm.place(stack, name, server, model)
        except DeclarationError as errors:
            wrong += errors.diagnostics
            common.pop(name, None)
    if wrong:
        raise DeclarationError(*wrong)
    for name, fields in common.items():
        server = stack.fleet.servers[name]
        if server.pods:
            part = _part(stack, server, fields, name in layouts, layouts.get(name))
            members = server.members(stack.fleet.hosts)
            resources += pods.resources(stack, members, server.pods, name, fields["environment"], part)
            continue
        before: tuple[str, ...] = ()
        # the leader of a replica is ready only once its workers wait for it
        order = [host for members in vllm.replicas(server, stack.fleet.hosts) for host in (*members[1:], members[0])]
        for host in order:
            placement = placements.get(name, {}).get(host, vllm.Placement())
            spec = _spec(stack, server, host, {**fields, "gpus": gpus.get((f"server-{name}", host))}, placement)
            resources.append(resource := DeclaredResource(ModelServerKind(), spec, before))
            before = (resource.name,)
    yield from resources


def _part(stack: Stack, server: Server, common: dict[str, Any], has_vllm: bool, layout: Layout | None) -> ServerPart:
    """Return the settings of a server in pods.

    Args:
        common: The fields that servers on hosts have in common.
    """
    options, rows = settings(server, EVERYWHERE), common["rows"]
    divided = dict(layout.settings) if layout else {}
    tensor_parallel = divided.pop("tensor_parallel", None)
    of_vllm = {**(server.vllm.settings if server.vllm else {}), **divided}
    replica_pods = server.vllm.replica_hosts if server.vllm else 1
    return ServerPart(
        vllm=has_vllm,
        replica_pods=replica_pods,
        replica_port=server.vllm.port if server.vllm and replica_pods > 1 else 0,
        lease_secret=name_of(stack.fleet.key) if replica_pods > 1 else None,
        settings={
            **server.set,
            **({"tensor_parallel": tensor_parallel} if tensor_parallel else {}),
            **({"vllm": of_vllm} if of_vllm else {}),
            **({"variables": server.variables} if server.variables else {}),
            "host": EVERYWHERE,
            "port": PORT,
            **({"grpc_port": GRPC_PORT} if server.grpc_port is not None else {}),
            "anybody": server.anybody,
        },
        port=server.port,
        grpc_port=server.grpc_port,
        model=common["model"],
        version=common["version"],
        source=common.get("source"),
        files=common.get("files", {}),
        accuracy_kept=server.gate.accuracy_kept,
        rows=RowsPart(**rows.model_dump(), accuracy=server.canary.accuracy) if rows and server.canary else None,
        ready_seconds=server.ready_seconds,
        stop_seconds=round(options.drain_seconds) + options.stop_seconds + SLACK_SECONDS,
    )


def _gate_problems(name: str, server: Server) -> Iterator[Diagnostic]:
    """Yield the problem of a gate that no model of *server* can pass, also before there is one."""
    setting = "vllm" if server.vllm else next((each for each in LANGUAGE_SETTINGS if server.set.get(each)), None)
    kept = server.gate.accuracy_kept
    if setting is not None and kept is not None:
        default = "" if "accuracy_kept" in server.gate.model_fields_set else ", the default,"
        problem = f"got {kept:g}{default} for a server with {setting}, which serves language models"
        place = f"servers.{name}.gate.accuracy_kept"
        yield Diagnostic(place, problem, model_directory.NO_REPORT, model_directory.WAIVE)


def _check_settings(name: str, server: Server, model: Model | None) -> None:
    """Raise an error for settings that do not fit the model: of llama.cpp at another runtime, or too long a text."""
    for setting in LANGUAGE_SETTINGS:
        if server.set.get(setting) and model and model.runtime != "llama.cpp":
            problem, expected = f"got a model of {model.runtime}", "this setting is for models of llama.cpp"
            raise _only(f"servers.{name}.set.{setting}", problem, expected, f"Remove {setting}")
    tokens, most = server.set.get("context_tokens"), model.lineage.get("context_tokens") if model else None
    if isinstance(most, int) and isinstance(tokens, int) and tokens > most:
        expected, help = f"at most {most}, the context of the model", f"Set context_tokens to {most}"
        raise _only(f"servers.{name}.set.context_tokens", f"got {tokens}", expected, help)
    code = model.lineage.get("code_sha256") if model and model.runtime == "vllm" else None
    declared = server.vllm.code_sha256 if server.vllm else None
    if model and code != declared:
        place = f"servers.{name}.vllm" + (".code_sha256" if declared else "")
        if code is None:
            raise _only(place, "got a digest, and the model has no code of its own", "no digest", "Remove code_sha256")
        problem, expected = f"got {declared or 'no code_sha256'}", f"the digest of the model's own code, {code}"
        names = ", ".join(sorted(each for each in model.files if each.endswith(".py")))
        raise _only(place, problem, expected, f"Read {names} of the model, and write code_sha256: {code}")


def _check_runtime(name: str, server: Server, model: Model | None) -> None:
    if model and model.runtime != "vllm":
        problem, expected = f"got vllm and a model of {model.runtime}", "these settings are for models of vLLM"
        raise _only(f"servers.{name}.vllm", problem, expected, "Remove vllm")


def _common(stack: Stack, name: str, server: Server, model: Model | None) -> dict[str, Any]:
    """Return the fields of the spec that are equal on all hosts of a server."""
    members = server.members(stack.fleet.hosts)
    runs_vllm = server.vllm is not None or (model is not None and model.runtime == "vllm")
    names = suitable(server, runs_vllm)
    environment = environment_path(stack, server.environment, members, names, "/opt/serving")
    return {
        "fleet": stack.fleet.fleet,
        "name": name,
        **_model(stack, server, model),
        "adapters": adapters(stack, name, server),
        "rows": _canary_rows(stack, name, server),
        "key": name_of(stack.fleet.key),
        # the model may be one that this computer does not have
        "runs_vllm": runs_vllm or environment.rpartition("/")[2].startswith("vllm"),
        "environment": environment,
    }


def _spec(stack: Stack, server: Server, host: str, common: dict[str, Any], placement: vllm.Placement) -> ServerSpec:
    machine = stack.fleet.hosts[host]
    tier = server.model.tier
    layout = dict(placement.layout.settings) if placement.layout else {}
    leaders = [leader for leader, *_ in vllm.replicas(server, stack.fleet.hosts)]
    number = leaders.index(host) if host in leaders else None
    quotas = {} if number is None else {name: key.quotas_of(number, len(leaders)) for name, key in server.keys.items()}
    return ServerSpec(
        host=host,
        not_rehearsable=stack.not_rehearsable(host),
        identity=dict([machine.identity.strongest]),
        declared=server.alone_on(host),
        address=server.address(machine),
        interface=machine.fabric if server.listen == "fabric" else None,
        mount=machine.tiers[tier].mount if tier else None,
        tensor_parallel=layout.pop("tensor_parallel", None),
        layout=layout,
        replica=placement.replica,
        exchange=_exchange(stack, server, host),
        partners=_partners(stack, server, host),
        quotas={name: limits for name, limits in quotas.items() if limits},
        **common,
    )


def _exchange(stack: Stack, server: Server, host: str) -> ExchangePlace | None:
    """Return the place of *host* in the exchange of caches of *server*."""
    transfer, hosts = exchange_of(server), stack.fleet.hosts
    if transfer is None:
        return None
    peers = []
    for name in transfer.peers:
        peer = stack.fleet.servers[name]
        assert peer.vllm is not None
        ports = peer.vllm.exchange_ports
        for address in fabric_addresses(peer, hosts):
            peers.append(ExchangePeer(address=address, port=ports.start, ranks=len(ports)))
    [own] = fabric_addresses(server.alone_on(host), hosts)
    return ExchangePlace(address=own, peers=tuple(peers))


def _partners(stack: Stack, server: Server, host: str) -> tuple[str, ...]:
    """Return the names of the servers on *host* with which *server* exchanges caches."""
    transfer, hosts = exchange_of(server), stack.fleet.hosts
    peers = transfer.peers if transfer else ()
    return tuple(name for name in peers if host in stack.fleet.servers[name].members(hosts))


def _load_model(stack: Stack, name: str, server: Server) -> Model | None:
    """Return the model if its files are on this computer; None if the hosts have them."""
    wanted = server.model
    if wanted.registered is not None:
        return _load_registered(stack, name, server)
    if wanted.path is None or wanted.tier is not None:
        return None
    place = f"servers.{name}.model.path"
    try:
        model = model_directory.read(stack.project / wanted.path)
    except UserError as error:
        if wanted.version is not None:
            return None  # the hosts may have it already
        program = "workloads.serving.vllm MODEL --name NAME" if server.vllm else "workloads.quantize …"
        publish = command(f"python -m {program} --out {{}}", wanted.path)
        other = "" if server.vllm else ", a language model with `python -m workloads.serving.gguf FILE.gguf …`"
        help = f"Publish a model there with {publish}{other}, or declare its version"
        problem, expected = (
            f"got no model in {wanted.path} ({_format_error(error)})",
            "the server gets its model from there",
        )
        raise _only(place, problem, expected, help) from None
    if wanted.version is not None and model.version != wanted.version:
        return None
    try:
        model_directory.check_files((stack.project / wanted.path).resolve(), model)
    except DamagedModel as error:
        help = "Publish the model again, with --replace: its files are copies"
        raise DeclarationError(replace(error.diagnostic, where=place, help=help)) from None
    return _check_model(name, place, server, model)


def _load_registered(stack: Stack, name: str, server: Server) -> Model | None:
    """Return the promoted model of the registry; None if this computer has not fetched it."""
    wanted, place = server.model, f"servers.{name}.model.registered"
    if wanted.version is None:
        expected = "a name of the registry may point to another model later, so a fleet declares version and sha256"
        promote = command("rackwright server promote {} {}", stack.name, name)
        help = f"Run {promote}, which writes version and sha256 beside it"
        raise _only(place, f"got {wanted.registered} and no version", expected, help)
    directory = _directory(stack, server)
    if directory is None:
        return None
    model = model_directory.read(directory)
    if model.version != wanted.version:
        problem, expected = f"got version {wanted.version}", f"the model with that sha256 is version {model.version}"
        help = f"Run {command('rackwright server promote {} {}', stack.name, name)}, which writes both"
        raise _only(f"servers.{name}.model.version", problem, expected, help)
    return _check_model(name, place, server, model)


def _directory(stack: Stack, server: Server) -> Path | None:
    """Return the directory for the model of *server* on this computer, whether or not it exists."""
    wanted = server.model
    if wanted.path is not None:
        return (stack.project / wanted.path).resolve()
    return None if wanted.sha256 is None else versions.find_local(wanted.sha256, registry.cache_directory())


def _check_model(name: str, place: str, server: Server, model: Model) -> Model:
    """Return *model*, which passes the server's gate and suits its canary."""
    _check_gate(place, server, model)
    if model.runtime in LANGUAGE and server.canary is not None:
        problem, expected = (
            f"got rows for {model.name}, a language model",
            "labelled rows are for models that take arrays",
        )
        raise _only(f"servers.{name}.canary", problem, expected, "Remove canary")
    return model


def _model(stack: Stack, server: Server, model: Model | None) -> dict[str, Any]:
    """Return the model's name and version, and the digests of its files if they are on this computer."""
    directory = _directory(stack, server)
    if model is None or directory is None:
        return {"model": "", "version": server.model.version}
    files = {file: entry.sha256 for file, entry in sorted(model.files.items())}
    with open_regular(directory / model_directory.NAME) as file:
        files[model_directory.NAME] = file_digest(file, "sha256").hexdigest()
    return {"model": model.name, "version": model.version, "source": str(directory), "files": files}


def _check_gate(place: str, server: Server, model: Model) -> None:
    """Return if the model's report meets the declared gate; raise DeclarationError otherwise."""
    try:
        model_directory.check_accuracy(model, server.gate.accuracy_kept)
    except UserError as error:
        help = "Publish a better model, or lower `gate.accuracy_kept` of the server, which audits report"
        if model.runtime in LANGUAGE:
            help = error.diagnostic.help
        raise DeclarationError(replace(error.diagnostic, where=place, help=help)) from None


def _canary_rows(stack: Stack, name: str, server: Server) -> CanaryRows | None:
    canary = server.canary
    if canary is None:
        return None
    path = (stack.project / canary.data).resolve()
    try:
        with open_regular(path) as file:
            digest = file_digest(file, "sha256").hexdigest()
    except OSError as error:
        problem, expected = f"got {canary.data}: {error.strerror}", "the file has the canary's rows"
        raise _only(f"servers.{name}.canary.data", problem, expected, "Correct the path, or write the file") from None
    return CanaryRows(source=str(path), sha256=digest)


def _format_error(error: UserError) -> str:
    return error.diagnostic.problem.removeprefix("got ")


def _only(where: str, problem: str, expected: str, help: str) -> DeclarationError:
    return DeclarationError(Diagnostic(where, problem, expected, help))
