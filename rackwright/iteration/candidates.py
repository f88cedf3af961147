"""What is served, and the checkpoint that it came from: by content, wherever it is."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from rackwright.errors import DeclarationError
from rackwright.stack import Stack
from rackwright.status import servers
from workloads.checkpoint import layout, manifest
from workloads.serving import model as published
from workloads.serving.model import Model
from workloads.tracking import connect, registry

HERE = ".rackwright"
ITERATIONS = "iterations"
MODEL, TRAINING = "model", "training"
"""In the directory of an iteration."""
TRAININGS = ("*", "*/*", f"{ITERATIONS}/*/*/{TRAINING}")
"""Below the project's `.rackwright`, where trainings are looked for: `make train`'s, and those of iterations."""
CLASSIFIER = "image-classifier"
"""The kind of model that is quantised from a checkpoint."""


@dataclass(frozen=True)
class StartingModel:
    """What an iteration begins with."""

    directory: Path
    """Of the model that is served."""
    version: str
    bytes: int
    """Of its files."""
    target: str
    precision: str
    checkpoint: Path
    digest: str
    """Of the checkpoint's manifest."""
    config: Mapping[str, Any]
    """Of the training that it is of."""


def found(stack: Stack, server: str, given: Path | None, tracking: str) -> StartingModel:
    """Return what *server* is declared to serve, and the checkpoint it came from.

    Args:
        given: A directory to look in first.
        tracking: The address of an MLflow server that may have it; empty for none.

    Raises:
        RackwrightError: one of the two is nowhere, or of a sort that is not trained further.
        WorkloadError: a model is damaged, or the tracking server does not answer.
    """
    directory, model = _served(stack, server)
    published.verify(directory, model)
    trained = training_of(model)
    if trained is None:
        want = f"it came from a training of an {CLASSIFIER} of ours, and its lineage says which"
        fix = "Train it further where it was trained, and publish what comes of it with `rackwright server promote`"
        raise DeclarationError(server, f"got version {model.version}, whose lineage has no such training", want, fix)
    digest = str(trained["checkpoint"])
    checkpoint = _checkpoint(stack.project, model, digest, given, tracking)
    size = sum(file.bytes for file in model.files.values())
    target, precision = str(model.lineage.get("target", "cpu")), str(model.lineage.get("precision", "fp32"))
    return StartingModel(
        directory, model.version, size, target, precision, checkpoint.resolve(), digest, trained["config"]
    )


def training_of(model: Model) -> Mapping[str, Any] | None:
    """Return what the lineage of *model* says of the training behind it, however often it was published since."""
    lineage: Any = model.lineage
    while isinstance(lineage, Mapping):
        trained = lineage.get("training")
        if isinstance(trained, Mapping):
            kind = trained.get("config", {}).get("model", {}).get("kind")
            return trained if kind == CLASSIFIER and "checkpoint" in trained else None
        lineage = lineage.get("source")
    return None


def _served(stack: Stack, server: str) -> tuple[Path, Model]:
    spec = servers.specs(stack, server)[0]
    if spec.source is not None:
        return Path(spec.source), published.read(Path(spec.source))
    here = stack.project.resolve() / HERE
    for path in (*here.glob(f"models/*/{published.NAME}"), *here.glob(f"{ITERATIONS}/*/*/{MODEL}/{published.NAME}")):
        model = published.read(path.parent)
        if model.version == spec.version:
            return path.parent, model
    want = "what is to be improved is on this computer, to be compared with"
    fix = (
        f"Put its directory below {HERE}/models, declare its path, or run `rackwright server fetch` if it is registered"
    )
    raise DeclarationError(server, f"got version {spec.version}, which is not here", want, fix)


def _checkpoint(project: Path, model: Model, digest: str, given: Path | None, tracking: str) -> Path:
    if given is not None:
        for path in _below(given):
            if digest_of(path) == digest:
                return path
        want = f"version {model.version} came from the checkpoint whose manifest has SHA-256 {digest[:12]}…"
        raise DeclarationError("--from", f"got {given}, without it", want, "Name the directory of that training")
    here, kept = project.resolve() / HERE, registry.directory_for(registry.cache_directory(), digest)
    trainings = (path for pattern in TRAININGS for path in sorted(here.glob(f"{pattern}/checkpoints")))
    for path in (*(found for each in trainings for found in _steps(each)), *_steps(kept)):
        if digest_of(path) == digest:
            return path
    looked = f"below {HERE} and in the cache"
    if tracking:
        server = connect(tracking, os.environ)
        if version := registry.find_by_checkpoint(server, digest):
            return registry.fetch(server, str(version), registry.cache_directory())
        looked += f", and {server.url} has none"
    got = f"got no checkpoint whose manifest has SHA-256 {digest[:12]}… {looked}"
    fix = "Say --from DIRECTORY, the training's, or --tracking URL of the server that has it"
    raise DeclarationError(model.name, got, f"version {model.version} came from it", fix)


def _below(given: Path) -> Iterator[Path]:
    yield given
    yield from _steps(given)
    yield from _steps(given / "checkpoints")


def _steps(directory: Path) -> Iterator[Path]:
    """Yield the checkpoints in *directory*, the newest first."""
    yield from (directory / layout.step_name(step) for step in reversed(layout.steps(directory)))


def digest_of(checkpoint: Path) -> str | None:
    """Return what names a checkpoint by its content; None where there is none."""
    try:
        return sha256((checkpoint / manifest.NAME).read_bytes()).hexdigest()
    except OSError:
        return None
