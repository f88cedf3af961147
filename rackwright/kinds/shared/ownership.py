"""Owner files on a host: the resource and fleet that own a thing, and the phase of its creation."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rackwright.core.contract import Command
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared.unknown_facts import unknown_fact

BACKUPS = "/var/lib/rackwright/before"
UNITS = "/etc/systemd/system"
_KEEP = """set -eu
kept=$1; shift
for path; do
  { [ -e "$path" ] || [ -L "$path" ]; } && [ ! -e "$kept$path" ] && [ ! -L "$kept$path" ] || continue
  mkdir -p "$kept$(dirname "$path")"
  cp -a "$path" "$kept$path"
done
"""
_RESTORE = """set -eu
kept=$1; shift
for path; do
  if [ -e "$kept$path" ] || [ -L "$kept$path" ]; then
    cp -aT --remove-destination "$kept$path" "$path.rackwright" && mv -T "$path.rackwright" "$path"
    rm -f "$kept$path"
  else
    rm -f "$path"
  fi
done
[ ! -d "$kept" ] || find "$kept" -depth -type d -empty -delete
"""
_STOP = """set -eu
kept=$1 units=$2; shift 2
for unit; do
  file=$units/$unit
  [ -e "$file" ] && [ ! -e "$kept$file" ] || continue
  systemctl disable --quiet "$unit"
  [ "$(systemctl show --property=Type --value "$unit")" = oneshot ] || systemctl stop "$unit"
done
"""


def owner_file(name: str) -> str:
    """Return the path of an owner file."""
    return f"/var/lib/rackwright/owners/{name}.json"


def backup_path(name: str) -> str:
    """Return the directory with the backups of the files that the owner *name* replaced, by path."""
    return f"{BACKUPS}/{name}"


def back_up(name: str, paths: tuple[str, ...]) -> Command:
    """Return the step that backs up the files at *paths*. An existing backup is older, and stays."""
    argv = ("sh", "-c", _KEEP, "sh", backup_path(name), *paths)
    return Command(f"back up the earlier version of {_files(paths)}", argv)


def restore(name: str, paths: tuple[str, ...]) -> Command:
    """Return the step that restores the backups of *paths*; a file without a backup is removed."""
    argv = ("sh", "-c", _RESTORE, "sh", backup_path(name), *paths)
    return Command(f"restore the earlier version of {_files(paths)}", argv)


def written_units(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the units of systemd whose files are among *paths*.

    A template, `NAME@.service`, is left out: systemd stops no template, and a socket ends with its instances.
    """
    found = (path.rpartition("/") for path in paths)
    return tuple(name for folder, _, name in found if folder == UNITS and "@." not in name)


def stop_units(name: str, units: Sequence[str]) -> Command:
    """Return the step that disables *units*, and stops those that run, before their files are removed.

    A unit with an earlier version comes back, and goes on. A unit of type oneshot is disabled alone: its ExecStop may
    open what it has closed, such as a packet filter, before its programs end.
    """
    argv = ("sh", "-c", _STOP, "sh", backup_path(name), UNITS, *units)
    return Command(f"stop and disable {', '.join(units)}", argv)


def _files(paths: tuple[str, ...]) -> str:
    return f"{len(paths)} file{'s' * (len(paths) != 1)}"


def owner_text(id: str, fleet: str, phase: str, **more: Any) -> str:
    """Return the content of an owner file."""
    owner: Mapping[str, Any] = {"id": id, "fleet": fleet, "phase": phase, **more}
    return json.dumps(owner, sort_keys=True) + "\n"


def refuse_foreign(id: str, fleet: str, name: str, noun: str, facts: Facts) -> tuple[Diagnostic, ...]:
    """Return a refusal if another fleet owns the *noun*, or if its owner is unknown.

    Args:
        name: The name of the owner file.
    """
    try:
        owner = facts.owner(name)
    except UnknownFact as reason:
        return (unknown_fact(id, reason),)
    if owner is None or (owner.get("id"), owner.get("fleet")) == (id, fleet):
        return ()
    problem = f"{owner_file(name)} belongs to {owner.get('id')} in fleet {owner.get('fleet')}"
    return (
        Diagnostic(
            id, problem, f"one owner for each {noun} on a host", "Declare it in one fleet only", id="other-owner"
        ),
    )
