"""Compare the locks of the repository with a snapshot of OSV's advisories: python -m tests.advisories [SNAPSHOT]

SNAPSHOT is a directory or zip file of OSV records in JSON, as osv.dev publishes them per ecosystem; without it, the
recorded one is compared, and nothing is fetched. `--record` writes it again, from Go's module with its advisories.
Exit status: 0 none applies, 1 one applies that is not allowed, 2 an input is wrong, 3 the snapshot cannot tell.
"""

import argparse
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "requirements" / "advisories.zip"
ALLOWED = ROOT / "requirements" / "advisories-allowed.yaml"
DESCRIPTION = "SNAPSHOT.json"
ALL = "ALL.json"
"""A file with a list of records, in the recorded snapshot."""
PYPI, GO = "PyPI", "Go"
VULNDB = "golang.org/x/vulndb"
"""The Go module whose data/osv has all advisories about Go modules. No package of PyPI has those of PyPI."""
OLD_DAYS = 90
"""A snapshot that is older cannot tell what is known today."""
RECORD_BYTES = 8 << 20
"""The most of one record."""
PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
REQUIRED = re.compile(r"^(?:require)?\s+(\S+) v(\S+)(?: // indirect)?$", re.MULTILINE)
"""A module of go.mod, which names all that are built in; go.sum keeps the hashes of others too."""
REPLACED = re.compile(r"^(?:replace)?\s+(\S+)(?: v\S+)? => (\S+) v(\S+)$", re.MULTILINE)
"""A module of go.mod that another one replaces."""


class BadInput(Exception):
    """A file that was given cannot be used; the message says which and why."""


@dataclass(frozen=True, order=True)
class Locked:
    """A version in a lock."""

    ecosystem: str
    name: str
    version: str
    lock: str
    """Path of the lock in the repository."""


@dataclass(frozen=True)
class Finding:
    """An advisory that applies to a locked version."""

    locked: Locked
    id: str
    aliases: tuple[str, ...]
    fixed: str
    """The first version that has it no more; empty if there is none."""
    severity: str

    def __str__(self) -> str:
        mended = f"fixed in {self.fixed}" if self.fixed else "no fixed version"
        return f"{self.locked.name} {self.locked.version}: {self.id}, {self.severity}, {mended} ({self.locked.lock})"


@dataclass(frozen=True)
class Snapshot:
    """Advisories of one day."""

    records: Mapping[tuple[str, str], list[Mapping[str, Any]]]
    """Ecosystem and name to records."""
    ecosystems: frozenset[str]
    """Those whose advisories are all in it."""
    taken: date | None
    note: str = ""
    unreadable: tuple[str, ...] = ()
    """Files that are no records."""


def locks(root: Path, paths: Iterable[str]) -> Iterator[Locked]:
    """Yield every version that the locks among *paths* name."""
    for path in paths:
        if path.endswith("go.mod"):
            text = (root / path).read_text()
            replaced = {old: (name, version) for old, name, version in REPLACED.findall(text)}
            for name, version in REQUIRED.findall(text):
                yield Locked(GO, *replaced.get(name, (name, version)), path)
        elif path.endswith((".txt", ".txt.j2")):
            text = (root / path).read_text(errors="replace")
            if "--hash=sha256:" in text:
                yield from (Locked(PYPI, _normal(name), version, path) for name, version in PINNED.findall(text))


def read(path: Path) -> Snapshot:
    """Return the snapshot in a directory or zip file.

    Raises:
        BadInput: it is neither, or its description is none.
    """
    records: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    unreadable: list[str] = []
    ecosystems: set[str] = set()
    description: Mapping[str, Any] = {}
    newest = ""
    for name, content in _files(path):
        try:
            data = json.loads(content)
            if name == DESCRIPTION:
                description = data
                continue
            for record in data if name == ALL else [data]:
                if record.get("withdrawn"):
                    continue
                newest = max(newest, str(record["modified"]))
                for affected in record["affected"]:
                    package = affected.get("package") or {}
                    ecosystem, called = package.get("ecosystem"), package.get("name")
                    if ecosystem in (PYPI, GO):
                        ecosystems.add(ecosystem)
                        key = (str(ecosystem), _normal(str(called)) if ecosystem == PYPI else str(called))
                        records.setdefault(key, []).append({**record, "affected": [affected]})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            unreadable.append(name)
    try:
        if description:
            ecosystems = set(description["ecosystems"])
        day = str(description.get("taken") or newest[:10])
        taken = date.fromisoformat(day) if day else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: {DESCRIPTION} has no day or ecosystems ({error}). Correct it.") from None
    note = str(description.get("note", ""))
    return Snapshot(records, frozenset(ecosystems), taken, note, tuple(unreadable))


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        if path.is_dir():
            for file in sorted(path.rglob("*.json")):
                with file.open("rb") as opened:
                    yield file.name, opened.read(RECORD_BYTES)
            return
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".json"):
                    with archive.open(entry) as opened:
                        yield entry.filename, opened.read(RECORD_BYTES)
    except (OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: {error}. Name a directory or zip file of OSV records.") from None


def record(path: Path) -> str:
    """Write the advisories of Go's module into the snapshot *path*, without their prose, and return its version.

    Raises:
        BadInput: there is no Go, or it cannot fetch the module.
    """
    command = ["go", "mod", "download", "-json", f"{VULNDB}@latest"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
        module = json.loads(done.stdout)
        commit = re.search(r"-(\d{4})(\d\d)(\d\d)\d{6}-", module["Version"])
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise BadInput(f"{' '.join(command)}: {getattr(error, 'stderr', '') or error}") from None
    if commit is None:
        raise BadInput(f"{VULNDB} has version {module['Version']}, which has no day")
    note = f"Advisories of {VULNDB} {module['Version']}. There are none of PyPI: give them by ADVISORIES=."
    description = {"taken": "-".join(commit.groups()), "ecosystems": [GO], "note": note}
    advisories = [
        _comparable(json.loads(file.read_bytes())) for file in sorted(Path(module["Dir"], "data/osv").glob("*.json"))
    ]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in ((DESCRIPTION, description), (ALL, advisories)):
            entry = zipfile.ZipInfo(name)  # with no time of the day
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, json.dumps(content, separators=(",", ":")))
    return str(module["Version"])


def _comparable(advisory: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of an advisory that decide whether it applies, and its names."""
    affected = [
        {name: each[name] for name in ("package", "ranges", "versions") if name in each}
        for each in advisory["affected"]
    ]
    names = ("id", "modified", "withdrawn", "aliases", "severity")
    return {**{name: advisory[name] for name in names if name in advisory}, "affected": affected}


def findings(locked: Iterable[Locked], snapshot: Snapshot) -> tuple[list[Finding], list[str]]:
    """Return the advisories that apply to locked versions, and what could not be compared."""
    found: list[Finding] = []
    unknown: list[str] = []
    for each in sorted(set(locked)):
        for record in snapshot.records.get((each.ecosystem, each.name), ()):
            try:
                fixed = _applies(each, record["affected"][0])
            except (InvalidVersion, ValueError, KeyError, TypeError, AttributeError) as error:
                unknown.append(f"{each.name} {each.version}: {record.get('id')} cannot be compared ({error})")
                continue
            if fixed is not None:
                aliases = tuple(map(str, record.get("aliases") or ()))
                found.append(Finding(each, str(record.get("id")), aliases, fixed, _severity(record)))
    return found, unknown


def _applies(locked: Locked, affected: Mapping[str, Any]) -> str | None:
    """Return None where *affected* does not name the version, else the version that mends it, empty for none."""
    key: Callable[[str], Any] = Version if locked.ecosystem == PYPI else semver
    version = key(locked.version)
    fixes: list[str] = []
    hit = locked.version in (affected.get("versions") or ())
    for span in affected.get("ranges") or ():
        if span["type"] == "GIT":
            continue
        inside = False
        for event in sorted(span["events"], key=lambda event: _place(event, key)):
            if "introduced" in event:
                inside = inside or event["introduced"] == "0" or version >= key(event["introduced"])
            elif "fixed" in event:
                hit = hit or (inside and version < key(event["fixed"]))
                fixes += [event["fixed"]] * (version < key(event["fixed"]))
                inside = False
            elif "last_affected" in event:
                hit = hit or (inside and version <= key(event["last_affected"]))
                inside = False
        hit = hit or inside
    return min(fixes, key=key, default="") if hit else None


def _place(event: Mapping[str, str], key: Callable[[str], Any]) -> tuple[Any, ...]:
    [text] = event.values()
    return (0,) if text == "0" else (1, key(text))


def semver(text: str) -> tuple[Any, ...]:
    """Return what orders a version of Go as semver.org does, pseudo-versions included."""
    core, _, before = text.removeprefix("v").partition("+")[0].partition("-")
    numbers = tuple(map(int, core.split(".")))
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in before.split(".") if before)
    return (*(*numbers, 0, 0)[:3], not before, parts)


def _severity(record: Mapping[str, Any]) -> str:
    own = record.get("database_specific")
    named = own.get("severity") if isinstance(own, dict) else None
    scores = [str(each.get("score")) for each in record.get("severity") or () if isinstance(each, dict)]
    return str(named or next(iter(scores), "") or "severity not named").lower()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Allowed:
    """An advisory that a person has judged."""

    id: str
    package: str
    reason: str
    until: date


def allowed(path: Path) -> tuple[Allowed, ...]:
    """Return the advisories that a file allows.

    Raises:
        BadInput: an entry has no id, package, reason or date.
    """
    try:
        entries = yaml.safe_load(path.read_text())
        found = tuple(Allowed(**entry) for entry in entries or ())
        if not all(type(each.until) is date and str(each.reason).strip() for each in found):
            raise TypeError("until is a date, and reason a text")
    except (OSError, yaml.YAMLError, TypeError) as error:
        want = "each entry has id, package, reason and until"
        raise BadInput(f"{path}: {error}; {want}. Correct it.") from None
    return found


def report(
    locked: list[Locked], snapshot: Snapshot, permitted: Iterable[Allowed], today: date
) -> tuple[list[str], int]:
    """Return the lines to print and the exit status."""
    lines = [snapshot.note] if snapshot.note else []
    found, unknown = findings(locked, snapshot)
    valid = {(each.id, each.package): each for each in permitted if each.until >= today}
    applies = 0
    for finding in found:
        names = ((id, finding.locked.name) for id in (finding.id, *finding.aliases))
        reason = next((valid[name].reason for name in names if name in valid), None)
        applies += reason is None
        lines.append(f"{finding}" + (f": allowed, {reason}" if reason is not None else ""))
    lines += [f"unknown: {text}" for text in unknown]
    lines += [f"unknown: {name} is no OSV record" for name in snapshot.unreadable]
    for ecosystem in sorted({each.ecosystem for each in locked} - snapshot.ecosystems):
        count = len({(each.name, each.version) for each in locked if each.ecosystem == ecosystem})
        lines.append(
            f"unknown: the snapshot has no advisories of {ecosystem}, {count} locked versions are not compared"
        )
    if snapshot.taken is None or (today - snapshot.taken).days > OLD_DAYS:
        lines.append(f"unknown: the snapshot is of {snapshot.taken}; it is good for {OLD_DAYS} days at most")
    cannot_tell = any(line.startswith("unknown: ") for line in lines)
    versions = len({(each.ecosystem, each.name, each.version) for each in locked})
    lines.append(f"{versions} locked versions, snapshot of {snapshot.taken}: {applies} advisories apply")
    return lines, 1 if applies else 3 if cannot_tell else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.advisories", description=__doc__)
    parser.add_argument("snapshot", nargs="?", type=Path, default=RECORDED)
    parser.add_argument("--record", action="store_true", help="write the recorded snapshot again, from Go's module")
    given = parser.parse_args(arguments)
    if given.record:
        print(f"{RECORDED.relative_to(ROOT)}: {VULNDB} {record(RECORDED)}")
        return 0
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    try:
        lines, status = report(
            list(locks(ROOT, listed.splitlines())), read(given.snapshot), allowed(ALLOWED), date.today()
        )
    except BadInput as error:
        lines, status = [str(error)], 2
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
