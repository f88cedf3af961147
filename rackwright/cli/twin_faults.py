"""The faults of `rackwright twin fault`: the argument that each takes, and the function that causes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import typer

from rackwright.cli import project
from rackwright.twin import Twin, cluster_faults, drive_faults, faults, host_faults
from rackwright.twin.gpu import faults as gpu_faults


@dataclass(frozen=True)
class Argument:
    """The argument of a fault."""

    metavar: str
    expected: str
    """The need of the fault, for the message of an error: it completes a sentence that begins with the fault's name."""
    read: Callable[[str], Any] = str
    """Returns the value of the text, or raises ValueError."""
    default: Any = ...
    """The value of a fault without the argument; `...` if it needs one."""


def _number(text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ValueError(text)
    return int(text)


def _refuse(text: str) -> None:
    raise ValueError(text)


_NONE = Argument("", "takes no argument", _refuse, None)
_SERIAL = Argument("SERIAL", "needs the serial of a drive")
_PATH = Argument("PATH", "needs a path where something is mounted")
_BYTES = Argument("BYTES", "takes a number of bytes", _number, None)
_ERROR = Argument("SECONDS", "takes a number of seconds", int, 0)
_VALID = Argument("SECONDS", "needs a number of seconds, at least 1", partial(_number, least=1))
_COMPONENT = Argument("COMPONENT", f"needs a component: {' or '.join(cluster_faults.COMPONENTS)}")
_GPU = Argument("GPU", "needs the number of a GPU", _number)


FAULTS: Mapping[str, tuple[Argument, Callable[[Twin, str, Any], None]]] = {
    "pull": (_SERIAL, faults.pull),
    "insert": (_SERIAL, faults.insert),
    "power-off": (_NONE, lambda twin, host, _: faults.power_off(twin, host)),
    "power-on": (_NONE, lambda twin, host, _: faults.power_on(twin, host, project.notify)),
    "reset": (_NONE, lambda twin, host, _: faults.hard_reset(twin, host, project.notify)),
    "link-down": (_NONE, lambda twin, host, _: faults.pull_cables(twin, host)),
    "link-up": (_NONE, lambda twin, host, _: faults.plug_cables(twin, host, project.notify)),
    "mtu": (_BYTES, faults.limit_packet_size),
    **{f"drive-{kind}": (_SERIAL, partial(drive_faults.inject, fault=kind)) for kind in drive_faults.FAULTS},
    "disk-full": (_PATH, host_faults.fill),
    "disk-free": (_PATH, host_faults.free),
    "clock": (_ERROR, host_faults.skew),
    "component-lost": (_COMPONENT, cluster_faults.lose_component),
    "component-back": (_COMPONENT, cluster_faults.return_component),
    "certificates": (_VALID, cluster_faults.shorten_certificates),
    **{f"gpu-{kind}": (_GPU, partial(gpu_faults.inject, name=kind)) for kind in gpu_faults.FAULTS},
}
"""The argument of each fault, and the function that causes it."""


def cause(twin: Twin, host: str, fault: str, text: str | None) -> None:
    """Cause *fault* on *host* with the argument *text*.

    Raises:
        typer.BadParameter: the argument is missing or wrong.
    """
    argument, function = FAULTS[fault]
    try:
        value = argument.default if text is None else argument.read(text)
    except ValueError:
        value = ...
    if value is ...:
        got = "" if text is None else f", and not {text}"
        raise typer.BadParameter(f"{fault} {argument.expected}{got}", param_hint=argument.metavar or None)
    function(twin, host, value)
