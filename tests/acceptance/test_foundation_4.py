"""One host is off and another one changes: the known is reported, the possible is done, and nothing else is tried."""

import re
from pathlib import Path
from shlex import quote
from typing import Any

from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log
from tests.support.tiers import RACK, Place, places, read_file, require_whole_tier, write_file, write_random_fleet

STEP = re.compile(r"\bstep \d+/\d+")


@line("foundation", 4, part="rack")
def test_a_host_that_is_off_does_not_stop_the_example_rack(log: Log) -> str:
    return _half(RACK, log)


@line("foundation", 4, part="seed")
def test_a_host_that_is_off_does_not_stop_a_random_fleet(log: Log) -> str:
    return _half(write_random_fleet(log.directory, log, lambda found: len({place.host for place in found}) > 1), log)


def _half(fleet: Path, log: Log) -> str:
    with Lab(log.empty_directory() / "project", fleet, log) as lab:
        lab.start()
        log("up")
        lab.up()
        everywhere = places(lab.fleet)
        live = everywhere[0]
        dead = [place for place in everywhere if place.host != live.host]
        sum = write_file(lab, live)

        log(f"{dead[0].host} loses its power; {live.mount} on {live.host} is unmounted")
        faults.power_off(lab.twin, dead[0].host)
        lab.ssh(live.host, f"umount {quote(live.mount)}")
        _looked_at(lab, live, dead)

        log("up changes the one that lives")
        done = lab.up(status=3)
        _not_touched(done.stdout + done.stderr, dead)
        need(dead[0].host in done.stdout + done.stderr, f"up does not name {dead[0].host}")
        require_whole_tier(lab, live)
        need(read_file(lab, live) == sum, f"{live.file} is not what was written")
        need(lab.audit(status=3), "the audit says nothing")

        log(f"a change is declared for {dead[0].resource}")
        lab.edit(lambda content: _other_options(content, dead[0]))
        done = lab.up(status=3)
        _not_touched(done.stdout + done.stderr, dead)
        need(
            _not_made(done.stderr) == {dead[0].resource},
            f"{_not_made(done.stderr)} did not change, not {dead[0].resource}",
        )

        log(f"{dead[0].host} has its power back")
        faults.power_on(lab.twin, dead[0].host, log.write)
        lab.up()
        for place in places(lab.fleet):
            require_whole_tier(lab, place)
        need(not lab.differing(), "something differs once all hosts are back")
        return f"preview and audit 1, up 3, then 3 for {dead[0].resource} alone, then 0"


def _looked_at(lab: Lab, live: Place, dead: list[Place]) -> None:
    log, claim = lab.log, f"mount:{live.mount}"
    log("preview and audit name both")
    done = lab.rackwright("preview", lab.stack, status=1)
    for name in (live.resource, claim, dead[0].host):
        need(name in done.stdout + done.stderr, f"the preview does not name {name}")
    _not_touched(done.stdout + done.stderr, dead)
    report = lab.audit(status=1)
    reached = {resource["name"]: not resource["not_reached"] for resource in report["resources"]}
    wanted = {name: name.split("/")[0] == live.host for name in reached}
    need(reached == wanted, f"the audit says of who was reached: {reached}")
    for differing in (lab.audit_differences(status=1), lab.preview_differences(status=7)):
        need(
            differing == {(live.resource, claim)}, f"{format_claims(differing)} differ, wanted {live.resource} {claim}"
        )


def _not_touched(text: str, dead: list[Place]) -> None:
    """Fail if a line names a step for a resource of a host that is off."""
    names = {dead[0].host, *(place.resource for place in dead)}
    lines = [line for line in text.splitlines() if STEP.search(line) and names & set(line.split())]
    need(not lines, f"steps for a host that is off: {lines[:1]}")


def _other_options(content: Any, place: Place) -> None:
    options = [option for option in place.tier.options if option != "nodiratime"] + ["nodiratime"]
    content["hosts"][place.host].setdefault("tiers", {}).setdefault(place.name, {})["options"] = options


def _not_made(text: str) -> set[str]:
    """Return the resources that rackwright's summary gives a reason for, because their change was not made."""
    return {*re.findall(r"^  (\S+/\S+): ", text, re.MULTILINE)}
