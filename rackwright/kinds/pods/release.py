"""The files of a run or server for its pods; another release is another directory, so that running pods keep theirs."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from rackwright.core.derived_key import derive_key
from rackwright.core.repository import Repository
from rackwright.kinds.pods import mounts
from rackwright.kinds.pods.spec import PodFilesSpec, RunPart, ServerPart, WorkloadPart
from rackwright.kinds.shared.service_account import ServiceFile

INTERFACE = "eth0"
"""The interface of a pod, as role kubernetes_node lets CNI name it."""
ARCHIVE = "workloads.zip"


def release_of(workload: WorkloadPart, repository: Repository) -> str:
    """Return the name of the declared release: other settings, another model or other code give another name."""
    code = hashlib.sha256(repository.workloads).hexdigest()
    about = workload.model_dump(mode="json", include={"environment", "server"})
    texts = {name: text for name, text in _texts(workload, "").items() if name != "run.json"}
    plan = {**_plan(workload.run, workload, "", "/tmp"), "provenance": None} if workload.run else None
    return hashlib.sha256(json.dumps([about, texts, plan, code], sort_keys=True).encode()).hexdigest()[:12]


def directory(workload: WorkloadPart, repository: Repository) -> str:
    """Return the directory of the declared release."""
    return f"{workload.lib}/{release_of(workload, repository)}"


def files(spec: PodFilesSpec, repository: Repository) -> Iterator[ServiceFile]:
    """Yield the files on a host: those of the release, and those by which the probe knows the run or server."""
    workload = spec.workload
    release = directory(workload, repository)
    yield from mounts.files(workload, spec.id, repository)
    for name, text in _texts(workload, release).items():
        yield ServiceFile(f"{release}/{name}", text, 0o644)
    yield ServiceFile(f"{release}/{ARCHIVE}", repository.workloads, 0o644)
    if workload.run:
        plan = _plan(workload.run, workload, release, workload.out or "")
        yield ServiceFile(f"{workload.etc}/config.json", workload.run.config, 0o644)
        yield ServiceFile(f"{workload.etc}/run.json", _json({**plan, "host": spec.host}), 0o644)
    if workload.server:
        yield ServiceFile(f"{workload.etc}/server.json", _json(_server(workload, workload.server)), 0o644)
        if secret := workload.server.lease_secret:
            purpose = ["rackwright replica leases", spec.fleet, workload.team, workload.name]
            # its directory keeps other accounts away
            yield ServiceFile(workload.lease_key, derive_key(repository, secret, purpose), 0o644, secret=secret)


def _texts(workload: WorkloadPart, release: str) -> dict[str, str]:
    """Return the texts in the directory *release*, by the names of their files."""
    if workload.run:
        plan = _plan(workload.run, workload, release, "/tmp")
        return {"config.json": workload.run.config, "run.json": _json(plan)}
    assert workload.server is not None
    return {"settings.json": _json(workload.server.settings)}


def _plan(run: RunPart, workload: WorkloadPart, release: str, home: str) -> dict[str, Any]:
    """Return the plan of a run for `workloads.training.pod`."""
    pods = workload.pod_names
    several = workload.count > 1
    return {
        "name": workload.name,
        "host": pods[0],
        "hosts": [{"name": pod, "address": f"{pod}.{workload.name}" if several else "localhost"} for pod in pods],
        "processes": run.processes,
        "launcher": "torchrun",
        "min_processes": None,
        "interface": INTERFACE if several else None,
        **({"rendezvous_port": run.rendezvous_port} if several else {}),
        **({"variables": run.variables} if run.variables else {}),
        "config": f"{release}/config.json",
        "out": workload.out,
        "home": home,
        "log": "/dev/null",
        "grace_seconds": run.grace_seconds,
        "data": run.data,
        "provenance": run.provenance,
    }


def _server(workload: WorkloadPart, server: ServerPart) -> dict[str, Any]:
    """Return what the probe reads: the directory with the models."""
    return {
        "name": workload.name,
        "unit": f"server-{workload.name}.service",
        "lib": workload.lib,
        "socket": "",
        "account": "root",
        "key": None,
        "ready_seconds": server.ready_seconds,
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
