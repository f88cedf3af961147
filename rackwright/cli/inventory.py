"""The inventory command: it writes an inventory with which plain ansible-playbook applies the same roles."""

import os
import stat
from pathlib import Path
from typing import Any

from rackwright.cli import project
from rackwright.errors import ChangeRefused, Diagnostic
from rackwright.files import write_atomic
from rackwright.hosts.ansible import INVENTORY, connection_variables, inventory_text
from rackwright.hosts.memory import in_memory
from rackwright.kinds.role.plan import variables
from rackwright.kinds.role.promise import Promises
from rackwright.kinds.role.promise import promises as role_promises
from rackwright.kinds.role.spec import RoleSpec
from rackwright.schema.secret import references
from rackwright.stack import Stack, declare

OPEN = 0o077
"""Bits of a mode that give access to others than the owner."""


def public(stack: Stack) -> str:
    """Return the inventory of *stack* without values that depend on a secret, and print what is left out."""
    inventory = _hosts(stack)
    for spec, promises in _roles(stack):
        out = _withheld(spec, promises)
        public = variables(spec, promises, {})
        public[f"{spec.role}_files"] = [file for file in public[f"{spec.role}_files"] if file["path"] not in out]
        inventory[spec.host] |= {name: value for name, value in public.items() if name not in out}
        if out:
            project.notify(f"{spec.id}: left out, as secrets are in it: {', '.join(out)}; --secrets DIR includes it")
    return inventory_text(_add_groups(stack, inventory))


def write(stack: Stack, directory: Path) -> Path:
    """Write the complete inventory of *stack* to *directory*, and return the file.

    Raises:
        ChangeRefused: The file would be on a disk, or others could read it.
    """
    _check(directory)
    stack = project.secrets(stack)
    inventory = _hosts(stack)
    for spec, promises in _roles(stack):
        inventory[spec.host] |= variables(spec, promises, {})
    path = directory / INVENTORY
    write_atomic(path, inventory_text(_add_groups(stack, inventory)), 0o600)
    return path


def _check(directory: Path) -> None:
    if problem := _problem(directory):
        expected = "a directory of yours with mode 0700 on a tmpfs or ramfs"
        help = "Create one with `mktemp -d -p /dev/shm`, and name it"
        raise ChangeRefused(Diagnostic(str(directory), problem, expected, help, "the files contain secrets"))


def _problem(directory: Path) -> str | None:
    if not directory.is_dir():
        return "no such directory"
    if not in_memory(directory):
        return "the directory is not on a tmpfs or ramfs"
    state = directory.stat()
    if state.st_uid != os.geteuid():
        return f"the directory belongs to user {state.st_uid}"
    if state.st_mode & OPEN:
        return f"the directory has mode {stat.S_IMODE(state.st_mode):04o}"
    return None


def _roles(stack: Stack) -> list[tuple[RoleSpec, Promises]]:
    specs = [declared.spec for declared in declare(stack)]
    return [(spec, role_promises(spec, stack.repository)) for spec in specs if isinstance(spec, RoleSpec)]


def _withheld(spec: RoleSpec, promises: Promises) -> list[str]:
    """Return the files and variables that depend on a secret."""
    secret = [name for name, value in spec.variables.items() if any(references(value))]
    return [*sorted(promises.secret_files), *(f"{spec.role}_{name}" for name in secret)]


def _hosts(stack: Stack) -> dict[str, dict[str, Any]]:
    """Return the connection variables of each host."""
    hosts: dict[str, dict[str, Any]] = {}
    for name in stack.fleet.hosts:
        endpoint = stack.endpoints.get(name)
        logins = endpoint.first_change_login if endpoint else ()
        hosts[name] = connection_variables(endpoint, *logins) if endpoint and logins else {}
    return hosts


def _add_groups(stack: Stack, hosts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return Ansible's inventory: a group for each role, and the variables of all *hosts*."""
    groups: dict[str, dict[str, Any]] = {}
    for declared in declare(stack):
        if isinstance(declared.spec, RoleSpec):
            groups.setdefault(declared.spec.role, {"hosts": {}})["hosts"][declared.spec.host] = {}
    return {"all": {"hosts": hosts, "children": groups}}
