"""The model servers of a stack as resources: one on each host, each after the one before it."""

import json
from collections.abc import Iterator, Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from rackwright.errors import DeclarationError, DeclarationErrors, command
from rackwright.kinds.model_server import ModelServerKind
from rackwright.kinds.model_server.spec import CanaryPart, KeyPart, ServerSpec, WatchPart
from rackwright.schema.secret import name_of
from rackwright.schema.server import Server, settings
from rackwright.stack import vllm
from rackwright.stack.environments import place
from rackwright.stack.resource import Declared
from rackwright.stack.stack import Stack
from workloads.errors import WorkloadError
from workloads.quantize import versions
from workloads.serving import model as published
from workloads.serving.model import Model
from workloads.tracking import registry

LANGUAGE = ("llama.cpp", "vllm")
"""Runtimes of language models."""
SLACK_SECONDS = 15
"""Beyond what a server itself allows for its end."""


def servers(stack: Stack) -> Iterator[Declared]:
    """Yield the resources of every server: a host changes only when the one before it is as declared.

    Raises:
        DeclarationErrors: a model or canary is not there, or not as it has to be.
    """
    wrong: list[DeclarationError] = []
    resources: list[Declared] = []
    divided: dict[str, dict[str, int]] = {}
    for name, server in stack.fleet.servers.items():
        try:
            found = _found(stack, name, server)
            common = _common(stack, name, server, found)
            if found and found.runtime == "vllm":
                divided[name] = vllm.divided(stack, name, server, found)
        except DeclarationErrors as errors:
            wrong += errors.errors
            continue
        before: tuple[str, ...] = ()
        for host in server.members(stack.fleet.hosts):
            declared = Declared(ModelServerKind.token, _spec(stack, server, host, common, divided.get(name)), before)
            resources.append(declared)
            before = (declared.name,)
    if wrong := [*wrong, *vllm.once(divided)]:
        raise DeclarationErrors(wrong)
    yield from resources


def _common(stack: Stack, name: str, server: Server, found: Model | None) -> dict[str, Any]:
    """Return what all hosts of a server are told alike."""
    told = settings(server, "127.0.0.1")
    members = server.members(stack.fleet.hosts)
    tls = server.tls
    return {
        "fleet": stack.fleet.fleet,
        "name": name,
        "port": server.port,
        **_model(stack, server, found),
        "accuracy_kept": server.gate.accuracy_kept,
        "canary": _canary(stack, name, server),
        "keys": tuple(
            KeyPart(name=who, secret=key.secret, scopes=key.scopes) for who, key in sorted(server.keys.items())
        ),
        "tls_certificate": name_of(tls.certificate) if tls else None,
        "tls_key": name_of(tls.key) if tls else None,
        "key": name_of(stack.fleet.key),
        "environment": place(stack, server.environment, members, ["serving", "training"], "/opt/serving"),
        "ready_seconds": server.ready_seconds,
        "stop_seconds": round(told.drain_seconds) + told.stop_seconds + SLACK_SECONDS,
    }


def _spec(
    stack: Stack, server: Server, host: str, common: dict[str, Any], divided: Mapping[str, int] | None
) -> ServerSpec:
    declared = stack.fleet.hosts[host]
    tier = server.model.tier
    mount = declared.tiers[tier].mount if tier else None
    more = {"tensor_parallel": divided[host]} if divided else {}
    return ServerSpec(
        host=host,
        not_rehearsable=stack.not_rehearsable(host),
        identity=dict([declared.identity.strongest]),
        address=server.address(declared),
        interface=declared.fabric if server.listen == "fabric" else None,
        mount=mount,
        below=f"{mount}/{server.model.path}" if mount else None,
        settings=json.dumps({**server.set, **more}, sort_keys=True),
        **common,
    )


def _found(stack: Stack, name: str, server: Server) -> Model | None:
    """Return the model where its files are on this computer; None where the hosts have them."""
    wanted = server.model
    if wanted.registered is not None:
        return _registered(stack, name, server)
    if wanted.path is None or wanted.tier is not None:
        return None
    place = f"servers.{name}.model.path"
    try:
        found = published.read(stack.project / wanted.path)
    except WorkloadError as error:
        if wanted.version is not None:
            return None  # the hosts may have it already
        publish = command("python -m workloads.quantize … --out {}", wanted.path)
        fix = f"Publish one there with {publish}, or name its version"
        raise _only(place, f"got no model in {wanted.path} ({_said(error)})", "it is served from there", fix) from None
    if wanted.version is not None and found.version != wanted.version:
        return None
    return _fit(name, place, server, found)


def _registered(stack: Stack, name: str, server: Server) -> Model | None:
    """Return the registered model that was promoted, where this computer has fetched it."""
    wanted, place = server.model, f"servers.{name}.model.registered"
    if wanted.version is None:
        want = "what a name of the registry means may change, so a fleet says which model it was"
        promote = command("rackwright server promote {} {}", stack.name, name)
        fix = f"Run {promote}, which writes version and sha256 beside it"
        raise _only(place, f"got {wanted.registered} and no version", want, fix)
    directory = _directory(stack, server)
    if directory is None:
        return None
    found = published.read(directory)
    if found.version != wanted.version:
        got, want = f"got version {wanted.version}", f"the model with that sha256 is version {found.version}"
        fix = f"Run {command('rackwright server promote {} {}', stack.name, name)}, which writes both"
        raise _only(f"servers.{name}.model.version", got, want, fix)
    return _fit(name, place, server, found)


def _directory(stack: Stack, server: Server) -> Path | None:
    """Return where its model would be on this computer."""
    wanted = server.model
    if wanted.path is not None:
        return (stack.project / wanted.path).resolve()
    return None if wanted.sha256 is None else versions.here(wanted.sha256, registry.kept())


def _fit(name: str, place: str, server: Server, found: Model) -> Model:
    """Return *found*, which is as good as the server asks and of a sort that it can judge."""
    _gated(place, server, found)
    if found.runtime in LANGUAGE and server.canary is not None:
        got, want = f"got rows for {found.name}, a language model", "rows with labels are for models that take arrays"
        raise _only(f"servers.{name}.canary", got, want, "Take it out")
    return found


def _model(stack: Stack, server: Server, found: Model | None) -> dict[str, Any]:
    """Return which model it is, and its files where they are on this computer."""
    directory = _directory(stack, server)
    if found is None or directory is None:
        return {"model": "", "version": server.model.version}
    files = {file: told.sha256 for file, told in sorted(found.files.items())}
    files[published.NAME] = sha256((directory / published.NAME).read_bytes()).hexdigest()
    return {"model": found.name, "version": found.version, "source": str(directory), "files": files}


def _gated(place: str, server: Server, found: Model) -> None:
    """Return if the model's report says that it keeps what the declaration wants."""
    try:
        published.check_accuracy(found, server.gate.accuracy_kept)
    except WorkloadError as error:
        fix = "Publish a better one, or lower `gate.accuracy_kept` of the server, which an audit then shows"
        raise _only(place, str(error.got), error.want, fix) from None


def _canary(stack: Stack, name: str, server: Server) -> CanaryPart | None:
    canary = server.canary
    if canary is None:
        return None
    path = (stack.project / canary.data).resolve()
    try:
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
    except OSError as error:
        got, want = f"got {canary.data}: {error.strerror}", "its rows are read from there"
        raise _only(f"servers.{name}.canary.data", got, want, "Correct the path, or write the file") from None
    watch = None
    if canary.every_seconds is not None:
        watch = WatchPart(every_seconds=canary.every_seconds, change=canary.change, roll_back=canary.roll_back)
    return CanaryPart(source=str(path), sha256=digest, accuracy=canary.accuracy, watch=watch)


def _said(error: WorkloadError) -> str:
    return str(error.got).removeprefix("got ")


def _only(where: str, got: str, want: str, fix: str) -> DeclarationErrors:
    return DeclarationErrors([DeclarationError(where, got, want, fix)])
