"""Quantised models in the registry: each is a version with its report, and a child of the version that it came from."""

import re
import shlex
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workloads.checkpoint import disk
from workloads.errors import Diagnostic
from workloads.serving import model as model_directory
from workloads.serving.model import DamagedModel, Model
from workloads.tracking import provenance, registry
from workloads.tracking.registry import Version
from workloads.tracking.server import TrackingRefused, TrackingServer
from workloads.tracking.tracker import find_or_create_experiment

PREFIX = "models:/"
ARTIFACT = "model"
"""Path of the model among the artifacts of its run."""


def fetch(server: TrackingServer, reference: str, into: Path) -> tuple[Path, Version]:
    """Download the version that *reference* names into *into*, verify it, and return its directory and the version.

    Raises:
        UserError: there is no such version, or its files differ from the registered ones.
    """
    version = registry.find(server, reference)
    if _last_part(version) != ARTIFACT:
        return registry.fetch(server, str(version), into), version
    return bring(server, version, into), version


def bring(server: TrackingServer, version: Version, into: Path) -> Path:
    """Download the model *version* into *into*, verify it, and return its directory.

    Files that fail the check are removed, so that the next call downloads them again.

    Raises:
        UserError: *version* is no published model, or its files differ from the registered ones.
    """
    if _last_part(version) != ARTIFACT:
        problem = f"{version}, from {version.source}, is not a published model"
        help = f"Publish it with `python -m workloads.quantize {shlex.quote(f'{PREFIX}{version}')}`"
        raise TrackingRefused(Diagnostic("model", problem, help=help, note="a server needs a published model"))
    target = registry.fetch_manifest(server, version, model_directory.NAME, into)
    metadata = model_directory.read(target)
    if metadata.version != (computed := model_directory.version_of(metadata.files)):
        problem, expected = f"its model.json has version {metadata.version}", f"{computed}, the version of its files"
        raise TrackingRefused(Diagnostic(str(version), problem, expected, "Publish the model again"))
    registry.fetch_files(server, version, {name: file.bytes for name, file in metadata.files.items()}, target)
    try:
        model_directory.verify(target, metadata)
    except DamagedModel:
        shutil.rmtree(target)
        raise
    return target


def find_local(sha256: str, into: Path) -> Path | None:
    """Return the directory below *into* with the model whose model.json has that digest; None if it is incomplete.

    Only the sizes of the files are checked here; their reader verifies the content.
    """
    directory = registry.directory_for(into, sha256) / ARTIFACT
    try:
        if disk.sha256(directory / model_directory.NAME) != sha256:
            return None
        files = model_directory.read(directory).files
        whole = all((directory / name).stat().st_size == file.bytes for name, file in files.items())
    except OSError:
        return None
    return directory if whole else None


def name_of(reference: str) -> str:
    """Return the name of the model in *reference*, without alias or number."""
    return re.split("[@/]", reference.removeprefix(PREFIX))[0]


def _last_part(version: Version) -> str:
    return version.source.rstrip("/").rpartition("/")[2]


def register(server: TrackingServer, directory: Path, report: Path, name: str) -> Version:
    """Register the model in *directory* as a version of *name*, with *report*, in a run of its own, and return it.

    A model that is a version already is not registered again.

    Raises:
        UserError: the model passed no gate, is damaged, or the server refuses it.
    """
    metadata = model_directory.read(directory)
    if metadata.lineage.get("gate", {}).get("passed") is not True:
        help = "Publish the model with `python -m workloads.quantize`"
        raise TrackingRefused(Diagnostic(str(directory), "the model has not passed its gate", help=help))
    model_directory.verify(directory, metadata)
    digest = disk.sha256(directory / model_directory.NAME)
    if existing := registry.find_by_checkpoint(server, digest, name):
        return existing
    properties = {**version_tags(metadata.lineage), registry.CHECKPOINT: digest}
    tags = provenance.to_tags(properties)
    number = find_or_create_experiment(server, metadata.name)
    began, title = (
        int(time.time() * 1000),
        f"{metadata.name} {properties.get('precision')} for {properties.get('target')}",
    )
    run = server.post("runs/create", experiment_id=number, run_name=title, start_time=began, tags=tags)
    run_id = run["run"]["info"]["run_id"]
    artifacts = f"{number}/{run_id}/artifacts"
    for file in (directory / model_directory.NAME, *(directory / each for each in metadata.files)):
        server.put_file(f"{artifacts}/{ARTIFACT}/{file.name}", file)
    for file in sorted(report.iterdir()):
        server.put_file(f"{artifacts}/report/{file.name}", file)
    server.post("runs/log-batch", run_id=run_id, metrics=_figures(metadata, began))
    server.post("runs/update", run_id=run_id, status="FINISHED", end_time=int(time.time() * 1000))
    return registry.create_version(server, name, f"{artifacts}/{ARTIFACT}", run_id, properties)


def set_alias(server: TrackingServer, version: Version, alias: str) -> None:
    """Set *alias* on *version*, if the account is allowed to."""
    server.post("registered-models/alias", name=version.name, alias=alias, version=version.version)


def version_tags(lineage: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a version with the *lineage* of a quantised model; unknown ones are left out."""
    properties = {key: lineage[key] for key in ("target", "precision", "code", "machine") if key in lineage}
    properties["gate"] = _gate(lineage["gate"])
    if data := lineage.get("data"):
        properties["data"] = data["sha256"]
    if parent := lineage.get("parent"):
        properties["parent"] = parent["sha256"]
        if parent["version"]:
            properties[registry.PARENT_VERSION] = parent["version"]
    return properties


def _gate(gate: Any) -> str:
    """Return results, limits and loosened limits of the gate, as one line."""
    results, thresholds = gate["found"], gate["wanted"]

    def share(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.2%}"

    shares = (
        f"{key.replace('_', ' ')} {share(results[key])} "
        + ("(not required)" if least is None else f"(at least {share(least)})")
        for key, least in thresholds.items()
    )
    loosened = f"loosened: {', '.join(gate['loosened']) or 'nothing'}"
    if reason := gate.get("publish_slower"):  # models of earlier versions have none
        loosened += f"; slower because: {reason}"
    return f"{', '.join(shares)}, on {results['rows']} rows; {loosened}"


def _figures(metadata: Model, at: int) -> list[dict[str, Any]]:
    figures = metadata.lineage["gate"]["found"]
    return [
        {"key": key, "value": value, "timestamp": at, "step": 0} for key, value in figures.items() if value is not None
    ]
