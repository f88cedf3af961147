"""The provenance of a run as tags, read from files in its directory."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_json, read_file

DECLARED = ("fleet", "declaration", "lock", "hosts")
"""Tags that a run by hand has no values for."""
KEYS = ("fleet", "declaration", "lock", "hosts", "code", "data", "parent")
"""Required tags of a version: its declaration, machines, code, data and parent."""
QUANTISED = ("parent", "target", "precision", "gate", "data", "code", "machine")
"""Required tags of a quantised version; its parent has those of declaration and hosts."""
PREFIX = "rackwright."
"""Prefix that separates our tags from other tags."""
NONE = "none"
"""Value for something that is known not to exist: a model with random initial weights has no parent."""
PRIVATE = "private"
"""Value for the digest of rows with differential privacy, which no run publishes."""
WORKLOADS = Path(__file__).parents[1]


def code_digest(folder: Path = WORKLOADS) -> str:
    """Return the SHA-256 of the names and contents of all Python files in *folder*."""
    digest = sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0{sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def required_keys(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Return the required tags of a version with these *tags*."""
    return QUANTISED if "precision" in tags else KEYS


def collect(out: Path) -> dict[str, str]:
    """Return the known provenance of the run in *out* by `KEYS`, without unknown facts.

    The stack that declares the run writes ``provenance.json``; the run itself writes ``lineage.json``. If the first has
    no digest of the code, the digest of the running code is used. A run by hand has no declaration, and says so.

    Raises:
        UserError: A file cannot be read, or is malformed.
    """
    declared, own = load_json(out / "provenance.json"), load_json(out / "lineage.json")
    values = dict.fromkeys(DECLARED, NONE) if own.get("declared") is False else {}
    values |= {key: _format(declared[key]) for key in KEYS if declared.get(key)}
    try:
        if own.get("data"):
            values["data"] = " ".join(_data_digests(own["data"]))
        if "parent" in own:
            values["parent"] = str(own["parent"]["sha256"]) if own["parent"] else NONE
    except (KeyError, TypeError):
        problem, expected = "data or parent has another form than a run writes", "an object with sha256"
        raise UserError(Diagnostic(str(out / "lineage.json"), problem, expected, "Restore the file")) from None
    return {"code": code_digest(), **values}


def to_tags(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Return *values* as tags of MLflow, with the prefix."""
    return [{"key": f"{PREFIX}{key}", "value": value} for key, value in sorted(values.items())]


def from_tags(tags: list[Mapping[str, str]]) -> dict[str, str]:
    """Return the values of the tags that have the prefix."""
    ours = ((tag["key"].removeprefix(PREFIX), tag["value"]) for tag in tags if tag["key"].startswith(PREFIX))
    return dict(ours)


def _format(value: Any) -> str:
    """Return *value* as one line; a mapping becomes ``alpha=… beta=…``."""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={item}" for name, item in sorted(value.items()))
    return str(value)


def _data_digests(data: Any) -> Iterator[str]:
    for each in data if isinstance(data, list) else [data]:
        yield str(each["sha256"] or PRIVATE) if isinstance(each, Mapping) else str(each)


def load_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in *path*; empty if the file is missing.

    Raises:
        UserError: The file cannot be read, or is not JSON.
    """
    try:
        values = parse_json(read_file(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            Diagnostic(str(path), f"the provenance of the run cannot be read: {error}", "JSON", "Restore the file")
        ) from None
    return values if isinstance(values, dict) else {}
