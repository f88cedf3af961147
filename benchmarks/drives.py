"""What `up` costs beside the mdadm commands that it comes down to, where a member is replaced and where one is added.

    python -m benchmarks.drives

One virtual machine with two equal tiers, one changed by `up`, the other by hand over one ssh. Each gets another drive
in the place of one that works, twice: once `up` is first, once the hand; and a drive more, once. What md copies and
moves is on neither side: it is held to a crawl until the measured command has ended, and goes on by itself. What comes
after it is counted: by hand one more ssh takes the copied drive out, or grows the filesystem; after `up` a unit on the
host does so alone.
"""

import json
import os
import platform
import shlex
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import start
from rackwright.twin.vm.accelerator import accelerator
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log
from tests.support.tiers import DEVICE, Place, is_at_rest, md, places, require_whole_tier

HOST = "alpha"
OURS, THEIRS = "north", "south"
"""The tier that `up` changes, and that which somebody does."""
MEMBERS, ROUNDS = 3, {"replace": 2, "grow": 1}
"""How often each is measured: without room in front of its data an array is not spread a second time."""
ORDER = ((OURS, 0), (THEIRS, 0), (THEIRS, 1), (OURS, 1))
CRAWL_KIB = 1000
"""A second, for which md takes many minutes here."""
SYNC_SECONDS = 900
BY_HAND = {
    "replace": "mdadm --manage {md} --add {new}\nmdadm --manage {md} --replace {old} --with {new}",
    "grow": "mdadm --manage {md} --add {more}\nmdadm --grow {md} --raid-devices={count}",
}
AFTERWARDS = {"replace": "mdadm --quiet {md} --remove failed", "grow": "xfs_growfs {mount}"}


@dataclass(frozen=True)
class Taken:
    """Seconds of one `up`, by the clock."""

    all: float
    looks: float
    """All probes of it, by the host's own journal, from the login of root to its end."""
    steps: float
    """From the end of the look under the host's lock to the beginning of the one that proves them."""
    count: int
    """Of probes."""

    @property
    def rest(self) -> float:
        """Pulumi's own, the program and the provider, connections."""
        return self.all - self.looks - self.steps


def fleet() -> str:
    drives: list[dict[str, Any]] = [{"serial": "RW-BOOT", "boot": True}]
    common = {"bus": "nvme", "size": "512MB"}
    for tier in (OURS, THEIRS):
        drives += [{"serial": f"RW-{tier}-{number}", **common, "tier": tier} for number in range(MEMBERS)]
        for sort, verb in (("NEW", "replace"), ("MORE", "grow")):
            drives += [{"serial": f"RW-{tier}-{sort}{round}", **common} for round in range(ROUNDS[verb])]
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "drives": drives,
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:06", "addresses": ["10.32.0.6/24"]}],
        "tiers": {tier: {"level": "raid5", "filesystem": "xfs", "mount": f"/srv/{tier}"} for tier in (OURS, THEIRS)},
    }
    return yaml.safe_dump({"fleet": "measured", "hosts": {HOST: host}}, sort_keys=False)


def main() -> None:
    log = Log("bench-drives")
    with (
        tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory,
        Lab(Path(directory, "project"), fleet(), log) as lab,
    ):
        lab.start()
        log("up")
        lab.up()
        _rest(lab)
        changes = {verb: _changed(lab, verb) for verb in AFTERWARDS}
        lab.up()  # takes note of what was done by hand last
        need(not (differing := lab.differing()), f"{format_claims(differing)} differ in the end")
        for place in places(lab.fleet):
            require_whole_tier(lab, place)
    _report(changes)


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _changed(lab: Lab, verb: str) -> tuple[list[float], list[Taken]]:
    """Change both tiers, in both orders where twice; return the seconds that took by hand, and those of `up`."""
    by_hand: list[float] = []
    by_up: list[Taken] = []
    for tier, round in (turn for turn in ORDER if turn[1] < ROUNDS[verb]):
        lab.log(f"{verb} {round + 1} of {ROUNDS[verb]}, {'up' if tier == OURS else 'by hand'}")
        if tier == THEIRS:
            by_hand.append(_by_hand(lab, verb, round))
            continue
        if by_hand:
            lab.up()  # takes note of what was done by hand
        by_up.append(_by_up(lab, verb, round))
    return by_hand, by_up


def _by_up(lab: Lab, verb: str, round: int) -> Taken:
    place = _place(lab, OURS)
    _pace(lab, place, str(CRAWL_KIB))
    _declare(lab, verb, OURS, round)
    taken = _up(lab)
    _let_go(lab, place)
    return taken


def _by_hand(lab: Lab, verb: str, round: int) -> float:
    place = _place(lab, THEIRS)
    _pace(lab, place, str(CRAWL_KIB))
    seconds = _typed(lab, place, BY_HAND[verb], round)
    _let_go(lab, place)
    seconds += _typed(lab, place, AFTERWARDS[verb], round)
    _declare(lab, verb, THEIRS, round)
    return seconds


def _typed(lab: Lab, place: Place, commands: str, round: int) -> float:
    drives = {"old": round, "new": f"NEW{round}", "more": f"MORE{round}"}
    words = {word: f"$(device RW-{place.name}-{drive})" for word, drive in drives.items()}
    script = commands.format(md=place.device, mount=place.mount, count=MEMBERS + round + 1, **words)
    return _seconds(lambda: lab.ssh(HOST, f"{DEVICE}\n{script}"))


def _declare(lab: Lab, verb: str, tier: str, round: int) -> None:
    def change(content: Any) -> None:
        drives = {drive["serial"]: drive for drive in content["hosts"][HOST]["drives"]}
        if verb == "replace":
            drives[f"RW-{tier}-NEW{round}"]["tier"] = drives[f"RW-{tier}-{round}"].pop("tier")
        else:
            drives[f"RW-{tier}-MORE{round}"]["tier"] = tier

    lab.edit(change)


def _up(lab: Lab) -> Taken:
    cursor = lab.ssh(HOST, "journalctl --quiet --lines=0 --show-cursor").removeprefix("-- cursor: ")
    seconds = _seconds(lab.up)
    journal = lab.ssh(HOST, f"journalctl --quiet --after-cursor={shlex.quote(cursor)} --identifier=sudo --output=json")
    looks, under = _looked(map(json.loads, journal.splitlines()))
    return Taken(seconds, sum(end - start for start, end in looks), under[-1][0] - under[0][1], len(looks))


Span = tuple[float, float]


def _looked(entries: Iterable[Mapping[str, Any]]) -> tuple[list[Span], list[Span]]:
    """Return when root looked at the host, and which of that was under its lock, as sudo noted it down."""
    commands, opened = dict[str, str](), dict[str, float]()
    looks, turns = list[Span](), list[Span]()
    for entry in entries:
        process, message, at = entry["_PID"], entry["MESSAGE"], int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6
        if "session opened" in message:
            opened[process] = at
        elif "session closed" in message and "python3 -I -S" in commands.get(process, ""):
            (turns if commands[process].endswith(" steps") else looks).append((opened[process], at))
        elif "COMMAND=" in message:
            commands[process] = message
    under = [look for look in sorted(looks) for turn in turns if turn[0] < look[0] and look[1] < turn[1]]
    need(len(under) > 1, f"the journal tells of {len(looks)} looks, and of {len(under)} under the lock")
    return looks, under


def _pace(lab: Lab, place: Place, kib: str) -> None:
    lab.ssh(HOST, f"echo {kib} > {md(lab, place)}/sync_speed_max")


def _let_go(lab: Lab, place: Place) -> None:
    """Let md do its work now, which it had not done when it was measured."""
    need(not is_at_rest(lab, place), f"md is done with {place.resource} already: its time was counted")
    _pace(lab, place, "system")
    _rest(lab)


def _rest(lab: Lab) -> None:
    """Wait until md is done with all tiers, and what the host does after that is, too."""
    done = "systemctl list-units --plain --no-legend 'rackwright-*'"
    for place in places(lab.fleet):
        eventually(lambda: is_at_rest(lab, place), f"{place.resource} rests", SYNC_SECONDS)  # noqa: B023
    eventually(lambda: not lab.ssh(HOST, done), "no unit of ours runs", SYNC_SECONDS)


def _place(lab: Lab, tier: str) -> Place:
    return next(place for place in places(lab.fleet) if place.name == tier)


def _report(changes: Mapping[str, tuple[list[float], list[Taken]]]) -> None:
    counts = " and ".join(f"{count} to {verb}" for verb, count in ROUNDS.items())
    print(f"seconds by the clock, of tiers of {MEMBERS} drives and more; the mean of {counts}")
    here = f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}"
    print(f"{here}; the virtual machine has one, by {accelerator().upper()}")
    print("".join(f"{title:>10}" for title in ("", "by hand", "up", "ratio", "steps", "looks", "rest")))
    record: dict[str, Any] = {}
    for verb, (by_hand, by_up) in changes.items():
        hand, up = statistics.mean(by_hand), statistics.mean(each.all for each in by_up)
        parts = [statistics.mean(getattr(each, part) for each in by_up) for part in ("steps", "looks", "rest")]
        print(f"{verb:>10}" + "".join(f"{figure:>10.1f}" for figure in (hand, up, up / hand, *parts)))
        record[verb] = {"by_hand_seconds": hand, "up_seconds": up, "ratio": round(up / hand, 1)}
        record[verb] |= {"by_hand": by_hand, "up": [asdict(each) for each in by_up]}
    count = ", ".join(str(each.count) for _, by_up in changes.values() for each in by_up)
    print(f"looks: {count} probes; rest: pulumi, program, provider and connections. md's own time is on neither side")
    print(json.dumps(record))


if __name__ == "__main__":
    start(main, (globals(), {"ROUNDS": {"replace": 1, "grow": 1}}))
