"""Rules about files with special rights, and about the directories that rackwright owns whole."""

import re
import stat
from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration, workload_of
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.facts import Facts

SET_ID = stat.S_ISUID | stat.S_ISGID
OWNERS = "/var/lib/rackwright/owners"
WHOLE = ("/etc/rackwright", "/opt/rackwright", OWNERS)
"""Directories in which rackwright alone writes."""
WORKLOADS = tuple(
    f"{top}/{name}/" for top in ("/etc/rackwright", "/opt/rackwright") for name in ("runs", "servers", "gpus")
)
"""Directories of runs and servers; the fleet of each compares its own directory, and no other has a file here."""


def set_id(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for path, entry in facts.special_files.items():
        mode = str(entry.get("mode")) if isinstance(entry, dict) else ""
        gives_rights = re.fullmatch("[0-7]{4}", mode) and int(mode, 8) & SET_ID
        if gives_rights and "mode" not in declared.wants.get(f"file:{path}", {}):
            yield Finding(f"file:{path}", f"mode {mode}, owner {entry.get('owner')}")


def owned_whole(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the files in these directories that no resource declares, and that no owner file of rackwright names."""
    written = {path for name in facts.table("owners") for path in (facts.owner(name) or {}).get("wrote", ())}
    claimed_folders = {path.rpartition("/")[0] for path in declared.names("file")}
    for path in facts.paths_below(*WHOLE):
        folder, entry = path.rpartition("/")[0], facts.table("files")[path]
        if path.startswith(WORKLOADS):
            if not _is_installed(workload_of(path), facts):
                yield Finding(f"file:{path}", "in a directory of rackwright alone, of no run or server on this host")
            continue
        is_owner_file = folder == OWNERS and path.endswith(".json")
        is_folder = isinstance(entry, dict) and entry.keys() == {"unknown"}  # such as a Python environment
        if is_owner_file or is_folder or path in written or declared.declares_path(path):
            continue
        if folder in claimed_folders or folder in WHOLE:
            yield Finding(f"file:{path}", "in a directory of rackwright alone")


def _is_installed(workload: str, facts: Facts) -> bool:
    """Return whether the host has this run or server of any fleet, as its owner file says."""
    return (facts.owner(workload) or {"phase": "removed"}).get("phase") != "removed"


def owner_files(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the owner files of resources that left the declaration; one with the phase `removed` is only a record."""
    for name in facts.table("owners"):
        owner = facts.owner(name) or {}
        removed = owner.get("phase") == "removed"
        is_left = owner.get("id") not in declared.ids and not declared.declares(f"owner:{name}")
        if owner.get("fleet") == declared.fleet and is_left and not removed:
            host = str(owner.get("id")).partition("/")[0]
            if host != declared.name and host in declared.hosts:
                where = f"a resource of host {host}, whose record or facts this host has"
            else:
                where = f"which the fleet does not declare on {declared.name}"
            yield Finding(f"owner:{name}", f"of {owner.get('id')}, {where}")


RULES = (
    Rule(
        "RW-060",
        "No undeclared file in the configuration or below /usr/local gives rights to its caller.",
        "files with special rights",
        "Everybody who runs such a file gets the rights of its owner or group.",
        f"Remove the bit with `chmod u-s,g-s`, {ADMIT}",
        "chmod(1); CIS Debian Linux 12 Benchmark, 7.1",
        set_id,
        severity="error",
    ),
    Rule(
        "RW-061",
        "The directories of rackwright have only files of resources.",
        "files of rackwright",
        "Such a file may pass for a declared one, or be left of an earlier version.",
        f"Remove the file, {ADMIT}",
        "docs/explanation/design.md",
        owned_whole,
    ),
    Rule(
        "RW-062",
        "Each owner file of this fleet belongs to a declared resource.",
        "owner files",
        "The resource left the declaration without its removal, so its files and services stay.",
        f"Declare it again and remove it with `rackwright up`; of another host: find out which one answers, {ADMIT}",
        "docs/explanation/design.md",
        owner_files,
    ),
)
