"""The packages that roles brought to a host, and that leave it with the last role that needs them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rackwright.core.contract import Command
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.role.entries.entry import Entry
from rackwright.kinds.role.entries.software import PackageEntry
from rackwright.kinds.shared.ownership import owner_file

NEEDED, BROUGHT = "packages", "brought"
"""Keys of an owner file: packages that the role needs, and those of them that the host has only because of roles."""
_LEAVE = """import json, os, pathlib, subprocess, sys
own = pathlib.Path(sys.argv[1])
owners = {}
for path in sorted(own.parent.glob("role-*.json")):
    owners[path] = json.loads(path.read_text())
brought = set(owners.pop(own, {}).get("brought", ()))
for path, owner in owners.items():
    handed = brought & set(owner.get("packages", ()))
    brought -= handed
    if handed - set(owner.get("brought", ())):
        owner["brought"] = sorted(handed | set(owner.get("brought", ())))
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(owner, sort_keys=True) + "\\n")
        new.replace(path)
def apt(*words):
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    argv = ["apt-get", "-o", "DPkg::Lock::Timeout=120", *words]
    return subprocess.run(argv, env=environment, check=True, capture_output=True, text=True).stdout
def leaving(names):
    lines = apt("--simulate", "--no-auto-remove", "remove", *sorted(names)).splitlines() if names else []
    return {line.split()[1].partition(":")[0] for line in lines if line.startswith("Remv ")}
def installed(name):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", name], capture_output=True, text=True)
    return done.returncode == 0 and done.stdout == "installed"
brought = {name for name in brought if installed(name)}
while extra := leaving(brought) - brought:
    # something else needs one of them by now
    stay = {name for name in brought if leaving({name}) - brought}
    brought = brought - stay if stay else set()
if brought:
    apt("--yes", "--no-auto-remove", "remove", *sorted(brought))
    print("removed", *sorted(brought))
"""


def notes(entries: Sequence[Entry], owner: Mapping[str, Any], facts: Facts) -> dict[str, tuple[str, ...]]:
    """Return the part of a role's owner file about packages, before the role is played.

    A role of an earlier version has no such part. It needs no package that another role brought later, because its own
    were installed by then.
    """
    needed = [entry.package for entry in entries if isinstance(entry, PackageEntry) and entry.leaves]
    brought = {*owner.get(BROUGHT, ()), *_absent(needed, facts)}
    if not needed and not brought:
        return {}
    return {NEEDED: tuple(sorted(needed)), BROUGHT: tuple(sorted(brought))}


def _absent(names: Sequence[str], facts: Facts) -> Iterator[str]:
    """Yield those of *names* that are certainly not installed."""
    for name in names:
        try:
            if facts.package(name) is None:
                yield name
        except UnknownFact:
            continue


def remove(owner: str, brought: Sequence[str]) -> Command:
    """Return the step that removes the packages in *brought* that no other role on the host needs.

    The host decides when the step runs, because another role may have been removed a moment before. A package that
    another role needs is handed over to it; a package that another package needs stays.

    Args:
        owner: The name of the owner file.
    """
    count = f"{len(brought)} package{'s' * (len(brought) != 1)}"
    return Command(f"remove {count} if no other role needs them", ("python3", "-c", _LEAVE, owner_file(owner)))
