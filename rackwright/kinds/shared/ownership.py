"""Owner files: whose a thing on a host is, in which fleet, and how far its making has come."""

import json
from collections.abc import Mapping
from typing import Any

from rackwright.core.contract import Command, Refusal
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact

KEPT = "/var/lib/rackwright/before"
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


def owner_file(name: str) -> str:
    return f"/var/lib/rackwright/owners/{name}.json"


def kept(name: str) -> str:
    """Return where what stood in the place of its files is kept, by path."""
    return f"{KEPT}/{name}"


def keep(name: str, paths: tuple[str, ...]) -> Command:
    """Return the step that keeps what stands at *paths*, once: what is kept already is older, and stays."""
    return Command(f"keep what stood in the place of {_files(paths)}", ("sh", "-c", _KEEP, "sh", kept(name), *paths))


def restore(name: str, paths: tuple[str, ...]) -> Command:
    """Return the step that puts back what was kept of *paths*; where nothing was kept, nothing stood."""
    argv = ("sh", "-c", _RESTORE, "sh", kept(name), *paths)
    return Command(f"put back what stood in the place of {_files(paths)}", argv)


def _files(paths: tuple[str, ...]) -> str:
    return f"{len(paths)} file{'s' * (len(paths) != 1)}"


def owner_text(id: str, fleet: str, phase: str, **more: Any) -> str:
    told: Mapping[str, Any] = {"id": id, "fleet": fleet, "phase": phase, **more}
    return json.dumps(told, sort_keys=True) + "\n"


def foreign(id: str, fleet: str, name: str, noun: str, facts: Facts) -> tuple[Refusal, ...]:
    """Refuse where the *noun* is another fleet's, or where that cannot be known.

    Args:
        name: Of its owner file.
    """
    try:
        owner = facts.owner(name)
    except UnknownFact as reason:
        want = f"a plan needs to know whose the {noun} is"
        return (Refusal(id, f"got no answer ({reason})", want, "Mend that, and run again"),)
    if owner is None or (owner.get("id"), owner.get("fleet")) == (id, fleet):
        return ()
    got = f"got {owner_file(name)} of {owner.get('id')} in fleet {owner.get('fleet')}"
    return (Refusal(id, got, f"a {noun} on a host has one owner", "Declare it in one fleet only"),)
