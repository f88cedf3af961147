"""The claims that the services of a role have read the present version of their files, and run their present program.

The entries of files name their services by ``read_by``. A service that the role claims to be active also reads its unit
file and drop-ins.
"""

import re
from collections.abc import Iterator

from rackwright.core.contract import Claim, Scope
from rackwright.core.repository import Repository
from rackwright.kinds.role.entries.services import UnitEntry
from rackwright.kinds.role.promise import Promises
from rackwright.kinds.shared import loaded

UNIT_FILE = re.compile(rf"^{loaded.UNITS}([^@/]+\.service)(?:\.d/[^/]+\.conf)?$")
"""Paths of the unit file and the drop-ins of a service."""


def read_claims(promises: Promises, repository: Repository) -> Iterator[Claim]:
    """Yield a claim for each service and each file that it reads, and one for the program of each active service."""
    active: dict[str, Scope] = {
        entry.unit: entry.scope or entry.usual_scope
        for entry in promises.entries
        if isinstance(entry, UnitEntry) and entry.active == "active" and entry.unit.endswith(".service")
    }
    for unit, scope in active.items():
        yield from loaded.claims(unit, [loaded.PROGRAM], scope)
    readers: dict[tuple[str, str], None] = {}
    for promise in promises.items:
        path = promise.entry.path
        if path and not promise.hides_existence(repository):
            units = {*promise.entry.read_by, *(unit for unit in UNIT_FILE.findall(path) if unit in active)}
            readers |= {(unit, path): None for unit in sorted(units)}
    for unit, path in readers:
        yield from loaded.claims(unit, [path], active.get(unit, "host"))
