"""The read-only mounts of a host's paths for pods: a volume has the mount as its path, so that no pod can write there.

A pod says itself whether its volume is read-only, and by `fsGroup` kubelet changes the owner of a whole volume. Kubelet
binds the path of a volume once more, and gives that mount the options of the volume alone: volumes have OPTIONS too.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from rackwright.core.contract import Absent, Claim, Command, Step, Value
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.facts.storage import Mount
from rackwright.kinds.pods.spec import MOUNTS, WorkloadPart
from rackwright.kinds.shared.service_account import UNITS, ServiceFile
from rackwright.schema.tier import mount_unit

OPTIONS = ("nodev", "nosuid", "ro")
"""Options of each mount, which hold in the kernel, and of each volume that pods only read."""
_REMEDY = (
    "find out who changed the mount: a pod may have written to the host through it; `rackwright up` mounts it again"
)
CHECK = """
import os, sys
what, where = sys.argv[1:]
place = os.open("/", os.O_PATH)
try:
    for part in what.strip("/").split("/"):
        place = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=place)
        if os.path.stat.S_ISLNK(os.fstat(place).st_mode):
            sys.exit(f"{what} leads through the link {part}: another account may have made it")
except OSError as error:
    sys.exit(f"{what}: {error}")
found, shown = os.fstat(place), os.stat(where)
if (found.st_dev, found.st_ino) != (shown.st_dev, shown.st_ino):
    sys.exit(f"{where} shows another directory than {what}: a part of the path was replaced")
"""
"""Program that fails unless the mount *where* shows the directory *what*, without a link on its path.

The program mount follows links, also those that an account of a dataset has made in the place of a directory.
"""
_MOUNT = """set -eu
check=$1
shift
systemctl daemon-reload
for unit; do
  systemctl enable --quiet "$unit"
  systemctl restart "$unit"
  where=$(systemctl show --property Where --value "$unit")
  # the kernel's own list, and not what the unit should have done
  awk -v where="$where" '$5 == where { found = $6 } END { exit ("," found ",") !~ /,ro,/ }' /proc/self/mountinfo ||
    { echo "$where is not mounted read-only"; exit 1; }
  # of a mounted unit, systemd shows the device in the place of the path
  what=$(sed -n 's/^What=//p' "/etc/systemd/system/$unit")
  python3 -Ic "$check" "$what" "$where" ||
    { systemctl disable --quiet --now "$unit"; exit 1; }
done
"""
_UNMOUNT = """set -eu
for unit; do
  where=$(systemctl show --property Where --value "$unit")
  systemctl disable --quiet --now "$unit" 2>/dev/null || :
  rm -f "/etc/systemd/system/$unit"
  # never recursively: a path of the host may still be mounted here
  [ -z "$where" ] || [ ! -d "$where" ] || rmdir --ignore-fail-on-non-empty "$where" || :
done
systemctl daemon-reload
"""


@dataclass(frozen=True, slots=True)
class ReadOnlyMount:
    """A path of the host, and where pods find it."""

    source: str
    target: str

    @property
    def unit(self) -> str:
        return mount_unit(self.target)


def mounts(workload: WorkloadPart) -> tuple[ReadOnlyMount, ...]:
    """Return the mounts of a run or server: one for each path that pods only read."""
    return tuple(
        ReadOnlyMount(path, mount_path(workload, name)) for name, path in workload.paths.items() if name != "out"
    )


def mount_path(workload: WorkloadPart, name: str) -> str:
    """Return the mount of the path *name*, which is the path of its volume."""
    return f"{MOUNTS}/{workload.owner}/{name}"


def files(workload: WorkloadPart, id: str, repository: Repository) -> Iterator[ServiceFile]:
    """Yield the mount units."""
    for each in mounts(workload):
        text = repository.render(
            "pods/etc/systemd/system/pods.mount.j2",
            id=id,
            name=workload.name,
            path=each.source,
            mount=each.target,
            options=("bind", *OPTIONS),
        )
        yield ServiceFile(f"{UNITS}/{each.unit}", text, 0o644)


def claims(workload: WorkloadPart) -> Iterator[Claim]:
    """Yield the claims on the units, and on the mounts as the kernel has them."""
    for each in mounts(workload):
        yield Claim(f"unit:{each.unit}", {"state": "enabled"})
        yield Claim(f"mount:{each.target}", {"path": each.source, "access": OPTIONS}, remedy=_REMEDY)


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


def steps(workload: WorkloadPart, differences: set[str]) -> Iterator[Step]:
    """Yield the step that mounts the paths whose unit or mount is among the things with *differences*."""
    units = [
        each.unit
        for each in mounts(workload)
        if {f"file:{UNITS}/{each.unit}", f"unit:{each.unit}", f"mount:{each.target}"} & differences
    ]
    if units:
        argv = ("sh", "-c", _MOUNT, "sh", CHECK, *units)
        yield Command(f"mount {len(units)} paths of the host for pods, to be read only", argv)


def removal_step(workload: WorkloadPart) -> Command:
    """Return the step that ends the mounts, and removes their units."""
    units = [each.unit for each in mounts(workload)]
    return Command(f"unmount the paths of {workload.name}", ("sh", "-c", _UNMOUNT, "sh", *units))
