"""The power goes while a tier is made, gets another drive, or grows: the same command once more completes it."""

import bisect
import itertools
import json
import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.consents import OPTION, WIPE
from tests.support.diagnostics import sentences
from tests.support.expect import eventually, need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.replacement import keep_line
from tests.support.tiers import DEVICE, SEED, Place, is_idle, kib, places, read_file, require_whole_tier, write_file

HOST = "alpha"
CUTS, EARLY = 10, 6
"""How often the power goes, and how often at least before the last step of what is cut."""
SECONDS = 900
"""For one command, or one copy, on a busy computer."""
SLOW_KIB, FAST_KIB = 1000, 200_000
"""What md may copy in a second: so little that it is at work whenever it is looked at, and as much as it can."""
STEP = r"{} (?:creating|updating) .*?step (\d+)/(\d+): (.*)"
"""What `up` says of a resource when a step begins."""
SPEED = "/proc/sys/dev/raid/speed_limit_max"
OWNERS = "/var/lib/rackwright/owners"
SLOW = f"""
echo md_mod > /etc/modules-load.d/slow.conf
echo dev.raid.speed_limit_max = {SLOW_KIB} > /etc/sysctl.d/slow.conf
echo {SLOW_KIB} > {SPEED}
"""
"""In sh: md is slow, and slow again after a restart."""
FORGET = f"""
{{device}}
systemctl disable --quiet --now $(systemd-escape --path --suffix=mount {{tier.mount}})
rm -rf /etc/systemd/system/srv-{{tier.name}}.mount {{tier.conf}} {{tier.rule}} {{tier.mount}}
rm {OWNERS}/tier-{{tier.name}}.json
systemctl daemon-reload
mdadm --stop {{tier.device}}
for serial in {{serials}}; do blkdiscard -f $(device $serial); done
udevadm settle
"""


@dataclass(frozen=True)
class Step:
    """A line of `up` about a step that begins."""

    number: int
    of: int
    text: str
    seconds: float
    """Since the first one."""

    @property
    def last(self) -> bool:
        return self.number == self.of

    def __str__(self) -> str:
        return f"step {self.number}/{self.of}: {self.text}"


class Up:
    """An `up` in the background, with its messages about one resource."""

    def __init__(self, lab: Lab, place: Place) -> None:
        self._log, self._step = lab.log, re.compile(STEP.format(re.escape(place.resource)))
        self.steps: list[Step] = []
        self._begun = threading.Event()
        self._began = 0.0
        self._process = subprocess.Popen(
            [str(ROOT / ".venv/bin/rackwright"), "up", lab.stack, "--yes"],
            cwd=lab.directory, env=lab.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def begun(self) -> float:
        """Wait for the first step, and return when that was."""
        need(self._begun.wait(SECONDS) and self.steps, "up has begun no step")
        return self._began

    def reached(self, number: int) -> None:
        """Wait until that step begins, or all is over."""
        while len(self.steps) < number and self._reader.is_alive():
            time.sleep(0.02)

    def ended(self) -> int:
        """Wait for its end, and return its status."""
        status = self._process.wait(SECONDS)
        self._reader.join(SECONDS)
        self._log.write(f"= {status}")
        return status

    def _follow(self) -> None:
        assert self._process.stdout
        for text in self._process.stdout:
            now = time.monotonic()
            self._log.write(text)
            if (found := self._step.search(text)) and int(found[1]) > len(self.steps):
                self._began = self._began or now
                self.steps.append(Step(int(found[1]), int(found[2]), found[3].strip(), now - self._began))
                self._begun.set()
        self._begun.set()


@dataclass(frozen=True)
class Case:
    """A tier over the first of some drives."""

    name: str
    level: str
    members: int
    filesystem: str
    drives: str
    """What their serials begin with."""

    def declare(self, content: Any) -> None:
        host = content["hosts"][HOST]
        tier = {"level": self.level, "filesystem": self.filesystem, "mount": f"/srv/{self.name}", "destroy": "allowed"}
        host.setdefault("tiers", {})[self.name] = tier
        for drive in self._drives(content)[: self.members]:
            drive["tier"] = self.name

    def add(self, content: Any) -> None:
        """Declare one more member."""
        next(drive for drive in self._drives(content) if "tier" not in drive)["tier"] = self.name

    def remove(self, content: Any) -> None:
        del content["hosts"][HOST]["tiers"][self.name]
        for drive in self._drives(content):
            drive.pop("tier", None)

    def _drives(self, content: Any) -> list[Any]:
        return [drive for drive in content["hosts"][HOST]["drives"] if drive["serial"].startswith(self.drives)]


KEPT = Case("kept", "raid1", 2, "ext4", "RW-KEPT-")
MADE = (
    Case("made", "raid5", 3, "xfs", "RW-MADE-"),
    Case("made", "raid10", 3, "ext4", "RW-MADE-"),
    Case("made", "raid1", 3, "xfs", "RW-MADE-"),
)
REPLACED = (Case("mirror", "raid1", 2, "ext4", "RW-TWO-"), Case("parity", "raid5", 3, "xfs", "RW-THREE-"))
DRIVES = 6
"""Over which tiers grow, beginning with fewer."""
GROWN = (Case("parity", "raid5", 3, "xfs", "RW-MORE-"), Case("stripes", "raid10", 4, "ext4", "RW-MORE-"))


def fleet(drives: Mapping[str, int], there: Sequence[Case]) -> str:
    """Return the fleet of one host.

    Args:
        drives: How many whose serials begin so. Each adds to the time of every look at the host.
        there: The tiers that are declared from the beginning.
    """
    serials = [f"{begin}{number}" for begin, count in drives.items() for number in range(count)]
    host: dict[str, Any] = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "drives": [
            {"serial": "RW-BOOT", "boot": True},
            *({"serial": serial, "bus": "nvme", "size": "512MB"} for serial in serials),
        ],
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:04", "addresses": ["10.32.0.4/24"]}],
    }
    content = {"fleet": "cuts", "hosts": {HOST: host}}
    for case in there:
        case.declare(content)
    return yaml.safe_dump(content, sort_keys=False)


@line("storage-life", 2, part="cut-create")
def test_a_creation_cut_by_a_power_loss_is_completed(log: Log) -> str:
    """The same drives are blank again each time, and the tier has another level."""
    with Lab(log.empty_directory() / "project", fleet({"RW-KEPT-": 2, "RW-MADE-": 3}, [KEPT]), log) as lab:
        cuts, last = Cuts(lab, [KEPT]), None
        for _, case in zip(range(CUTS + 1), itertools.cycle(MADE), strict=False):
            if last:
                _forget(lab, last)
            lab.edit(case.declare)
            cuts.up(case)
            cuts.rest(case)
            require_whole_tier(lab, place_of(lab, case))
            last = case
        return cuts.figure()


@line("storage-life", 2, part="cut-replace")
def test_a_replacement_cut_by_a_power_loss_is_completed(log: Log) -> str:
    """The one drive that waits takes the place of the one that has been a member for longest, and waits then."""
    with Lab(log.empty_directory() / "project", fleet({"RW-TWO-": 3, "RW-THREE-": 4}, REPLACED), log) as lab:
        cuts = Cuts(lab, REPLACED)
        members = {case: [*place_of(lab, case).serials] for case in REPLACED}
        waiting = {case: f"{case.drives}{case.members}" for case in REPLACED}
        for _, case in zip(range(CUTS + 1), itertools.cycle(REPLACED), strict=False):
            members[case].append(waiting[case])
            waiting[case] = members[case].pop(0)
            keep_line(lab, waiting[case], members[case][-1])
            _give_up(lab)
            cuts.up(case)
            cuts.rest(case)
            require_whole_tier(lab, place_of(lab, case))
        return cuts.figure()


@line("storage-life", 2, part="cut-grow")
def test_a_growth_cut_by_a_power_loss_is_completed(log: Log) -> str:
    """A tier grows by a drive, and by another one, until all serve. Then the next one is made of the same drives."""
    first = GROWN[0]
    with Lab(log.empty_directory() / "project", fleet({"RW-MORE-": DRIVES}, [first]), log) as lab:
        cuts, last = Cuts(lab, [first]), first
        growths = (case for case in itertools.cycle(GROWN) for _ in range(DRIVES - case.members))
        for case in itertools.islice(growths, CUTS + 1):
            if case != last:
                _forget(lab, last)
                lab.edit(last.remove)
                lab.edit(case.declare)
                lab.up()
                cuts.fill([case])
            before = kib(lab, place_of(lab, case))
            lab.edit(case.add)
            cuts.up(case)
            cuts.rest(case)
            _has_grown(lab, place_of(lab, case), before)
            last = case
        return cuts.figure()


class Cuts:
    """Runs of `up`: the first one ends, and each of the others is cut off at some moment of what that one took."""

    def __init__(self, lab: Lab, there: Sequence[Case]) -> None:
        """Start the twin, and fill the tiers that are *there*."""
        self._lab = lab
        self._moments: Iterator[float] = iter(())
        self._seconds: float | None = None
        self._begins: list[float] = []
        """Of each step of the uncut run, in seconds since the first."""
        self._hit: list[Step] = []
        lab.start()
        lab.log("up")
        lab.up()
        self.fill(there)

    def fill(self, cases: Sequence[Case]) -> None:
        """Put a file onto tiers; no others have to keep any from now on."""
        self._sums = {}
        for case in cases:
            self.rest(case)
            self._sums[case] = write_file(self._lab, place_of(self._lab, case))

    def rest(self, case: Case) -> None:
        """Let md do at full speed what it still has to."""
        self._lab.ssh(HOST, f"echo {FAST_KIB} > {SPEED}")
        self._rests(place_of(self._lab, case))
        self._lab.ssh(HOST, SLOW)

    def up(self, case: Case) -> None:
        """Do what is declared for *case*, and look whether all is as it should be."""
        lab, began = self._lab, time.monotonic()
        place = place_of(lab, case)
        what = self._uncut(place) if self._seconds is None else self._cut(place, next(self._moments))
        working = "idle" if is_idle(lab, place) else "at work"
        need(not lab.preview_differences(status=0), f"{place.resource}, {what}: the preview is not clean")
        for kept, sum in self._sums.items():
            need(
                read_file(lab, place_of(lab, kept)) == sum, f"{place.resource}, {what}: the file on {kept.name} is lost"
            )
        lab.log(f"{place.resource} {what}; md {working}; {time.monotonic() - began:.0f} s")

    def figure(self) -> str:
        need(not self._lab.differing(), "something differs in the end")
        early = sum(not step.last for step in self._hit)
        steps = Counter(f"{step.number}/{step.of}" for step in self._hit)
        hit = ", ".join(f"{count} × {step}" for step, count in sorted(steps.items()))
        need(early >= EARLY, f"{early} of {CUTS} cuts were before the last step: {hit}")
        return (
            f"{CUTS} cuts in {self._seconds:.0f} s, {early} before the last step ({hit}): completed, sums equal, clean"
        )

    def _uncut(self, place: Place) -> str:
        lab, up = self._lab, Up(self._lab, place)
        began = up.begun()
        need(up.ended() == 0, f"up of {place.resource} failed, and nothing was cut")
        written = lab.ssh(HOST, f"stat -c %.3Y {OWNERS}/tier-{place.name}.json; date +%s.%N").split()
        self._seconds = time.monotonic() - float(written[1]) + float(written[0]) - began  # the last step writes it
        for step in up.steps:
            lab.log.write(f"{step.seconds:.1f} s: {step}")
        self._begins = [step.seconds for step in up.steps]
        draw = random.Random(SEED)
        moments = [draw.uniform(0, self._seconds) for _ in range(CUTS)]
        self._moments = iter(moments)
        cut = ", ".join(f"{moment:.1f}" for moment in moments)
        return f"uncut: {len(up.steps)} steps in {self._seconds:.1f} s; cut by ACCEPT_SEED={SEED} at {cut}"

    def _cut(self, place: Place, moment: float) -> str:
        """Press reset where the uncut run was *moment* seconds after its first step began, and complete it.

        That is so long after the same step has begun: what else the computer does moves the steps, and cuts with them.
        """
        lab, up = self._lab, Up(self._lab, place)
        began, number = up.begun(), bisect.bisect_right(self._begins, moment)
        up.reached(number)
        time.sleep(moment - self._begins[number - 1])
        hit = up.steps[-1]
        lab.log.write(f"--- reset, {time.monotonic() - began:.1f} s after the first step began: {hit}")
        faults.hard_reset(lab.twin, HOST, lab.log.write)
        status = up.ended()
        need(status != 0 or hit.last, f"up says that all is done, and was cut off in {hit}")
        lab.ssh(HOST, f"{SLOW}\ncat /proc/mdstat")
        lab.up()
        self._hit.append(hit)
        return f"cut {len(self._hit)} at {moment:.1f} s: {hit}, status {status}, then 0"

    def _rests(self, place: Place) -> None:
        """Wait until md is idle, and has let go of what it has copied."""
        md = f"/sys/block/$(basename $(realpath {place.device}))/md"
        state = (
            f"cat {md}/sync_action; cat {md}/reshape_position 2>/dev/null || echo none; grep '(F)' /proc/mdstat || true"
        )
        resting = "idle\nnone"
        eventually(lambda: self._lab.ssh(HOST, state) == resting, f"md is done with {place.resource}", SECONDS)


def _has_grown(lab: Lab, place: Place, before: int) -> None:
    """Fail unless all of the array is used; after a restart nobody waits on the host to grow the filesystem."""
    wanted = before * (1 + 0.5 / len(place.serials))
    try:
        eventually(lambda: kib(lab, place) > wanted, f"the filesystem of {place.resource} has grown by itself", 20)
    except pytest.fail.Exception:
        lab.up()
    need((found := kib(lab, place)) > wanted, f"the filesystem of {place.resource} had {before} KiB, and has {found}")
    require_whole_tier(lab, place)


def _forget(lab: Lab, case: Case) -> None:
    """Make the host and the state as if there had never been the tier, faster than `up` would remove it."""
    place = place_of(lab, case)
    lab.ssh(HOST, FORGET.format(device=DEVICE, tier=place, serials=" ".join(place.serials)))
    exported = json.loads(lab.pulumi("stack", "export", status=0).stdout)
    [urn] = [found["urn"] for found in exported["deployment"]["resources"] if found["urn"].endswith(place.resource)]
    lab.pulumi("state", "delete", urn, "--yes", status=0)


def _give_up(lab: Lab) -> None:
    """Consent to lose what a drive carries that was a member before.

    Of one that lost its md superblock alone, what stood beside that goes first: it has no signature, and a consent for
    such data would end with the next power cut.
    """
    done = lab.rackwright("preview", lab.stack)
    for _, serial, _ in OPTION.findall(sentences(done.stdout + done.stderr)):
        lab.ssh(HOST, f"{DEVICE}\nhead -c 1M /dev/zero > $(device {serial})\nsync")
        done = lab.rackwright("preview", lab.stack)
    lines = {serial: content for _, serial, content in WIPE.findall(done.stdout + done.stderr)}
    lab.edit(lambda content: content["hosts"][HOST].update(wipe=lines))


def place_of(lab: Lab, case: Case) -> Place:
    return next(place for place in places(lab.fleet) if place.name == case.name)
