"""The inventory command: what plain ansible-playbook needs to play the same roles on the same hosts."""

from typing import Any

from rackwright.apply.ansible import connection_variables
from rackwright.declaration import Stack, declare
from rackwright.kinds.role.entries import promises
from rackwright.kinds.role.plan import variables
from rackwright.kinds.role.spec import RoleSpec


def inventory(stack: Stack) -> dict[str, Any]:
    """Return Ansible's inventory of *stack*: a group for each role, and by host how it is reached and its variables."""
    hosts: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[str]] = {}
    for name in stack.fleet.hosts:
        endpoint = stack.endpoints.get(name)
        hosts[name] = connection_variables(endpoint, endpoint.logins[0]) if endpoint and endpoint.logins else {}
    for declared in declare(stack):
        spec = declared.spec
        if isinstance(spec, RoleSpec):
            hosts[spec.host] |= variables(spec, promises(spec, stack.house))
            groups.setdefault(spec.role, []).append(spec.host)
    children: dict[str, Any] = {
        group: {"hosts": {member: {} for member in members}} for group, members in groups.items()
    }
    return {"all": {"hosts": hosts, "children": children}}
