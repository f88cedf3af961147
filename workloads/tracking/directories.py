"""The lineage of a directory on this computer: a run, one of its checkpoints, an export, or a published model.

Files name a parent by the digest of its checkpoint, and a run also by its path. The parent is followed if that path has
a checkpoint with that digest. An export and a published model have the record of their training, but no path of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from workloads.checkpoint import disk, layout, manifest
from workloads.errors import Diagnostic, UserError
from workloads.quantize import versions
from workloads.serving import model as model_directory
from workloads.serving.exported import LINEAGE, QUANTIZATION
from workloads.tracking import provenance, registry
from workloads.tracking.lineage import Lineage
from workloads.tracking.provenance import NONE

FILES = (model_directory.NAME, LINEAGE, manifest.NAME)
"""Files of which a directory with a lineage has one."""
EXPORTED = ("parent", "precision", "data")
"""Facts that the lineage of a language model has to name; those of its training are an entry of their own."""
GATED = ("parent", "precision", "gate", "data")
PARENTS_MAX = 1000
"""Maximum number of parents, since the files of others name them."""


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A model, an export or a training in the lineage of a directory."""

    kind: str
    """run, export or model."""
    name: str
    source: str
    """Path of its directory; empty if only the record in the entry before is known."""
    tags: Mapping[str, str]
    """Known facts, by the keys of `provenance`."""
    required_keys: tuple[str, ...]
    version: str = ""
    """Version of a published model; empty for others."""

    def __str__(self) -> str:
        return self.source or f"{self.kind} {self.name}"

    @property
    def title(self) -> str:
        """The first line of the entry in a text."""
        place = self.source or "not a directory of this computer, but recorded in the one above"
        return f"{' '.join(filter(None, (self.kind, self.name, self.version)))}: {place}"

    def as_data(self) -> dict[str, Any]:
        """Return the entry as plain values for JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "aliases": [],
            "source": self.source,
            **{key: self.tags.get(key) for key in (*self.required_keys, registry.CHECKPOINT, "step")},
        }


@dataclass(frozen=True, slots=True)
class _Parent:
    """A checkpoint as a run names it."""

    digest: str
    path: str


def has_lineage(directory: Path) -> bool:
    """Return whether *directory* has a file with a lineage."""
    return any((directory / name).is_file() for name in FILES)


def load_directory_lineage(directory: Path) -> Lineage:
    """Return the lineage of the model in *directory*, back to the first parent or as far as files of this computer go.

    Raises:
        UserError: The directory has no lineage, or a file of it cannot be read or is malformed.
    """
    entries, parent = _read(directory.absolute())
    seen = {entry.tags.get(registry.CHECKPOINT) for entry in entries}
    while parent is not None and parent.digest not in seen:
        path = Path(parent.path)
        if not parent.path or _checkpoint_digest(path) != parent.digest:
            place = f"; {path} does not have it" if parent.path else ", whose path is not recorded"
            return Lineage(entries, f"checkpoint {parent.digest}{place}")
        if len(entries) > PARENTS_MAX:
            problem = f"the lineage has more than {PARENTS_MAX} parents"
            raise UserError(Diagnostic(str(directory), problem, help="Name one of its parents"))
        seen.add(parent.digest)
        found, parent = _read(path)
        entries += found
    return Lineage(entries)


def _read(directory: Path) -> tuple[list[DirectoryEntry], _Parent | None]:
    """Return the entries of the files in *directory*, and the parent of the last one; None if it names none."""
    if (directory / model_directory.NAME).is_file():
        return _read_model(directory)
    if (directory / LINEAGE).is_file():
        record = provenance.load_json(directory / LINEAGE)
        return _read_export(directory, record) if "files" in record else _read_run(directory)
    if (directory / manifest.NAME).is_file():
        return _read_checkpoint(directory)
    problem = "the directory has no lineage" if directory.is_dir() else "there is no such directory"
    help = "Correct the path; a registered model is NAME, NAME@ALIAS or NAME/NUMBER"
    raise UserError(Diagnostic(str(directory), problem, f"one of {', '.join(FILES)} in it", help))


def _read_run(run: Path) -> tuple[list[DirectoryEntry], _Parent | None]:
    record = provenance.load_json(run / LINEAGE)
    tags = _tags_of_run(run)
    if digest := _text(record.get("checkpoint")):
        tags |= {registry.CHECKPOINT: digest, "step": _text(record.get("step"))}
    return [_run_entry(str(run), record, tags)], _parent(record)


def _read_checkpoint(checkpoint: Path) -> tuple[list[DirectoryEntry], _Parent | None]:
    """Return the entry of the run with *checkpoint*, whether or not that is its final one."""
    run = checkpoint.parent.parent
    own = {registry.CHECKPOINT: _checkpoint_digest(checkpoint) or ""}
    if (step := layout.parse_step_name(checkpoint.name)) is not None:
        own["step"] = str(step)
    if checkpoint.parent.name != "checkpoints" or not (run / LINEAGE).is_file():
        # as in the cache of registered models
        return [DirectoryEntry("run", "", str(checkpoint), own, provenance.KEYS)], None
    record = provenance.load_json(run / LINEAGE)
    return [_run_entry(str(checkpoint), record, {**_tags_of_run(run), **own})], _parent(record)


def _run_entry(source: str, record: Mapping[str, Any], tags: Mapping[str, str]) -> DirectoryEntry:
    return DirectoryEntry("run", _text(record.get("name")), source, tags, provenance.KEYS)


def _tags_of_run(run: Path) -> dict[str, str]:
    tags = provenance.collect(run)
    if not provenance.load_json(run / "provenance.json").get("code"):
        del tags["code"]  # that of this program, which did not train it
    return tags


def _parent(record: Mapping[str, Any]) -> _Parent | None:
    """Return the parent in the lineage of a run."""
    parent = record.get("parent")
    if not isinstance(parent, Mapping):
        return None
    return _Parent(_text(parent.get("sha256")), _text(parent.get("path")))


def _read_export(directory: Path, record: Mapping[str, Any]) -> tuple[list[DirectoryEntry], _Parent | None]:
    trained, parent = _trained_entry(record)
    tags = {**_language_tags(record, record), registry.CHECKPOINT: disk.sha256(directory / LINEAGE)}
    required = GATED if "gate" in tags else EXPORTED
    return [DirectoryEntry("export", _text(record.get("run")), str(directory), tags, required), *trained], parent


def _read_model(directory: Path) -> tuple[list[DirectoryEntry], _Parent | None]:
    model = model_directory.read(directory)
    own = {registry.CHECKPOINT: disk.sha256(directory / model_directory.NAME)}
    entries: list[DirectoryEntry] = []
    lineage: Any = model.lineage
    while _is_quantized(lineage):  # quantised, perhaps of a quantised one
        tags = {**_quantized_tags(str(directory), lineage), **own}
        source, version, own = ("", "", {}) if entries else (str(directory), model.version, {})
        entries.append(DirectoryEntry("model", model.name, source, tags, provenance.QUANTISED, version))
        lineage = lineage["source"]
    training = lineage.get("training")
    if not entries:
        tags = {**_language_tags(lineage, training if isinstance(training, Mapping) else {}), **own}
        required = GATED if "gate" in tags else EXPORTED
        entries.append(DirectoryEntry("model", model.name, str(directory), tags, required, model.version))
    trained, parent = _trained_entry(training) if isinstance(training, Mapping) else ([], None)
    return [*entries, *trained], parent


def _is_quantized(lineage: Mapping[str, Any]) -> bool:
    """Return whether `python -m workloads.quantize` wrote *lineage*."""
    return isinstance(lineage.get("source"), Mapping) and "target" in lineage


def _quantized_tags(place: str, lineage: Mapping[str, Any]) -> dict[str, str]:
    try:
        return {key: str(value) for key, value in versions.version_tags(lineage).items()}
    except (KeyError, TypeError, AttributeError, ValueError):
        problem, expected = "its lineage has another form than a published model", "gate, data and parent as published"
        raise UserError(Diagnostic(place, problem, expected, "Publish the model again")) from None


def _language_tags(lineage: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts of an exported or published language model.

    Args:
        lineage: Has the quantisation, if there was one.
        training: Has the checkpoint, the data and the number format.
    """
    values = {"parent": _text(training.get("checkpoint")), "precision": _text(training.get("dtype"))}
    values["data"] = _data(training.get("data"))
    quantization = lineage.get(QUANTIZATION)
    if isinstance(quantization, Mapping):
        gate = quantization.get("gate")
        values["gate"] = _gate(gate) if isinstance(gate, Mapping) else ""
    return {key: value for key, value in values.items() if value}


def _gate(gate: Mapping[str, Any]) -> str:
    if reason := _text(gate.get("unmeasured")):
        return f"not measured: {reason}"
    return f"{'passed' if gate.get('passed') is True else 'not passed'}, with a loss of at most {gate.get('may_lose')}"


def _trained_entry(record: Mapping[str, Any]) -> tuple[list[DirectoryEntry], _Parent | None]:
    """Return the training that the lineage of a model records, without a directory, and the parent of that training."""
    config = record.get("config")
    name = _text(record.get("run")) or _text(record.get("recipe"))
    parent = _parent(record)
    tags = {registry.CHECKPOINT: _text(record.get("checkpoint")), "step": _text(record.get("step"))}
    tags["data"] = _data(record.get("data"))
    if parent is not None:
        tags["parent"] = parent.digest
    elif isinstance(config, Mapping) and config.get("fine_tuning", "") is None:
        tags["parent"] = NONE
    known = {key: value for key, value in tags.items() if value}
    return [DirectoryEntry("run", name, "", known, provenance.KEYS)], parent


def _data(entries: Any) -> str:
    """Return the digests of data sets in the form of `provenance`; empty if one of them has none."""
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        return ""
    return (
        " ".join(_digests(entries)) if all(isinstance(each, Mapping) and "sha256" in each for each in entries) else ""
    )


def _digests(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for each in entries:
        yield _text(each["sha256"]) or provenance.PRIVATE


def _text(value: Any) -> str:
    """Return *value* of a file of others as a text; empty if it is no text and no number."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _checkpoint_digest(checkpoint: Path) -> str | None:
    """Return the digest of a checkpoint's manifest; None if there is none."""
    try:
        return sha256(disk.read(checkpoint / manifest.NAME, manifest.MOST_BYTES + 1)).hexdigest()
    except (OSError, ValueError):  # a path with a null byte
        return None
