"""The scrub of a tier: its timer and service, in place of those that come with mdadm.

md reads all of the array and counts the sectors that do not fit; it writes again each sector that a member cannot read.
"""

import re
from collections.abc import Collection, Iterator

from rackwright.core.contract import Claim, Command, Put, Remove, Step, Want
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.tier.spec import TierSpec
from rackwright.schema.tier import Scrub

UNITS = "/etc/systemd/system"
TIMERS = ("mdcheck_start.timer", "mdcheck_continue.timer")
"""Timers of mdadm itself. Source: mdadm 4.2, systemd/."""
CRON, DEFAULTS = "/etc/cron.d/mdadm", "/etc/default/mdadm"
"""Files by which Debian runs checkarray, unless AUTOCHECK is off. Source: mdadm 4.2-5, README.checkarray."""
AUTOCHECK = re.compile(r"^AUTOCHECK=[\"']?([Yy]es|[Yy]|1|[Tt]rue|[Tt])\b", re.MULTILINE)
"""Values of AUTOCHECK with which checkarray runs."""
_SET_AUTOCHECK = f"""sed -i "s/^AUTOCHECK=.*/AUTOCHECK=$1/" {DEFAULTS}"""


def units(spec: TierSpec) -> tuple[str, str]:
    """Return the names of its service and its timer."""
    return f"scrub-{spec.name}.service", f"scrub-{spec.name}.timer"


def texts(spec: TierSpec, scrub: Scrub, repository: Repository) -> dict[str, str]:
    """Return the units' texts by their paths."""
    return {
        f"{UNITS}/{unit}": repository.render(
            f"tier{UNITS}/scrub.{unit.rpartition('.')[2]}.j2",
            id=spec.id,
            name=spec.name,
            calendar=scrub.calendar,
            speed_max_kib=scrub.speed_max_kib,
            usual_speed_max_kib=spec.declared.sync_speed_max_kib,
        )
        for unit in units(spec)
    }


def claims(spec: TierSpec, repository: Repository) -> Iterator[Claim]:
    """Yield the claims about a scrub; without one its units are absent."""
    if spec.declared.scrub is None:
        yield from (Claim(f"file:{UNITS}/{unit}", {"present": False}) for unit in units(spec))
        return
    for path, text in texts(spec, spec.declared.scrub, repository).items():
        file: dict[str, Want] = {"mode": "0644", "owner": "root:root", "content": repository.digest(text)}
        yield Claim(f"file:{path}", file)
    yield Claim(f"unit:{units(spec)[1]}", {"state": "enabled", "active": "active"})
    yield Claim(f"scrubs:{spec.host}", {"of_others": ()}, owned=False)


def foreign_scrubs(facts: Facts) -> tuple[str, ...]:
    """Return the names of the timers and cron jobs of mdadm itself that scrub all arrays of the host."""
    units_by_name = ((name, facts.unit(name)) for name in TIMERS)
    timers = [name for name, unit in units_by_name if unit and (unit.enabled == "enabled" or unit.active == "active")]
    checks = facts.file(CRON) is not None and AUTOCHECK.search(facts.text(DEFAULTS) or "")
    return tuple(sorted([*timers, *([CRON] if checks else [])]))


def steps(spec: TierSpec, facts: Facts, repository: Repository, things: Collection[str]) -> Iterator[Step]:
    """Yield the steps that make the claims of the scrub hold.

    Args:
        things: Things of which a property differs.
    """
    service, timer = units(spec)
    ours = {f"file:{UNITS}/{service}", f"file:{UNITS}/{timer}", f"unit:{timer}"}
    if spec.declared.scrub is None:
        if ours & {*things}:
            yield from remove_steps(spec, facts)
        return
    if f"scrubs:{spec.host}" in things:
        yield from _disable_steps(foreign_scrubs(facts))
    if ours & {*things}:
        for path, text in texts(spec, spec.declared.scrub, repository).items():
            yield Put(f"write {path}", path, text)
        yield Command("reload systemd", ("systemctl", "daemon-reload"))
        yield Command(f"enable {timer}", ("systemctl", "enable", "--quiet", timer))
        yield Command(f"start {timer}", ("systemctl", "restart", timer))


def remove_steps(spec: TierSpec, facts: Facts) -> Iterator[Step]:
    """Yield the steps that remove its units; with the last tier's, the scrubs that come with mdadm run again."""
    service, timer = units(spec)
    present = [unit for unit in (timer, service) if facts.file(f"{UNITS}/{unit}")]
    if not present:
        return
    for unit in present:
        verb = ("disable", "--quiet", "--now") if unit == timer else ("stop",)
        yield Command(f"stop {unit}", ("systemctl", *verb, unit))
    for unit in present:
        yield Remove(f"remove {UNITS}/{unit}", f"{UNITS}/{unit}")
    yield Command("reload systemd", ("systemctl", "daemon-reload"))
    names = (re.fullmatch(r"scrub-.*\.timer", name) for name in facts.table("units"))
    if {name[0] for name in names if name} <= {timer}:
        yield from _enable_steps(facts)


def _disable_steps(others: Collection[str]) -> Iterator[Command]:
    if timers := [name for name in TIMERS if name in others]:
        yield Command(f"mask {', '.join(timers)}", ("systemctl", "mask", "--quiet", "--now", *timers))
    if CRON in others:
        yield Command(f"set AUTOCHECK=false in {DEFAULTS}", ("sh", "-c", _SET_AUTOCHECK, "sh", "false"))


def _enable_steps(facts: Facts) -> Iterator[Command]:
    units_by_name = ((name, facts.unit(name)) for name in TIMERS)
    if masked := [name for name, unit in units_by_name if unit and unit.enabled == "masked"]:
        yield Command(f"unmask {', '.join(masked)}", ("systemctl", "unmask", "--quiet", *masked))
    if facts.file(CRON) and not AUTOCHECK.search(facts.text(DEFAULTS) or ""):
        yield Command(f"set AUTOCHECK=true in {DEFAULTS}", ("sh", "-c", _SET_AUTOCHECK, "sh", "true"))
