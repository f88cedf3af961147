"""The files of a server on one of its hosts, and the name of a release, which follows from model, settings and code."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from rackwright.core.derived_key import derive_key
from rackwright.core.repository import Repository
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.kinds.shared import firewall
from rackwright.kinds.shared.service_account import UNITS, ServiceFile
from rackwright.schema.secret import CLIENT_KEY_SHORTEST, name_of
from rackwright.schema.server import OWN


def files(spec: ServerSpec, repository: Repository) -> Iterator[ServiceFile]:
    """Yield the files of *spec*: the plan file, keys and certificate, the release, the units."""
    yield ServiceFile(plan_file(spec), _json(_plan(spec)))
    yield from _secret_files(spec, repository)
    release = f"{spec.lib}/releases/{release_of(spec, repository)}"
    yield ServiceFile(f"{release}/settings.json", _json(settings_of(spec)))
    yield ServiceFile(f"{release}/release.json", _json(_release(spec)))
    yield ServiceFile(f"{release}/workloads.zip", repository.workloads)
    if spec.adapters:
        yield ServiceFile(spec.adapters_file, _json(_adapters(spec)))
    if spec.firewall:
        yield ServiceFile(spec.firewall.path, firewall.text(spec.firewall, repository))
    unit = repository.render(f"model_server{UNITS}/server.service.j2", server=spec)
    yield ServiceFile(f"{UNITS}/{spec.unit}", unit, 0o644)
    if spec.watch:
        for path in watch_files(spec):
            template = f"model_server{UNITS}/watch.{path.rpartition('.')[2]}.j2"
            text = repository.render(template, server=spec, plan=plan_file(spec), archive=f"{release}/workloads.zip")
            yield ServiceFile(path, text, 0o644)


def plan_file(spec: ServerSpec) -> str:
    """Return the path of the plan file, with which the host queries and checks its own server."""
    return f"{spec.etc}/server.json"


def files_at_start(spec: ServerSpec, repository: Repository) -> list[str]:
    """Return the paths of the files that the server reads once, when it starts.

    A release has another directory after each change, and the rules of the kernel are claimed themselves.
    """
    once = {f"{UNITS}/{spec.unit}", *(f"{spec.etc}/{name}" for name in ("keys.json", "tls.crt", "tls.key"))}
    once |= {spec.lease_key} if spec.replica else set()
    return [file.path for file in files(spec, repository) if file.path in once]


def watch_files(spec: ServerSpec) -> list[str]:
    """Return the paths of the watch's units, whether or not the server has a watch."""
    return [f"{UNITS}/{unit}" for unit in spec.watch_units]


def release_of(spec: ServerSpec, repository: Repository) -> str:
    """Return the name of the declared release: another model, other settings, rows or code give another name."""
    code = hashlib.sha256(repository.workloads).hexdigest()
    parts = json.dumps([_release(spec), settings_of(spec), code, spec.environment], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:12]


def settings_of(spec: ServerSpec) -> dict[str, Any]:
    """Return the settings that `workloads.serving` reads."""
    settings = {**spec.settings, "host": spec.address, "port": spec.declared.port, "anybody": not spec.keys}
    settings["own_socket"] = spec.socket
    if spec.declared.grpc_port is not None:
        settings["grpc_port"] = spec.declared.grpc_port
    if spec.keys:
        settings["keys"] = f"{spec.etc}/keys.json"
    if spec.quota_counts:
        settings["quota_counts"] = spec.quota_counts
    if spec.declared.tls:
        settings |= {"tls_certificate": f"{spec.etc}/tls.crt", "tls_key": f"{spec.etc}/tls.key"}
    if spec.watch_file:
        settings["watch"] = spec.watch_file
    return settings


def short_keys(spec: ServerSpec, repository: Repository) -> list[str]:
    """Return the secrets that are too short for a key: a short key could be guessed from its digest on the host."""
    lengths = {key.secret: len(repository.secrets.get(key.secret, "")) for key in spec.keys.values()}
    return [name for name, length in lengths.items() if 0 < length < CLIENT_KEY_SHORTEST]


def _secret_files(spec: ServerSpec, repository: Repository) -> Iterator[ServiceFile]:
    secrets = repository.secrets
    if spec.keys:
        own_key = _own_key(spec, repository)
        yield ServiceFile(f"{spec.etc}/own_key", own_key, 0o600, secret=spec.key)
        client_keys = [
            (name, secrets.get(key.secret), key.scopes, spec.quotas.get(name, {})) for name, key in spec.keys.items()
        ]
        keys = [*client_keys, (OWN, own_key, ("infer", "metrics", "read"), {})]
        entries = [
            {"name": name, "sha256": hashlib.sha256(value.encode()).hexdigest(), "scopes": scopes, **quotas}
            for name, value, scopes, quotas in keys
            if value is not None
        ]
        content = json.dumps(entries, indent=1) + "\n" if len(entries) == len(keys) else None
        names = dict.fromkeys([spec.key, *(key.secret for key in spec.keys.values())])
        yield ServiceFile(f"{spec.etc}/keys.json", content, secret=", ".join(names))
    if spec.replica:
        yield ServiceFile(spec.lease_key, _lease_key(spec, repository), 0o600, secret=spec.key)
    if tls := spec.declared.tls:
        for name, key in (("tls.crt", tls.certificate), ("tls.key", tls.key)):
            secret = name_of(key)
            value = secrets.get(secret)
            yield ServiceFile(f"{spec.etc}/{name}", None if value is None else value.strip() + "\n", secret=secret)


def _own_key(spec: ServerSpec, repository: Repository) -> str | None:
    """Return the key with which the host queries its own server; each host has another one."""
    return derive_key(repository, spec.key, ["rackwright model server", spec.fleet, spec.name, spec.host])


def _lease_key(spec: ServerSpec, repository: Repository) -> str | None:
    """Return the key with which the hosts of a replica sign their leases; each replica has another one."""
    assert spec.replica is not None
    purpose = ["rackwright replica leases", spec.fleet, spec.name, *spec.replica.addresses]
    return derive_key(repository, spec.key, purpose)


def _plan(spec: ServerSpec) -> dict[str, Any]:
    """Return the content of the plan file, which `workloads.serving.switch`, the watch and the probe read."""
    plan: dict[str, Any] = {
        "name": spec.name,
        "unit": spec.unit,
        "lib": spec.lib,
        "socket": spec.socket,
        "account": spec.account,
        "key": f"{spec.etc}/own_key" if spec.keys else None,
        "ready_seconds": spec.declared.ready_seconds,
    }
    if watch := spec.watch:
        terms = {"every_seconds": watch.every_seconds, "change": watch.change, "roll_back": watch.roll_back}
        plan |= {"watch": terms, "watch_seconds": spec.watch_seconds}
    return plan


def _adapters(spec: ServerSpec) -> dict[str, Any]:
    """Return the content of the file with the adapters, in the form of `vllm.adapters` of `workloads.serving`."""
    return {
        name: {"directory": spec.adapter_directory(name), "sha256": adapter.sha256, "rank": adapter.rank}
        for name, adapter in spec.adapters.items()
    }


def _release(spec: ServerSpec) -> dict[str, Any]:
    declared = spec.declared.canary
    canary = {"data": spec.data, "accuracy": declared.accuracy} if declared else None
    return {"version": spec.version, "canary": canary}


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
