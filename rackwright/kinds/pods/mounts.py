"""The read-only mounts of a host's paths for pods: a volume has the mount as its path, so that no pod can write there.

A pod says itself whether its volume is read-only, and by `fsGroup` kubelet changes the owner of a whole volume. Kubelet
binds the path of a volume once more, and gives that mount the options of the volume alone: volumes have OPTIONS too.
"""

import posixpath
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rackwright.core.contract import Absent, Claim, Command, Step, Value
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.facts.storage import Mount
from rackwright.kinds.pods.spec import MOUNTS, WorkloadPart
from rackwright.kinds.shared.pod_volumes import OUT, READS
from rackwright.kinds.shared.service_account import UNITS, ServiceFile
from rackwright.schema.tier import unit_of

OPTIONS = ("nodev", "nosuid", "ro")
"""Options of each mount, which hold in the kernel, and of each volume that pods only read."""
PROGRAM = Path(__file__).with_name("mount_read_only.py")
"""Program that mounts a path and follows no link, unlike mount(8): accounts of datasets may make some at any time."""
_REMEDY = (
    "find out who changed the mount: a pod may have written to the host through it; `rackwright up` mounts it again"
)
_UNDECLARED = "`rackwright up` unmounts it: pods of an earlier declaration read it"
_PATH = re.compile(r"(/[A-Za-z0-9_.-]+)+")
_MOUNT = """set -eu
systemctl daemon-reload
while [ $# -gt 0 ]; do
  unit=$1 where=$2
  shift 2
  systemctl enable --quiet "$unit"
  systemctl restart "$unit" || {
    journalctl --quiet --no-pager --output cat --lines 3 --unit "$unit"
    exit 1
  }
  # the kernel's own list, and not what the unit should have done
  awk -v where="$where" '$5 == where { found = $6 } END { exit ("," found ",") !~ /,ro,/ }' /proc/self/mountinfo ||
    { echo "$where is not mounted read-only"; exit 1; }
done
"""
_UNMOUNT = """set -eu
while [ $# -gt 0 ]; do
  unit=$1 where=$2
  shift 2
  systemctl disable --quiet --now "$unit" 2>/dev/null || :
  rm -f "/etc/systemd/system/$unit"
  # never recursively: a path of the host may still be mounted here
  [ ! -d "$where" ] || rmdir --ignore-fail-on-non-empty "$where" || :
done
systemctl daemon-reload
"""


@dataclass(frozen=True, slots=True)
class ReadOnlyMount:
    """A path of the host, and where pods find it.

    Raises:
        ValueError: A path has other characters than letters, digits and . _ - /, and may be no word of a unit.
    """

    source: str
    target: str
    whole: bool = False
    """Whether a mount below the path is an error, since pods would see what lies under it."""

    def __post_init__(self) -> None:
        for path in (self.source, self.target):
            if not _PATH.fullmatch(path):
                raise ValueError(f"{path!r} is no path for a unit")

    @property
    def unit(self) -> str:
        return unit_of(self.target, "service")


def mounts(workload: WorkloadPart) -> tuple[ReadOnlyMount, ...]:
    """Return the mounts of a run or server: one for each path that pods only read."""
    return tuple(
        ReadOnlyMount(path, mount_path(workload, name), whole=name.startswith(READS))
        for name, path in workload.paths.items()
        if name != OUT
    )


def mount_path(workload: WorkloadPart, name: str) -> str:
    """Return the mount of the path *name*, which is the path of its volume."""
    return f"{MOUNTS}/{workload.owner}/{name}"


def files(workload: WorkloadPart, id: str, repository: Repository) -> Iterator[ServiceFile]:
    """Yield the units, and the program that they run."""
    program = f"{workload.lib}/{PROGRAM.name}"
    yield ServiceFile(program, PROGRAM.read_text(), 0o644)
    for each in mounts(workload):
        text = repository.render(
            "pods/etc/systemd/system/pods-mount.service.j2",
            id=id,
            name=workload.name,
            path=each.source,
            mount=each.target,
            whole=each.whole,
            program=program,
        )
        yield ServiceFile(f"{UNITS}/{each.unit}", text, 0o644)


def claims(workload: WorkloadPart) -> Iterator[Claim]:
    """Yield the claims on the units, and on the mounts as the kernel has them."""
    for each in mounts(workload):
        yield Claim(f"unit:{each.unit}", {"state": "enabled"})
        yield Claim(f"mount:{each.target}", {"path": each.source, "access": OPTIONS}, remedy=_REMEDY)
    yield Claim(f"mounts:{MOUNTS}/{workload.owner}", {"undeclared": ()}, remedy=_UNDECLARED)


def names_in(claims: Iterable[Claim]) -> frozenset[str]:
    """Return the mounts that *claims* are about."""
    things = (claim.thing for claim in claims)
    return frozenset(each.removeprefix("mount:") for each in things if each.startswith(f"mount:{MOUNTS}/"))


def undeclared_mounts(facts: Facts, directory: str, declared: Container[str]) -> tuple[str, ...]:
    """Return the mounts below *directory* that are not *declared*."""
    targets = {each.target for each in facts.mounts if each.target.startswith(f"{directory}/")}
    return tuple(sorted(target for target in targets if target not in declared))


def observe(facts: Facts, target: str, name: str, source: object) -> Value:
    """Return the path that the mount shows, or the options of its access. The last mount hides earlier ones."""
    found = next((each for each in reversed(facts.mounts) if each.target == target), None)
    if found is None:
        return Absent()
    if name == "access":
        return tuple(sorted({*OPTIONS, "rw"} & {*found.options}))
    sources = {*_sources(found, facts)}
    return str(source) if source in sources else ", ".join(sorted(sources)) or found.root


def _sources(mount: Mount, facts: Facts) -> Iterator[str]:
    """Yield the paths by which other mounts of the same filesystem lead to what *mount* shows."""
    for other in facts.mounts:
        if other.target == mount.target or (other.device, other.type) != (mount.device, mount.type):
            continue
        path = posixpath.relpath(mount.root, other.root)
        if path != ".." and not path.startswith("../"):
            yield posixpath.normpath(posixpath.join(other.target, path))


def steps(workload: WorkloadPart, differences: set[str], facts: Facts) -> Iterator[Step]:
    """Yield the steps that end undeclared mounts, and make those whose unit or mount is among the *differences*."""
    directory = f"{MOUNTS}/{workload.owner}"
    if f"mounts:{directory}" in differences:
        ended = undeclared_mounts(facts, directory, {each.target for each in mounts(workload)})
        arguments = (text for target in ended for text in (unit_of(target, "service"), target))
        argv = ("sh", "-c", _UNMOUNT, "sh", *arguments)
        yield Command(f"unmount {len(ended)} paths that {workload.name} does not declare", argv)
    program = f"file:{workload.lib}/{PROGRAM.name}"
    several = [
        each
        for each in mounts(workload)
        if {program, f"file:{UNITS}/{each.unit}", f"unit:{each.unit}", f"mount:{each.target}"} & differences
    ]
    if several:
        argv = ("sh", "-c", _MOUNT, "sh", *_arguments(several))
        yield Command(f"mount {len(several)} paths of the host for pods, to be read only", argv)


def removal_step(workload: WorkloadPart) -> Command:
    """Return the step that ends the mounts, and removes their units."""
    argv = ("sh", "-c", _UNMOUNT, "sh", *_arguments(mounts(workload)))
    return Command(f"unmount the paths of {workload.name}", argv)


def _arguments(several: Iterable[ReadOnlyMount]) -> tuple[str, ...]:
    return tuple(text for each in several for text in (each.unit, each.target))
