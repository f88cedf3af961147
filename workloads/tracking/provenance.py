"""What a run was made of, as tags: read from what lies in its directory, and never made up."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from workloads.errors import WorkloadError

KEYS = ("fleet", "declaration", "lock", "hosts", "code", "data", "parent")
"""What a version has to say of itself: by what it was declared, on which machines, by which code, from what."""
QUANTISED = ("parent", "target", "precision", "gate", "data", "code", "machine")
"""What one that was quantised has to say: what it was declared by and on is said by its parent."""
PREFIX = "rackwright."
"""Of the tags, so that they are told from other people's."""
NONE = "none"
"""Said where there is none, and that is known: a model that begins anew has no parent."""
WORKLOADS = Path(__file__).parents[1]


def code_digest(folder: Path = WORKLOADS) -> str:
    """Return the SHA-256 of all sources in *folder*, with their names."""
    whole = sha256()
    for path in sorted(folder.rglob("*.py")):
        whole.update(f"{path.relative_to(folder)}\0{sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def keys(said: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a version with these tags has to say of itself."""
    return QUANTISED if "precision" in said else KEYS


def of_run(out: Path) -> dict[str, str]:
    """Return what is known of the run in *out*, by `KEYS`; what nobody has written there is left out.

    ``provenance.json`` is written by whoever declared the run, ``lineage.json`` by the run itself. The code is what is
    running, where the former does not say it.
    """
    declared, own = read(out / "provenance.json"), read(out / "lineage.json")
    found = {key: _text(declared[key]) for key in KEYS if declared.get(key)}
    if own.get("data"):
        found["data"] = " ".join(_contents(own["data"]))
    if "parent" in own:
        found["parent"] = str(own["parent"]["sha256"]) if own["parent"] else NONE
    return {"code": code_digest(), **found}


def tags(found: Mapping[str, str]) -> list[dict[str, str]]:
    """Return *found* as MLflow takes tags."""
    return [{"key": f"{PREFIX}{key}", "value": value} for key, value in sorted(found.items())]


def from_tags(told: list[Mapping[str, str]]) -> dict[str, str]:
    """Return what tags of ours say."""
    ours = ((tag["key"].removeprefix(PREFIX), tag["value"]) for tag in told if tag["key"].startswith(PREFIX))
    return dict(ours)


def _text(value: Any) -> str:
    """Return one line: of hosts ``alpha=… beta=…``."""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={told}" for name, told in sorted(value.items()))
    return str(value)


def _contents(data: Any) -> Iterator[str]:
    for each in data if isinstance(data, list) else [data]:
        yield str(each["sha256"]) if isinstance(each, Mapping) else str(each)


def read(path: Path) -> dict[str, Any]:
    """Return what one of these files says; nothing where it is not there."""
    try:
        told = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WorkloadError(str(path), f"got {error}", "a run's provenance is JSON", "Let it be as it was") from None
    return told if isinstance(told, dict) else {}
