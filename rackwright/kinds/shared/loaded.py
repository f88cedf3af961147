"""The claim that a running service has read the present version of each of its files.

A file that holds does not prove how a service behaves: the service may have read another version before the file got
its content back. A file that changed since, and of which an earlier probe knows that it had its present content when
the service read it, was only touched. The thing of the claim is ``read:UNIT:PATH``.
"""

from collections.abc import Iterable, Sequence

from rackwright.core.contract import Claim, Difference, Scope, Value
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact

SORT = "read"
CURRENT, EARLIER = "current", "earlier"
PROGRAM = "program"
"""The name in the place of a path that means the file of the service's own program."""
UNITS = "/etc/systemd/system/"
AT_START = "version_at_start"
"""The property of files that a reload does not read."""
REMEDY = "run `rackwright up`, which restarts the service"


def claims(unit: str, paths: Iterable[str], scope: Scope = "host", reloads: bool = True) -> tuple[Claim, ...]:
    """Return the claims that the service *unit* has read the present version of the files *paths*.

    Args:
        scope: The scope of the service.
        reloads: Whether a reload of the service reads the files, too.
    """
    name = "version" if reloads else AT_START
    return tuple(
        Claim(f"{SORT}:{unit}:{path}", {name: CURRENT}, owned=False, scope=scope, remedy=REMEDY)
        for path in sorted({*paths})
    )


def split(thing: str) -> tuple[str, str]:
    """Return unit and path of the thing of a claim; a unit has colons only in its prefix ``pod:``."""
    unit, _, path = thing.removeprefix(f"{SORT}:").rpartition(":")
    return unit, path


def observe(facts: Facts, key: str, name: str) -> Value:
    """Return ``current`` or ``earlier``; a service that does not run, and is claimed elsewhere, runs with no file."""
    unit, path = split(key)
    service = facts.service(unit)
    if service is None:
        return CURRENT
    if path == PROGRAM:
        return EARLIER if service.program_replaced else CURRENT
    facts.require_covered(path)
    changed = facts.changed_ns(path)
    if changed is None:
        return CURRENT
    if changed > facts.taken_at * 1e9:
        raise UnknownFact(f"{path} has a time of change that is still to come: check the host's clock")
    # a reload reads settings, and neither the unit's own file nor the program
    since = service.started_ns if path.startswith(UNITS) or name == AT_START else service.loaded_ns
    return EARLIER if changed > since and not facts.had_content(path, since) else CURRENT


def services_to_restart(differences: Sequence[Difference]) -> dict[str, str]:
    """Return the services that run with earlier files, each with ``restarted``, or ``reloaded`` if that suffices."""
    services: dict[str, str] = {}
    for item in differences:
        if item.thing.startswith(f"{SORT}:") and not item.is_unknown:
            unit, path = split(item.thing)
            needs_start = path == PROGRAM or path.startswith(UNITS) or item.name == AT_START
            services[unit] = "restarted" if needs_start else services.get(unit, "reloaded")
    return services
