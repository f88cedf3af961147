"""The model registry: registration of a run's checkpoint as a version, and download of versions."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from workloads.checkpoint import checkpoints, disk, layout, manifest
from workloads.errors import Diagnostic, UserError
from workloads.foreign import read_whole
from workloads.tracking import provenance
from workloads.tracking.server import TrackingRefused, TrackingServer
from workloads.tracking.tracker import load_tracking_state

REFERENCE = re.compile(r"(?:models:/)?(?P<name>[A-Za-z0-9][\w. -]*)(?:@(?P<alias>[\w.-]+)|/(?P<version>\d+))?")
"""``digits``, ``digits@champion``, ``digits/3``, each also as MLflow's ``models:/…``."""
DIGEST = re.compile(r"[0-9a-f]{64}")
DIRECTORY = re.compile(r"[A-Za-z0-9][\w.-]*")
"""Allowed names of a version's directory. The server supplies the name, so `..` must not match."""
CHECKPOINT = "checkpoint"
"""Tag with the digest of a version's manifest, which lists the digests of its files; a child names its parent by it.
For a published model, model.json is the manifest."""
PARENT_VERSION = "parent_version"
"""Tag with the name by which the parent was selected, as a checkpoint may have several names."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a registered model in the registry."""

    name: str
    version: str
    run: str
    source: str
    """Location of its files: ``mlflow-artifacts:/EXPERIMENT/RUN/artifacts/…``."""
    aliases: tuple[str, ...]
    created_ms: int
    """Milliseconds since 1970."""
    tags: Mapping[str, str]
    """Our tags, without the prefix."""

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def title(self) -> str:
        """The first line of the version in a text."""
        made = datetime.fromtimestamp(self.created_ms / 1000, UTC)
        names = "".join(f" @{alias}" for alias in self.aliases)
        return f"{self}{names}, registered {made:%Y-%m-%d %H:%M} UTC by run {self.run or 'unknown'}"

    @property
    def required_keys(self) -> tuple[str, ...]:
        """Keys of the tags that the version has to have."""
        return provenance.required_keys(self.tags)

    def as_data(self) -> dict[str, Any]:
        """Return the version as plain values for JSON; unknown tags are None."""
        return {
            "name": self.name,
            "version": self.version,
            "aliases": list(self.aliases),
            "run": self.run,
            "source": self.source,
            "created_ms": self.created_ms,
            **{key: self.tags.get(key) for key in (*self.required_keys, CHECKPOINT, "step")},
        }


def register(server: TrackingServer, out: Path, name: str) -> Version:
    """Register the final checkpoint of the run in *out* as a version of the model *name*, and return the version.

    The final checkpoint is the one in ``lineage.json``, else the newest intact one. If it is registered already, return
    that version.

    Raises:
        UserError: The server does not know the run, or the run has no checkpoint or must not be published.
    """
    state = load_tracking_state(out)
    if state.get("url") != server.url or "run" not in state:
        help = "Run it with --tracking, or send it with `python -m workloads.tracking`"
        problem, expected = f"{server.url} does not have this run", "a run on the server, to which the version belongs"
        raise TrackingRefused(Diagnostic(str(out), problem, expected, help))
    lineage = provenance.load_json(out / "lineage.json")
    if lineage.get("published") is False:
        problem = f"the run has not published its model: {lineage.get('refused') or 'it is worse than its parent'}"
        help = "Train longer, or start the run again with --publish-worse REASON"
        raise TrackingRefused(Diagnostic(str(out), problem, "a model that the run published", help))
    checkpoint = _final_checkpoint(out / "checkpoints", lineage.get("checkpoint"))
    if checkpoint is None:
        problem = "the run has no intact checkpoint to register"
        raise TrackingRefused(Diagnostic(str(out), problem, help="Train until one is saved"))
    digest = _manifest_digest(checkpoint.path)
    if version := find_by_checkpoint(server, digest, name):
        return version
    place = f"{state['experiment']}/{state['run']}/artifacts/{layout.step_name(checkpoint.step)}"
    for file in sorted(path for path in checkpoint.path.iterdir() if path.is_file()):
        server.put_file(f"{place}/{file.name}", file)
    tags = {**provenance.collect(out), CHECKPOINT: digest, "step": str(checkpoint.step)}
    return create_version(server, name, place, state["run"], tags)


def create_version(server: TrackingServer, name: str, place: str, run: str, tags: Mapping[str, str]) -> Version:
    """Create a version of the model *name* from the files at *place*, ``EXPERIMENT/RUN/artifacts/…``; return it."""
    _ensure_model(server, name)
    source = f"mlflow-artifacts:/{place}"
    response = server.post("model-versions/create", name=name, source=source, run_id=run, tags=provenance.to_tags(tags))
    return _parse_version(response["model_version"])


def _final_checkpoint(directory: Path, digest: str | None) -> checkpoints.Checkpoint | None:
    """Return the verified checkpoint with *digest*; if *digest* is None, the newest intact one."""
    if digest is None:
        return checkpoints.newest(directory)
    for step in reversed(layout.steps(directory)):
        checkpoint = checkpoints.at_step(directory, step)
        if _manifest_digest(checkpoint.path) == digest:
            manifest.verify(checkpoint.path, checkpoint.manifest)
            return checkpoint
    return None


def _manifest_digest(checkpoint: Path) -> str:
    return sha256(read_whole(checkpoint / manifest.NAME)).hexdigest()


def find(server: TrackingServer, reference: str) -> Version:
    """Return the version that *reference* names; without alias or number, the newest version.

    Raises:
        TrackingRefused: There is no such version.
    """
    parts = REFERENCE.fullmatch(reference)
    if parts is None:
        problem, expected = f"{reference!r} is not a version", "MODEL, MODEL@ALIAS or MODEL/NUMBER"
        raise TrackingRefused(Diagnostic("model", problem, expected, "Write it like digits@champion"))
    name, alias, number = parts["name"], parts["alias"], parts["version"]
    try:
        if alias:
            return _parse_version(server.get("registered-models/alias", name=name, alias=alias)["model_version"])
        if number:
            return _parse_version(server.get("model-versions/get", name=name, version=number)["model_version"])
        versions = [_parse_version(each) for each in _search_versions(server, f"name='{name}'")]
    except TrackingRefused as error:
        if error.status != 404:
            raise
        versions = []
    if not versions:
        problem, help = f"{server.url} has no version {reference}", "Name a version that the registry lists"
        raise TrackingRefused(Diagnostic("model", problem, help=help), 404)
    return max(versions, key=lambda version: int(version.version))


def find_by_checkpoint(server: TrackingServer, digest: str, name: str = "") -> Version | None:
    """Return the first version of the checkpoint with *digest*, of the model *name* if it is set."""
    condition = f"tags.`{provenance.PREFIX}{CHECKPOINT}` = '{digest}'"
    versions = [_parse_version(each) for each in _search_versions(server, condition)]
    return min(
        (each for each in versions if not name or each.name == name), key=lambda each: each.created_ms, default=None
    )


def fetch(server: TrackingServer, reference: str, into: Path) -> Path:
    """Return the directory with the verified checkpoint of a version, downloaded below *into* if it is missing.

    Raises:
        UserError: There is no such version, or its files differ from the registered ones.
    """
    version = find(server, reference)
    step = version.source.rstrip("/").rpartition("/")[2]
    if layout.parse_step_name(step) is None:
        problem = f"{version}, from {version.source}, is not a checkpoint"
        help = "Name a version that a run of rackwright registered"
        raise TrackingRefused(Diagnostic("model", problem, help=help))
    target = fetch_manifest(server, version, manifest.NAME, into)
    contents = manifest.read(target)
    fetch_files(server, version, {name: entry.bytes for name, entry in contents.files.items()}, target)
    manifest.verify(target, contents)
    return target


def fetch_manifest(server: TrackingServer, version: Version, manifest_name: str, into: Path) -> Path:
    """Download the manifest of *version*, and return the directory below *into* for the version.

    Args:
        manifest_name: File name of the manifest.

    Raises:
        UserError: rackwright did not register the version, or its manifest differs from the registered one.
    """
    expected, place = version.tags.get(CHECKPOINT, ""), version.source.partition("mlflow-artifacts:/")[2].strip("/")
    if not DIGEST.fullmatch(expected) or not DIRECTORY.fullmatch(place.rpartition("/")[2]):
        problem = f"{version}, from {version.source}, is neither a checkpoint nor a model of rackwright"
        raise TrackingRefused(Diagnostic("model", problem, help="Name a version that rackwright registered"))
    target = directory_for(into, expected) / place.rpartition("/")[2]
    target.mkdir(parents=True, exist_ok=True)
    fetch_files(server, version, {manifest_name: manifest.MOST_BYTES}, target)
    if (digest := disk.sha256(target / manifest_name)) != expected:
        (target / manifest_name).unlink()
        problem, help = f"its manifest has SHA-256 {digest}", "Find out who changed the artifacts of its run"
        raise UserError(Diagnostic(str(version), problem, f"the registered SHA-256, {expected}", help))
    return target


def fetch_files(server: TrackingServer, version: Version, sizes: Mapping[str, int], target: Path) -> None:
    """Download the files of *version* that the directory *target* lacks, without verification.

    Args:
        sizes: Maximum size of each file in bytes, by name.
    """
    place = version.source.partition("mlflow-artifacts:/")[2].strip("/")
    for name, most in sizes.items():
        if not (target / name).exists():
            new_file = target / f".{name}.new"
            server.get_file(f"{place}/{name}", new_file, most)
            new_file.replace(target / name)


def cache_directory() -> Path:
    """Return the directory of downloaded versions."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "rackwright" / "models"


def directory_for(into: Path, digest: str) -> Path:
    """Return the directory below *into* for the version whose manifest has *digest*."""
    return into / digest[:16]


def _ensure_model(server: TrackingServer, name: str) -> None:
    try:
        server.post("registered-models/create", name=name)
    except TrackingRefused as error:
        if "already exists" not in str(error):
            raise


def _search_versions(server: TrackingServer, condition: str) -> list[Mapping[str, Any]]:
    versions: list[Mapping[str, Any]] = []
    page = {"filter": condition, "max_results": "200"}
    while True:
        response = server.get("model-versions/search", **page)
        versions += response.get("model_versions", [])
        if not response.get("next_page_token"):
            return versions
        page["page_token"] = response["next_page_token"]


def _parse_version(values: Mapping[str, Any]) -> Version:
    return Version(
        name=values["name"],
        version=str(values["version"]),
        run=values.get("run_id", ""),
        source=values.get("source", ""),
        aliases=tuple(sorted(values.get("aliases", ()))),
        created_ms=int(values.get("creation_timestamp", 0)),
        tags=provenance.from_tags(values.get("tags", [])),
    )
