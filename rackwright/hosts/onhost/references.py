"""Resolve the references of a step: to drives, arrays, filesystems and LUKS headers, by what they are on this host now.

Standard library only, for Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from rackwright.facts.probe import arrays, block, encryption, observe
from rackwright.facts.probe.observe import attempt
from rackwright.hosts.onhost.messages import Stop, report_duration

ROOT = ""
"""Directory that contains /sys, /dev and /proc of the machine."""
REFERENCE = re.compile(r"\$\{(drive|drive-if-present|device|array|filesystem|luks):([^}]+)\}")
MAPPER = "/dev/mapper/"
T = TypeVar("T")


def root() -> str:
    """Return ROOT, for modules that import names of this one."""
    return ROOT


def resolve_references(text: str) -> str:
    """Return *text* with each of its references replaced by what it names on this host now."""
    if not REFERENCE.search(text):
        return text
    machine = block.BlockDevices(ROOT)
    resolve: dict[str, Callable[[str], str]] = {
        "drive": lambda serial: machine.path(drive(machine, serial)),
        "drive-if-present": lambda serial: machine.path(drive(machine, serial)) if drive_names(machine, serial) else "",
        "device": lambda md_name: machine.path(array(machine, md_name)["name"]),
        "array": lambda md_name: str(array(machine, md_name)["uuid"]),
        "filesystem": lambda key: filesystem(machine, key),
        "luks": lambda md_name: luks(machine, md_name),
    }
    with report_duration("looking at the drives"):
        return REFERENCE.sub(lambda found: resolve[found[1]](found[2]), text)


def drive(machine: block.BlockDevices, serial: str) -> str:
    """Return the current kernel name of the drive with exactly this serial."""
    return only(drive_names(machine, serial), f"drive {serial}")


def drive_names(machine: block.BlockDevices, serial: str) -> list[str]:
    """Return the kernel names of all drives with exactly this serial."""
    return [name for name in machine.drives if attempt(block.serial, machine, name) == serial]


def array(machine: block.BlockDevices, key: str) -> dict[str, Any]:
    """Return the array with this md name or UUID, running or not."""
    return only([found for found in arrays.arrays(machine) if key in (found["md_name"], found["uuid"])], f"array {key}")


def filesystem(machine: block.BlockDevices, key: str) -> str:
    """Return the UUID of the filesystem on the array of this md name, or on the mapping of this path."""
    name = (mapping(machine, key) if key.startswith(MAPPER) else array(machine, key))["name"]
    signatures = observe.unwrap(machine.signatures[name])
    uuids = [str(signature["uuid"]) for signature in signatures if signature["usage"] == "filesystem"]
    return only(uuids, f"filesystem on {key}")


def mapping(machine: block.BlockDevices, path: str) -> dict[str, Any]:
    return only([found for found in encryption.mappings(machine) if f"{MAPPER}{found['mapped_name']}" == path], path)


def luks(machine: block.BlockDevices, md_name: str) -> str:
    """Return the UUID of the LUKS header on the array."""
    name = array(machine, md_name)["name"]
    uuids = [
        str(observe.unwrap(header["uuid"])) for header in encryption.luks_headers(machine) if header["device"] == name
    ]
    return only(uuids, f"LUKS header on {md_name}")


def only(found: list[T], what: str) -> T:
    if len(found) != 1:
        raise Stop(f"{'more than one' if found else 'no'} {what} here; nothing was written")
    return found[0]


@contextlib.contextmanager
def hold_drives(argv: list[str]) -> Iterator[list[str]]:
    """Yield *argv* with its references resolved, its drives being open, so that their kernel names cannot change.

    Raises:
        Stop: a reference names nothing, or something else than a moment ago.
    """
    resolved_argv = [resolve_references(argument) for argument in argv]
    with contextlib.ExitStack() as opened:
        for argument, path in zip(argv, resolved_argv):  # noqa: B905 - strict= is of Python 3.10
            if argument.startswith("${drive") and path:
                opened.callback(os.close, os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        if [resolve_references(argument) for argument in argv] != resolved_argv:
            raise Stop("drives came or went while they were looked for; nothing was written")
        yield resolved_argv
