"""Files that no package installed and no resource declares."""

from collections.abc import Iterable, Iterator

from rackwright.audit.undeclared.armed import armed_paths
from rackwright.audit.undeclared.declaration import HostDeclaration, foreign_workloads, is_of_workload
from rackwright.audit.undeclared.rule import Finding
from rackwright.facts.facts import Facts
from rackwright.facts.inventory import top_of
from rackwright.facts.view import UnknownFact

MASKABLE = ("/etc/systemd/", "/etc/udev/", "/etc/sysctl.d/", "/etc/modprobe.d/", "/etc/tmpfiles.d/")
"""Directories in which a link to /dev/null switches off the file of that name in a directory of the packages."""


def unpackaged_in(facts: Facts, declared: HostDeclaration, *folders: str) -> Iterator[str]:
    """Yield the paths in *folders*, at any depth, that no package installed and nothing declares.

    A folder may also be the path of one file. A link that only switches off a packaged file is no file of its own.
    """
    _require_listed(facts, folders)
    by_top = facts.unpackaged_by_top
    tops = dict.fromkeys(map(top_of, folders))
    for path in (path for top in tops for path in by_top.get(top, ())):
        if is_in(path, folders) and not declared.declares_path(path):
            is_mask = path.startswith(MASKABLE) and link_target(facts, path) == "/dev/null"
            if not is_mask and path not in armed_paths(facts):
                yield path


def _require_listed(facts: Facts, folders: tuple[str, ...]) -> None:
    """Require that the probe has listed each of *folders* with all files below.

    Raises:
        UnknownFact: One belongs to another account than root, is a mount, or is a link to somewhere else.
    """
    for path, reason in facts.unread_folders.items():
        if is_in(path, folders) or any(is_in(folder, (path,)) for folder in folders):
            raise UnknownFact(f"{path}: {reason}")
    for folder in folders:
        target = link_target(facts, folder)
        if target is not None and folder not in facts.changed_conffiles and folder not in facts.unpackaged:
            raise UnknownFact(f"{folder}: a link to {target}")


def changed_in(facts: Facts, declared: HostDeclaration, *folders: str) -> Iterator[str]:
    """Yield the configuration files in *folders* that differ from their packages, and that nothing declares."""
    for path, state in facts.changed_conffiles.items():
        if is_in(path, folders) and state != "missing" and not declared.declares_file(path):
            yield path


def is_in(path: str, folders: tuple[str, ...]) -> bool:
    """Return whether *path* is one of *folders*, or below one."""
    return f"{path}/".startswith(folders) and any(f"{path}/".startswith(f"{folder}/") for folder in folders)


def files_in(facts: Facts, declared: HostDeclaration, *folders: str) -> Iterator[Finding]:
    """Yield both sorts of files in *folders*."""
    yield from (Finding(f"file:{path}", "no package installed it") for path in unpackaged_in(facts, declared, *folders))
    yield from (
        Finding(f"file:{path}", "it differs from the file of its package")
        for path in changed_in(facts, declared, *folders)
    )


def link_target(facts: Facts, path: str) -> str | None:
    """Return the target of a link; None for a file, and for a path outside the probe's roots."""
    raw = facts.find("files", path)
    digest = raw.get("digest") if isinstance(raw, dict) else None
    return digest[3:].partition(",")[0] if isinstance(digest, str) and digest.startswith("-> ") else None


def without_workloads(facts: Facts, declared: HostDeclaration, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield *findings* without the files and units of the runs and servers of other fleets."""
    workloads = foreign_workloads(facts, declared)
    for finding in findings:
        name = finding.thing.partition(":")[2].rpartition("/")[2]
        if not is_of_workload(name, workloads):
            yield finding
