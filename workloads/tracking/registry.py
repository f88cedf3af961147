"""The registry of models: a run's newest checkpoint becomes a version, and a version a checkpoint again."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from workloads.checkpoint import checkpoints, disk, layout, manifest
from workloads.errors import WorkloadError
from workloads.tracking import provenance
from workloads.tracking.server import Refused, Server
from workloads.tracking.tracker import tracked

REFERENCE = re.compile(r"(?:models:/)?(?P<name>[A-Za-z0-9][\w. -]*)(?:@(?P<alias>[\w.-]+)|/(?P<version>\d+))?")
"""``digits``, ``digits@champion``, ``digits/3``, each also as MLflow's ``models:/…``."""
DIGEST = re.compile(r"[0-9a-f]{64}")
DIRECTORY = re.compile(r"[A-Za-z0-9][\w.-]*")
"""The name of a version's directory; the server chooses it, so `..` must not pass."""
CHECKPOINT = "checkpoint"
"""The digest of a version's manifest, which has those of its files: by it a child knows its parent. Of a model that was
published its model.json is that."""
PARENT_VERSION = "parent_version"
"""As what the parent was asked for: a checkpoint may be registered under several names."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a registered model, as the registry has it."""

    name: str
    version: str
    run: str
    source: str
    """Where its files are: ``mlflow-artifacts:/EXPERIMENT/RUN/artifacts/…``."""
    aliases: tuple[str, ...]
    created_ms: int
    """Milliseconds since 1970."""
    tags: Mapping[str, str]
    """Those of ours, without what they begin with."""

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def register(server: Server, out: Path, name: str) -> Version:
    """Let the checkpoint that came of the run in *out* be a version of the model *name*, and return it.

    That is the one that ``lineage.json`` names, else the newest whole one; one that is a version already stays that.

    Raises:
        WorkloadError: the run is not known there, has no checkpoint, or is not to be published.
    """
    told = tracked(out)
    if told.get("url") != server.url or "run" not in told:
        fix = "Run it with --tracking, or send it by `python -m workloads.tracking`"
        raise Refused(str(out), f"got a run that {server.url} does not know", "a version belongs to a run there", fix)
    lineage = provenance.read(out / "lineage.json")
    if lineage.get("published") is False:
        want, fix = "a version is no worse than its parent", "Train on, or say --publish-worse with a reason"
        raise Refused(str(out), "got a run that is not to be published", want, fix)
    found = _outcome(out / "checkpoints", lineage.get("checkpoint"))
    if found is None:
        raise Refused(str(out), "got no whole checkpoint", "a version is one", "Train until one is saved")
    digest = _digest(found.path)
    if there := with_checkpoint(server, digest, name):
        return there
    place = f"{told['experiment']}/{told['run']}/artifacts/{layout.step_name(found.step)}"
    for file in sorted(path for path in found.path.iterdir() if path.is_file()):
        server.put_file(f"{place}/{file.name}", file)
    return enter(
        server, name, place, told["run"], {**provenance.of_run(out), CHECKPOINT: digest, "step": str(found.step)}
    )


def enter(server: Server, name: str, place: str, run: str, said: Mapping[str, str]) -> Version:
    """Let what lies at *place*, ``EXPERIMENT/RUN/artifacts/…``, be a new version of the model *name*, and return it."""
    _have_model(server, name)
    source = f"mlflow-artifacts:/{place}"
    made = server.post("model-versions/create", name=name, source=source, run_id=run, tags=provenance.tags(said))
    return _version(made["model_version"])


def _outcome(directory: Path, digest: str | None) -> checkpoints.Checkpoint | None:
    """Return the checkpoint with that *digest*, proved; without one the newest that is whole."""
    if digest is None:
        return checkpoints.newest(directory)
    for step in reversed(layout.steps(directory)):
        found = checkpoints.at_step(directory, step)
        if _digest(found.path) == digest:
            manifest.verify(found.path, found.manifest)
            return found
    return None


def _digest(checkpoint: Path) -> str:
    return sha256((checkpoint / manifest.NAME).read_bytes()).hexdigest()


def find(server: Server, reference: str) -> Version:
    """Return the version that *reference* names; without alias or number the newest.

    Raises:
        Refused: there is none.
    """
    parts = REFERENCE.fullmatch(reference)
    if parts is None:
        want, fix = "a version is MODEL, MODEL@ALIAS or MODEL/NUMBER", "Write it like digits@champion"
        raise Refused("model", f"got {reference}", want, fix)
    name, alias, number = parts["name"], parts["alias"], parts["version"]
    try:
        if alias:
            return _version(server.get("registered-models/alias", name=name, alias=alias)["model_version"])
        if number:
            return _version(server.get("model-versions/get", name=name, version=number)["model_version"])
        versions = [_version(each) for each in _search(server, f"name='{name}'")]
    except Refused as refused:
        if refused.status != 404:
            raise
        versions = []
    if not versions:
        fix = "Look in the registry for what there is"
        raise Refused("model", f"got {reference}", f"{server.url} has no such version", fix, 404)
    return max(versions, key=lambda version: int(version.version))


def with_checkpoint(server: Server, digest: str, name: str = "") -> Version | None:
    """Return the first version of that checkpoint; where *name* is given, of that model."""
    found = [_version(each) for each in _search(server, f"tags.`{provenance.PREFIX}{CHECKPOINT}` = '{digest}'")]
    return min(
        (each for each in found if not name or each.name == name), key=lambda each: each.created_ms, default=None
    )


def fetch(server: Server, reference: str, into: Path) -> Path:
    """Return the directory with the checkpoint of a version, brought below *into* if it is not there, and proved.

    Raises:
        WorkloadError: there is none, or its files are not those that were registered.
    """
    version = find(server, reference)
    step = version.source.rstrip("/").rpartition("/")[2]
    if layout.parse_step_name(step) is None:
        fix = "Name a version that a run of ours has registered"
        raise Refused("model", f"got {version}, from {version.source}", "a version is a checkpoint", fix)
    target = begin(server, version, manifest.NAME, into)
    told = manifest.read(target)
    bring(server, version, {name: entry.bytes for name, entry in told.files.items()}, target)
    manifest.verify(target, told)
    return target


def begin(server: Server, version: Version, described: str, into: Path) -> Path:
    """Return the directory below *into* that *version* is brought to, with its manifest, called *described*, in it.

    Raises:
        WorkloadError: it is none of ours, or that is not the manifest that was registered.
    """
    wanted, place = version.tags.get(CHECKPOINT, ""), version.source.partition("mlflow-artifacts:/")[2].strip("/")
    if not DIGEST.fullmatch(wanted) or not DIRECTORY.fullmatch(place.rpartition("/")[2]):
        want, fix = "a version is a checkpoint or a model of ours", "Name one that was registered by us"
        raise Refused("model", f"got {version}, from {version.source}", want, fix)
    target = under(into, wanted) / place.rpartition("/")[2]
    target.mkdir(parents=True, exist_ok=True)
    bring(server, version, {described: manifest.MOST_BYTES}, target)
    if (got := disk.sha256(target / described)) != wanted:
        (target / described).unlink()
        fix = "Look who has changed the artifacts of its run"
        raise WorkloadError(str(version), f"got a manifest with SHA-256 {got}", f"registered was {wanted}", fix)
    return target


def bring(server: Server, version: Version, sizes: Mapping[str, int], target: Path) -> None:
    """Bring those files of *version* that are not in the directory *target* yet; nothing is proved.

    Args:
        sizes: The most bytes of each file, by its name.
    """
    place = version.source.partition("mlflow-artifacts:/")[2].strip("/")
    for name, most in sizes.items():
        if not (target / name).exists():
            beside = target / f".{name}.new"
            server.get_file(f"{place}/{name}", beside, most)
            beside.replace(target / name)


def kept() -> Path:
    """Return where versions that were fetched are kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "rackwright" / "models"


def under(into: Path, digest: str) -> Path:
    """Return the directory below *into* for what has the manifest of that *digest*."""
    return into / digest[:16]


def _have_model(server: Server, name: str) -> None:
    try:
        server.post("registered-models/create", name=name)
    except Refused as refused:
        if "already exists" not in str(refused):
            raise


def _search(server: Server, condition: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    page = {"filter": condition, "max_results": "200"}
    while True:
        told = server.get("model-versions/search", **page)
        found += told.get("model_versions", [])
        if not told.get("next_page_token"):
            return found
        page["page_token"] = told["next_page_token"]


def _version(told: Mapping[str, Any]) -> Version:
    return Version(
        name=told["name"],
        version=str(told["version"]),
        run=told.get("run_id", ""),
        source=told.get("source", ""),
        aliases=tuple(sorted(told.get("aliases", ()))),
        created_ms=int(told.get("creation_timestamp", 0)),
        tags=provenance.from_tags(told.get("tags", [])),
    )
