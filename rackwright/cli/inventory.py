"""The inventory command: what plain ansible-playbook needs to play the same roles on the same hosts."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from rackwright.cli import project
from rackwright.errors import Refused
from rackwright.hosts.ansible import connection_variables
from rackwright.hosts.memory import in_memory
from rackwright.kinds.role.plan import variables
from rackwright.kinds.role.promise import Promises, promises
from rackwright.kinds.role.spec import RoleSpec
from rackwright.schema.secret import references
from rackwright.stack import Stack, declare

OPEN = 0o077
"""Bits of a mode that let in anybody but the owner."""


def public(stack: Stack) -> dict[str, Any]:
    """Return the inventory of *stack* without anything that depends on a secret, and say what that is."""
    made = _hosts(stack)
    for spec, told in _roles(stack):
        out = _withheld(spec, told)
        left = variables(spec, told)
        left[f"{spec.role}_files"] = [file for file in left[f"{spec.role}_files"] if file["path"] not in out]
        made[spec.host] |= {name: value for name, value in left.items() if name not in out}
        if out:
            project.say(f"{spec.id}: left out, as secrets are in it: {', '.join(out)}; --secrets DIR writes it too")
    return _grouped(stack, made)


def write(stack: Stack, directory: Path) -> Path:
    """Write the whole inventory of *stack* into *directory*, and return the file.

    Raises:
        Refused: it would lie on a disk, or others could read it.
    """
    _check(directory)
    stack = project.secrets(stack)
    made = _hosts(stack)
    for spec, told in _roles(stack):
        made[spec.host] |= variables(spec, told)
    path = directory / "inventory.json"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.touch(mode=0o600)
    beside.write_text(json.dumps(_grouped(stack, made), indent=2))
    return beside.replace(path)


def _check(directory: Path) -> None:
    where, want = str(directory), "secrets are written to memory, where nobody else reads them"
    fix = "Take a new directory: `mktemp -d -p /dev/shm`"
    if not directory.is_dir():
        raise Refused(where, "got no directory", want, fix)
    if not in_memory(directory):
        raise Refused(where, "got a directory that is on no tmpfs or ramfs", want, fix)
    state = directory.stat()
    if state.st_mode & OPEN or state.st_uid != os.geteuid():
        raise Refused(where, f"got a directory of mode {stat.S_IMODE(state.st_mode):04o}, or not yours", want, fix)


def _roles(stack: Stack) -> list[tuple[RoleSpec, Promises]]:
    specs = [declared.spec for declared in declare(stack)]
    return [(spec, promises(spec, stack.repository)) for spec in specs if isinstance(spec, RoleSpec)]


def _withheld(spec: RoleSpec, told: Promises) -> list[str]:
    """Return the files and variables that depend on a secret."""
    secret = [name for name, value in spec.variables.items() if any(references(value))]
    return [*sorted(told.secret_files), *(f"{spec.role}_{name}" for name in secret)]


def _hosts(stack: Stack) -> dict[str, dict[str, Any]]:
    """Return by host how it is reached."""
    hosts: dict[str, dict[str, Any]] = {}
    for name in stack.fleet.hosts:
        endpoint = stack.endpoints.get(name)
        logins = endpoint.first_change_login if endpoint else ()
        hosts[name] = connection_variables(endpoint, *logins) if endpoint and logins else {}
    return hosts


def _grouped(stack: Stack, hosts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return Ansible's inventory: a group for each role, and the variables of each of the *hosts*."""
    groups: dict[str, dict[str, Any]] = {}
    for declared in declare(stack):
        if isinstance(declared.spec, RoleSpec):
            groups.setdefault(declared.spec.role, {"hosts": {}})["hosts"][declared.spec.host] = {}
    return {"all": {"hosts": hosts, "children": groups}}
