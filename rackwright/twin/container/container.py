"""A container as plain data, and the command line that makes it real: pure functions."""

import hashlib
import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from rackwright.errors import DeclarationError
from rackwright.schema.port import LINK_NAME_MAX
from rackwright.twin.backend import VirtualNic
from rackwright.twin.layout import Layout
from rackwright.twin.mirrors import doors


@dataclass(frozen=True, slots=True)
class Container:
    """One host of the rack as a container. It has no drives: those of this computer are none of its own."""

    backend: ClassVar = "container"

    name: str
    serial: str
    """Of the chassis: nothing shows it inside, and the machine id follows from it."""
    nics: tuple[VirtualNic, ...] = ()
    os: Literal["debian-12"] = "debian-12"
    gpus: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()
    """Mounts of tiers that somebody else provides on the rack, and this computer here."""
    workloads: str = ""
    """A virtual environment of this computer, whose packages it has in ENVIRONMENT; none where that is empty."""


ENVIRONMENT = "/opt/workloads"
"""Where runs look for what they import, if nothing else is declared."""
PACKAGES = "lib/python3.11/site-packages"
"""Of a virtual environment of debian-12's Python."""


def check(container: Container) -> None:
    """Raise DeclarationError when the kernel cannot make the NICs of *container*."""
    for nic in container.nics:
        if not re.fullmatch(rf"[!-~]{{1,{LINK_NAME_MAX}}}", nic.name) or set(nic.name) & set("/:%") or nic.name == "lo":
            raise DeclarationError(
                f"{container.name}: NIC {nic.name!r}",
                "a name that no network interface can have",
                f"it has at most {LINK_NAME_MAX} printable characters, none of them a blank or one of / : %",
                "Shorten it",
            )


def binds(container: Container, layout: Layout) -> list[str]:
    """Return the options that show the container directories of this computer."""
    # systemd-nspawn takes colons for its own
    shown = [f"--bind={_escaped(layout.provided(container.name, mount))}:{mount}" for mount in container.provided]
    if container.workloads:
        shown.append(f"--bind-ro={_escaped(layout.environment(container.name))}:{ENVIRONMENT}")
        shown.append(f"--bind-ro={_escaped(Path(container.workloads) / PACKAGES)}:{ENVIRONMENT}/{PACKAGES}")
    return shown


def _escaped(path: Path | str) -> str:
    return str(path).replace("\\", "\\\\").replace(":", "\\:")


def cgroup(layout: Layout, host: str) -> str:
    """Return the name of the control group of *host*, which no other twin on this computer has."""
    return f"rackwright-{hashlib.blake2s(str(layout.host(host)).encode(), digest_size=8).hexdigest()}"


def command_line(container: Container, layout: Layout, system: Path, port: int) -> list[str]:
    """Return the command of the process that is *container*: see `chassis.py`.

    Args:
        system: The root filesystem below what the container has changed.
        port: On 127.0.0.1, relayed to the container's SSH server.
    """
    host = container.name
    script, group = Path(__file__).parent / "start.sh", cgroup(layout, host)
    told = {
        "port": port,
        "switch": str(layout.switch_socket),
        "nics": [asdict(nic) for nic in container.nics],
        "mirrors": [asdict(door) for door in doors(container.mirrors)],
        "cgroup": group,
        "remains": str(layout.remains(host)),
        "powered": str(layout.powered(host)),
        "console": str(layout.console(host)),
        "start": [
            *("sh", str(script), host, str(layout.root_disk(host)), str(system), str(layout.seed(host)), group),
            *binds(container, layout),
        ],
    }
    # -S: what the chassis needs is this package and the standard library; there may be dozens of it.
    return [sys.executable, "-S", "-P", "-m", "rackwright.twin.container.chassis", json.dumps(told)]
