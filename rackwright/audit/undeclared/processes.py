"""Rules about processes of services, and about what systemd gives to all of them."""

from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact


def processes(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the running services whose processes differ from their units, whether declared or of a package."""
    unread = []
    for name in facts.table("service_processes"):
        try:
            yield Finding(f"unit:{name}", "; ".join(facts.differences_of(name)))
        except UnknownFact as reason:
            unread.append(str(reason))
    if unread:
        raise UnknownFact("; ".join(unread[:3]))


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
