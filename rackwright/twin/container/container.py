"""A container as plain data, and pure functions that return its command line."""

import hashlib
import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.schema.port import LINK_NAME_MAX
from rackwright.twin.backend import VirtualNic
from rackwright.twin.layout import Layout
from rackwright.twin.mirrors import mirror_proxies


@dataclass(frozen=True, slots=True)
class Container:
    """One host of the rack as a container. A container has no drives; it sees those of this computer."""

    backend: ClassVar = "container"

    name: str
    serial: str
    """Serial number of the chassis. The machine id follows from it; the container itself cannot read it."""
    nics: tuple[VirtualNic, ...] = ()
    os: Literal["debian-12"] = "debian-12"
    gpus: tuple[str, ...] = ()
    driver: str = ""
    mirrors: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()
    """Mount points of provided tiers: another system provides them on the rack, this computer in the twin."""
    workloads: str = ""
    """Virtual environment of this computer whose packages appear in ENVIRONMENT; empty for none."""
    nests: bool = False
    """Whether this container starts containers itself, as a node of Kubernetes does."""
    links: tuple[str, ...] = ()
    """Kinds of links beside its NICs that its network needs, of LINKS."""


LINKS = {
    "bond": ("bonding", "ip link add name probe type bond"),
    "vlan": ("8021q", "ip link add link lo name probe type vlan id 2"),
}
"""The kernel module of each kind of link, and a command that makes one in a network namespace of its own."""
ENVIRONMENT = "/opt/workloads"
"""Default folder from which runs import their packages."""
PACKAGES = "lib/python3.11/site-packages"
"""Folder of the packages in a virtual environment of debian-12's Python."""
NESTED = Path(__file__).parent / "nested"
"""Files for containers that start containers, see its README."""
NESTED_DATA = ("containerd", "kubelet")
"""Directories below /var/lib that hold the files of nested containers."""


def check(container: Container) -> None:
    """Raise DeclarationError when the kernel cannot make the NICs of *container*."""
    for nic in container.nics:
        if not re.fullmatch(rf"[!-~]{{1,{LINK_NAME_MAX}}}", nic.name) or set(nic.name) & set("/:%") or nic.name == "lo":
            raise DeclarationError(
                Diagnostic(
                    f"{container.name}: NIC {nic.name!r}",
                    "no network interface can have this name",
                    f"at most {LINK_NAME_MAX} printable characters, without blanks and / : %",
                    "Give the NIC such a name",
                )
            )


def nspawn_options(container: Container, layout: Layout) -> list[str]:
    """Return the options of systemd-nspawn that depend on what *container* is for."""
    return [*_mounts(container, layout), *(_nesting(container, layout) if container.nests else ())]


def _mounts(container: Container, layout: Layout) -> list[str]:
    options = [
        f"--bind={_escape_colons(layout.provided_tier(container.name, mount))}:{mount}" for mount in container.provided
    ]
    if container.workloads and container.nests:
        # one mount, because a volume of a pod has no mounts that are below its path
        layers = (Path(container.workloads), layout.environment(container.name))
        options.append(f"--overlay-ro={':'.join(map(_escape_colons, layers))}:{ENVIRONMENT}")
    elif container.workloads:
        options.append(f"--bind-ro={_escape_colons(layout.environment(container.name))}:{ENVIRONMENT}")
        options.append(f"--bind-ro={_escape_colons(Path(container.workloads) / PACKAGES)}:{ENVIRONMENT}/{PACKAGES}")
    return options


def _nesting(container: Container, layout: Layout) -> list[str]:
    """Return the options by which *container* may start containers.

    runc joins a session keyring and asks for BPF programs; a privileged pod gets all capabilities of its host. An
    overlay cannot stand on the overlay that is the container's root, so the data of pods is in real directories.
    """
    data = (
        f"--bind={_escape_colons(layout.nested_data(container.name, name))}:/var/lib/{name}" for name in NESTED_DATA
    )
    units = (
        f"--bind-ro={_escape_colons(NESTED / name)}.conf:/usr/lib/systemd/system/{name}.service.d/twin.conf"
        for name in NESTED_DATA
    )
    rights = ("--capability=all", "--system-call-filter=@keyring", "--system-call-filter=bpf")
    return [*rights, *data, *units, f"--bind-ro={_escape_colons(NESTED)}:/run/twin/nested"]


def _escape_colons(path: Path | str) -> str:
    """Return *path* with its colons escaped, which separate the parts of an option of systemd-nspawn."""
    return str(path).replace("\\", "\\\\").replace(":", "\\:")


def cgroup(layout: Layout, host: str) -> str:
    """Return the name of the control group of *host*, unique among all twins on this computer."""
    return f"rackwright-{hashlib.blake2s(str(layout.host(host)).encode(), digest_size=8).hexdigest()}"


def command_line(container: Container, layout: Layout, system: Path, port: int) -> list[str]:
    """Return the command of the process that is *container*, see `chassis.py`.

    Args:
        system: The root filesystem that the container overlays with its changes.
        port: Port on 127.0.0.1 that is relayed to the container's SSH server.
    """
    host = container.name
    script, group = Path(__file__).parent / "start.sh", cgroup(layout, host)
    config = {
        "port": port,
        "switch": str(layout.switch_socket),
        "nics": [asdict(nic) for nic in container.nics],
        "mirrors": [asdict(proxy) for proxy in mirror_proxies(container.mirrors)],
        "cgroup": group,
        "remains": str(layout.remains_lock(host)),
        "powered": str(layout.power_file(host)),
        "no_cables": str(layout.no_cables(host)),
        "console": str(layout.console(host)),
        "start": [
            *("sh", str(script), host, str(layout.root_disk(host)), str(system), str(layout.seed(host)), group),
            *nspawn_options(container, layout),
        ],
    }
    # -S: the chassis needs only this package and the standard library, and dozens of them may run.
    return [sys.executable, "-S", "-P", "-m", "rackwright.twin.container.chassis", json.dumps(config)]
