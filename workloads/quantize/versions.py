"""Quantised models in the registry: each a version with its report, a child of the version that it came from."""

import re
import shutil
import time
from pathlib import Path
from typing import Any

from workloads.checkpoint import disk
from workloads.serving import model as served
from workloads.serving.model import DamagedModel, Model
from workloads.tracking import provenance, registry
from workloads.tracking.registry import Version
from workloads.tracking.server import Refused, Server
from workloads.tracking.tracker import experiment

BEGINS = "models:/"
PLACE = "model"
"""Where its run has it, among its artifacts."""


def fetch(server: Server, reference: str, into: Path) -> tuple[Path, Version]:
    """Return the directory with what *reference* names, brought below *into* and proved, and which version that is.

    Raises:
        WorkloadError: there is none, or its files are not those that were registered.
    """
    version = registry.find(server, reference)
    if _last(version) != PLACE:
        return registry.fetch(server, str(version), into), version
    return bring(server, version, into), version


def bring(server: Server, version: Version, into: Path) -> Path:
    """Return the directory with the model that *version* is, brought below *into* and proved.

    What does not prove is not kept, so that the next time brings it anew.

    Raises:
        WorkloadError: it is no published model, or its files are not those that were registered.
    """
    if _last(version) != PLACE:
        want, fix = "what is served was published", f"Publish it with `python -m workloads.quantize {BEGINS}{version}`"
        raise Refused("model", f"got {version}, from {version.source}", want, fix)
    target = registry.begin(server, version, served.NAME, into)
    found = served.read(target)
    if wrong := [name for name in found.files if not re.fullmatch(served.NAME_PATTERN, name)]:
        want, fix = "a model's files lie beside its model.json", "Publish it anew"
        raise Refused(str(version), f"got a file {wrong[0]!r}", want, fix)
    if found.version != (computed := served.version_of(found.files)):
        want = f"the version of its files is {computed}"
        raise Refused(str(version), f"got a model.json of version {found.version}", want, "Publish it anew")
    registry.bring(server, version, {name: file.bytes for name, file in found.files.items()}, target)
    try:
        served.verify(target, found)
    except DamagedModel:
        shutil.rmtree(target)
        raise
    return target


def here(sha256: str, into: Path) -> Path | None:
    """Return the directory below *into* with the model whose model.json has that digest; None where not all of it is.

    Of its files only the sizes are looked at: they are proved when they are read.
    """
    directory = registry.under(into, sha256) / PLACE
    try:
        if disk.sha256(directory / served.NAME) != sha256:
            return None
        files = served.read(directory).files
        whole = all((directory / name).stat().st_size == file.bytes for name, file in files.items())
    except OSError:
        return None
    return directory if whole else None


def name_of(reference: str) -> str:
    """Return the name of the model in *reference*, without alias or number."""
    return re.split("[@/]", reference.removeprefix(BEGINS))[0]


def _last(version: Version) -> str:
    return version.source.rstrip("/").rpartition("/")[2]


def register(server: Server, published: Path, report: Path, name: str) -> Version:
    """Let the model in *published* be a version of *name*, with *report*, in a run of its own; return it.

    One that is a version already stays that.

    Raises:
        WorkloadError: it passed no gate, is damaged, or the server will not have it.
    """
    found = served.read(published)
    if found.lineage.get("gate", {}).get("passed") is not True:
        want, fix = "a version has passed its gate", "Let `python -m workloads.quantize` publish it"
        raise Refused(str(published), "got a model that passed none", want, fix)
    served.verify(published, found)
    digest = disk.sha256(published / served.NAME)
    if there := registry.with_checkpoint(server, digest, name):
        return there
    said = {**_said(found), registry.CHECKPOINT: digest}
    tags = provenance.tags(said)
    number = experiment(server, found.name)
    began, title = int(time.time() * 1000), f"{found.name} {said.get('precision')} for {said.get('target')}"
    run = server.post("runs/create", experiment_id=number, run_name=title, start_time=began, tags=tags)
    run_id = run["run"]["info"]["run_id"]
    place = f"{number}/{run_id}/artifacts"
    for file in (published / served.NAME, *(published / each for each in found.files)):
        server.put_file(f"{place}/{PLACE}/{file.name}", file)
    for file in sorted(report.iterdir()):
        server.put_file(f"{place}/report/{file.name}", file)
    server.post("runs/log-batch", run_id=run_id, metrics=_figures(found, began))
    server.post("runs/update", run_id=run_id, status="FINISHED", end_time=int(time.time() * 1000))
    return registry.enter(server, name, f"{place}/{PLACE}", run_id, said)


def call(server: Server, version: Version, alias: str) -> None:
    """Let *alias* be this version from now on, if the account may say so."""
    server.post("registered-models/alias", name=version.name, alias=alias, version=version.version)


def _said(found: Model) -> dict[str, str]:
    """Return what a version says of itself; what is not known is left out."""
    lineage = found.lineage
    said = {key: lineage[key] for key in ("target", "precision", "code", "machine") if key in lineage}
    said["gate"] = _gate(lineage["gate"])
    if data := lineage.get("data"):
        said["data"] = data["sha256"]
    if parent := lineage.get("parent"):
        said["parent"] = parent["sha256"]
        if parent["version"]:
            said[registry.PARENT_VERSION] = parent["version"]
    return said


def _gate(gate: Any) -> str:
    """Return what was found beside what was asked, and what was loosened, as one line."""
    found, wanted = gate["found"], gate["wanted"]

    def share(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.2%}"

    shares = (
        f"{key.replace('_', ' ')} {share(found[key])} "
        + ("(not asked)" if least is None else f"(at least {share(least)})")
        for key, least in wanted.items()
    )
    loosened = f"loosened: {', '.join(gate['loosened']) or 'nothing'}"
    return f"{', '.join(shares)}, on {found['rows']} rows; {loosened}"


def _figures(found: Model, at: int) -> list[dict[str, Any]]:
    figures = found.lineage["gate"]["found"]
    return [
        {"key": key, "value": value, "timestamp": at, "step": 0} for key, value in figures.items() if value is not None
    ]
