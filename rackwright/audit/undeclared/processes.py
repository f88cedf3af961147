"""Rules about processes of services, and about what systemd gives to all of them."""

from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.core.contract import Within
from rackwright.errors import command
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared.unit_overrides import OVERRIDES

OF_PROCESSES = ("stopped: ", "no process of the service started ")
"""Beginnings of the differences that no setting of a unit makes."""


def processes(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the running services whose processes differ from their units, whether declared or of a package."""
    unread = []
    for name in facts.table("service_processes"):
        try:
            yield from _differences(name, facts, declared)
        except UnknownFact as reason:
            unread.append(str(reason))
    if unread:
        raise UnknownFact("; ".join(unread[:3]))


def _differences(name: str, facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield how the processes of a unit differ from it, without what follows from a file that overrides the unit.

    A restart would put such a file into effect. The claim on a declared unit reports the file itself.
    """
    found = facts.differences_of(name)
    try:
        overrides = {*facts.unit_overrides(name)}
    except UnknownFact:
        overrides = set()  # the claim on the unit says that they are unknown
    wanted = declared.wants.get(f"unit:{name}", {}).get(OVERRIDES)
    if overrides - {*(wanted.values if isinstance(wanted, Within) else ())}:
        if wanted is not None:
            found = tuple(text for text in found if text.startswith(OF_PROCESSES))
        look = command("systemctl cat {}", name)
        remedy = f"Run {look}, and remove the files that change the unit if they are not intended; then run"
        remedy = f"{remedy} `systemctl daemon-reload` and {command('systemctl restart {}', name)}, {ADMIT}"
    else:
        remedy = ""
    if found:
        yield Finding(f"unit:{name}", "; ".join(found), remedy=remedy)


def surroundings(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield frozen groups, limits that no unit has, and variables that all services get."""
    for group, texts in facts.group_limits.items():
        yield Finding(f"control_group:{group}", "; ".join(texts))
    for name in facts.manager_environment:
        yield Finding(f"environment:{name}", "systemd gives it to each service that starts")


RULES = (
    Rule(
        "RW-148",
        "The processes of each running service are as its unit says.",
        "processes of services",
        "A stopped service counts as active; one with another environment, mounts or rights does something else.",
        f"Find out who changed the process, then run `systemctl restart` for the unit, {ADMIT}",
        "proc(5); systemd.exec(5); prlimit(1)",
        processes,
    ),
    Rule(
        "RW-149",
        "Control groups have the limits of their units, and systemd gives services no other variables than its own.",
        "control groups and systemd's environment",
        "A frozen or throttled service counts as active; a variable such as LD_PRELOAD changes each new service.",
        f"Run `systemctl thaw` or `systemctl restart`, or `systemctl unset-environment` for a variable, {ADMIT}",
        "systemd.resource-control(5); systemctl(1); Linux, Documentation/admin-guide/cgroup-v2.rst",
        surroundings,
    ),
)
