"""The served model of an iteration and the checkpoint that it came from, found by their content."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rackwright.errors import DeclarationError, Diagnostic, command
from rackwright.stack import Stack
from rackwright.status import servers
from workloads.checkpoint import layout, manifest
from workloads.serving import model as model_directory
from workloads.serving.model import Model
from workloads.tracking import connect, registry

if TYPE_CHECKING:
    from rackwright.iteration.family import Family

PROJECT_DIRECTORY = ".rackwright"
"""Directory of models, trainings and iterations, in the project's."""
ITERATIONS = "iterations"
MODEL, TRAINING = "model", "training"
"""Directories in that of an iteration."""
TRAINING_PATTERNS = ("*", "*/*", f"{ITERATIONS}/*/*/{TRAINING}")
"""Patterns of the directories of trainings, below `.rackwright`: those of `make train`, and those of iterations."""


@dataclass(frozen=True)
class StartingModel:
    """The served model that an iteration starts from."""

    directory: Path
    """Directory of the served model."""
    version: str
    bytes: int
    """Size of its files."""
    target: str
    precision: str
    checkpoint: Path
    digest: str
    """Digest of the checkpoint's manifest."""
    config: Mapping[str, Any]
    """The configuration of the training that produced the checkpoint."""
    name: str = ""
    """The model's name for clients; iterations of earlier versions do not have it."""


def find_starting_model(
    stack: Stack,
    server: str,
    training_directory: Path | None,
    tracking: str,
    family: "Family",
) -> StartingModel:
    """Return the declared model of *server*, with the checkpoint that it came from.

    Args:
        family: Family of models that the new data suit.
        training_directory: A directory to search first.
        tracking: The URL of an MLflow server that may have the checkpoint; empty for none.

    Raises:
        UserError: The model or its checkpoint is not found, or cannot be trained further with the new data.
        UserError: A model is damaged, or the tracking server does not answer.
    """
    directory, model = _find_served_model(stack, server)
    model_directory.verify(directory, model)
    training = training_of(model)
    if training is None:
        problem = f"the lineage of version {model.version} names no training"
        expected = "a model from a training of rackwright"
        help = "Continue the training where it was trained, and publish the result with `rackwright server promote`"
        raise DeclarationError(Diagnostic(server, problem, expected, help))
    kind = training["config"]["model"]["kind"]
    if kind not in family.kinds:
        problem, expected = f"{server} serves a model of kind {kind}", f"a model of kind {' or '.join(family.kinds)}"
        help = "Name rows (.npz) for an image classifier, conversations (.jsonl, .parquet) for a language model"
        raise DeclarationError(Diagnostic("--data", problem, expected, help))
    family.check_parent(training)
    digest = str(training["checkpoint"])
    checkpoint = _find_checkpoint(stack.project, model, digest, training_directory, tracking)
    size = sum(file.bytes for file in model.files.values())
    target, precision = family.published_form(model, training)
    return StartingModel(
        directory, model.version, size, target, precision, checkpoint.resolve(), digest, training["config"], model.name
    )


def training_of(model: Model) -> Mapping[str, Any] | None:
    """Return the training in the lineage of *model*, however often the model was published again since then."""
    lineage: Any = model.lineage
    while isinstance(lineage, Mapping):
        training = lineage.get("training")
        if isinstance(training, Mapping):
            kind = training.get("config", {}).get("model", {}).get("kind")
            return training if kind and "checkpoint" in training else None
        lineage = lineage.get("source")
    return None


def _find_served_model(stack: Stack, server: str) -> tuple[Path, Model]:
    spec = servers.specs(stack, server)[0]
    if spec.source is not None:
        return Path(spec.source), model_directory.read(Path(spec.source))
    root = stack.project.resolve() / PROJECT_DIRECTORY
    patterns = (f"models/*/{model_directory.NAME}", f"{ITERATIONS}/*/*/{MODEL}/{model_directory.NAME}")
    for path in (path for pattern in patterns for path in root.glob(pattern)):
        model = model_directory.read(path.parent)
        if model.version == spec.version:
            return path.parent, model
    problem = f"the served version {spec.version} is not on this computer"
    fetch = command("rackwright server fetch {} {}", stack.name, server)
    help = f"Copy its directory into {PROJECT_DIRECTORY}/models, or run {fetch} if it is registered"
    raise DeclarationError(Diagnostic(server, problem, help=help, note="the new model is compared with it"))


def _find_checkpoint(project: Path, model: Model, digest: str, training_directory: Path | None, tracking: str) -> Path:
    if training_directory is not None:
        for path in _checkpoints_below(training_directory):
            if digest_of(path) == digest:
                return path
        problem = f"{training_directory} lacks the checkpoint of version {model.version}"
        expected = f"a checkpoint whose manifest has SHA-256 {digest[:12]}…"
        raise DeclarationError(Diagnostic("--from", problem, expected, "Name the directory of that training"))
    root = project.resolve() / PROJECT_DIRECTORY
    cached = registry.directory_for(registry.cache_directory(), digest)
    trainings = (path for pattern in TRAINING_PATTERNS for path in sorted(root.glob(f"{pattern}/checkpoints")))
    for path in (*(checkpoint for each in trainings for checkpoint in _checkpoints_in(each)), *_checkpoints_in(cached)):
        if digest_of(path) == digest:
            return path
    places = f"in {PROJECT_DIRECTORY} and in the cache"
    if tracking:
        server = connect(tracking, os.environ)
        if version := registry.find_by_checkpoint(server, digest):
            return registry.fetch(server, str(version), registry.cache_directory())
        places += f", and {server.url} has none"
    problem = f"there is no checkpoint of version {model.version} {places}"
    expected = f"a checkpoint whose manifest has SHA-256 {digest[:12]}…"
    help = "Add --from DIRECTORY of its training, or --tracking URL of the server that has it"
    raise DeclarationError(Diagnostic(model.name, problem, expected, help))


def _checkpoints_below(directory: Path) -> Iterator[Path]:
    yield directory
    yield from _checkpoints_in(directory)
    yield from _checkpoints_in(directory / "checkpoints")


def _checkpoints_in(directory: Path) -> Iterator[Path]:
    """Yield the checkpoints in *directory*, the newest first."""
    yield from (directory / layout.step_name(step) for step in reversed(layout.steps(directory)))


def digest_of(checkpoint: Path) -> str | None:
    """Return the digest of a checkpoint's manifest, which identifies its content; None where there is none."""
    try:
        return sha256((checkpoint / manifest.NAME).read_bytes()).hexdigest()
    except OSError:
        return None
