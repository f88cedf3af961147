"""Line 6: any process dies at any step of a creation; the same commands complete it, and nothing is made twice."""

import itertools
import json
import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any, Literal, get_args

import pytest

from tests.support.acceptance import line
from tests.support.consents import WIPE
from tests.support.expect import eventually, need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.processes import pulumis
from tests.support.tiers import DEVICE, SEED, Place, places, require_whole_tier, write_random_fleet

Victim = Literal["provider", "pulumi", "vm"]
VICTIMS: tuple[Victim, ...] = get_args(Victim)
FLEET = """\
fleet: cut
hosts:
  alpha:
    os: debian-12
    address: 192.0.2.11
    identity: {serial: CUT-ALPHA}
    ssh: {logins: [{name: admin, user: admin, agent: true}]}
    tiers:
      data: {level: raid1, filesystem: xfs, mount: /srv/data}
    drives:
      - {serial: CUT-BOOT, boot: true}
      - {serial: CUT-NVME0, bus: nvme, size: 960GB, tier: data}
      - {serial: CUT-NVME1, bus: nvme, size: 960GB, tier: data}
"""
SECONDS = 600
"""For one command on a busy computer."""


@line("foundation", 6, part="one")
def test_a_creation_that_dies_at_any_step_is_completed_by_the_same_command(log: Log) -> str:
    """Every step with every victim."""
    return _whatever_dies(FLEET, log, len(VICTIMS))


@line("foundation", 6, part="seed")
def test_a_creation_of_a_random_fleet_that_dies_is_completed_by_the_same_command(log: Log) -> str:
    """Every step with one victim, in turn."""
    return _whatever_dies(write_random_fleet(log.directory, log, _small), log, 1)


def _small(found: list[Place]) -> bool:
    """Whether a fleet is two tiers on one host, of few drives."""
    return len({place.host for place in found}) == 1 and len(found) == 2 and sum(len(p.serials) for p in found) < 7


def _whatever_dies(fleet: Path | str, log: Log, each: int) -> str:
    """For each step of the plan, kill *each* of the victims when its line is seen, then start and bring up again."""
    with Lab(log.empty_directory() / "project", fleet, log) as lab:
        lab.start()
        tiers = places(lab.fleet)
        tier = random.Random(SEED).choice(tiers)
        _clear(lab, tiers, tier)
        steps = _planned(lab, tier)
        need(len(steps) > 5 and any("wipe" in text for _, text in steps), f"the plan has {len(steps)} steps")
        turn, failed = itertools.cycle(VICTIMS), 0
        for number, text in steps:
            ends = {victim: _ending(lab, tiers, tier, number, victim) for victim in itertools.islice(turn, each)}
            failed += sum(end != "ok" for end in ends.values())
            log(f"step {number}/{len(steps)}: {text:60.60} " + "  ".join(f"{who}: {end}" for who, end in ends.items()))
        need(not failed, f"{failed} of {len(steps) * each} deaths were not got over")
    return (
        f"{len(steps)} steps, {len(steps) * each} deaths of provider, pulumi and VM: all completed, nothing made twice"
    )


def _planned(lab: Lab, tier: Place) -> list[tuple[int, str]]:
    """Give up what its first drive carries, and return the steps that make *tier*."""
    done = lab.rackwright("preview", lab.stack, status=2)
    [(host, serial, content)] = {*WIPE.findall(done.stdout + done.stderr)}

    def paste(fleet: Any) -> None:
        fleet["hosts"][host]["wipe"] = {serial: content}

    lab.edit(paste)
    lines = lab.steps("preview", running=False)[tier.resource]
    return [(number, line.partition(": ")[2]) for number, line in enumerate(lines, start=1)]


def _ending(lab: Lab, tiers: list[Place], tier: Place, number: int, victim: Victim) -> str:
    """Return ``ok``, or what went wrong; the tiers are gone again afterwards."""
    try:
        _cut(lab, tier, number, victim)
        lab.rackwright("twin", "start", lab.stack, status=0)
        eventually(lambda: not lab.ssh(tier.host, _RUNNING), "the step that was running has ended")
        before = _uuids(lab, tier)
        lab.up()
        need(not _pending(lab), "operations are left pending")
        for made in tiers:
            require_whole_tier(lab, made)
        lab.audit(status=0)
        after = _uuids(lab, tier)
        need(len(after) == 1, f"the drives carry {after}")
        need(len(before) != 1 or before == after, f"the array was made twice: {before}, then {after}")
        end = "ok"
    except pytest.fail.Exception as short:
        end = str(short)
    _clear(lab, tiers, tier)
    return end


def _cut(lab: Lab, tier: Place, number: int, victim: Victim) -> None:
    """Begin to make the tier, kill *victim* when the step *number* is reported, and wait for the end."""
    lab.log.write(f"--- up, {victim} is killed at step {number}")
    mark = re.compile(rf"{re.escape(tier.resource)} creating .*step {number}/")
    up = subprocess.Popen(
        [str(ROOT / ".venv/bin/rackwright"), "up", lab.stack, "--yes"],
        cwd=lab.directory, env=lab.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert up.stdout
    met = False
    for text in up.stdout:
        lab.log.write(text)
        if not met and mark.search(text):
            met = True
            for process in _processes(lab, up.pid, victim):
                os.kill(process, signal.SIGKILL)
                lab.log.write(f"--- killed {process}")
    up.wait(SECONDS)
    need(met, f"step {number} was not printed as running")


def _processes(lab: Lab, rackwright: int, victim: Victim) -> Iterator[int]:
    """Yield the processes to kill, found by who started them."""
    if victim == "vm":
        [machine] = lab.twin.status()
        assert machine.process
        yield machine.process
        return
    for pulumi in pulumis(rackwright):
        yield from [pulumi] if victim == "pulumi" else _children(pulumi, b"rackwright.provider")


def _children(process: int, word: bytes) -> list[int]:
    started = " ".join(file.read_text() for file in Path(f"/proc/{process}/task").glob("*/children"))
    return [int(child) for child in started.split() if word in Path(f"/proc/{child}/cmdline").read_bytes()]


def _pending(lab: Lab) -> list[object]:
    exported = json.loads(lab.pulumi("stack", "export", status=0).stdout)
    pending: list[object] = exported["deployment"].get("pending_operations") or []
    return pending


def _uuids(lab: Lab, tier: Place) -> set[str]:
    """Return the UUIDs of the arrays that the drives belong to; a drive without one is reported by its serial."""
    uuids = lab.ssh(tier.host, _UUIDS.format(device=DEVICE, serials=" ".join(map(quote, tier.serials))))
    return set(uuids.splitlines())


def _clear(lab: Lab, tiers: list[Place], tier: Place) -> None:
    """Make the host and the state as if there had never been a tier, faster than a new twin would be.

    The first drive of *tier* then carries something, the same every time.
    """
    host = tiers[0].host
    lab.rackwright("twin", "start", lab.stack, status=0)
    eventually(lambda: not lab.ssh(host, _RUNNING), "what was running has ended")
    unmounted = "".join(_UNMOUNT.format(tier=made) for made in tiers)
    serials = " ".join(quote(serial) for made in tiers for serial in made.serials)
    lab.ssh(host, unmounted + _CLEAR.format(device=DEVICE, serials=serials))
    lab.ssh(host, _FILL.format(device=DEVICE, serial=quote(tier.serials[0])))
    lab.pulumi("cancel", "--yes")
    lab.pulumi("stack", "rm", "--yes", "--force", "--preserve-config")


_RUNNING = "systemctl list-units --plain --no-legend --state=active,activating 'rackwright-*' | grep -v failed || true"
_UUIDS = """
{device}
for serial in {serials}; do
    dev=$(device $serial)
    [ "$(wipefs -n $dev | grep -vc '^DEVICE')" -le 1 ] || wipefs -n $dev
    mdadm --examine --export $dev 2>/dev/null | grep ^MD_UUID= || echo "none on $serial"
done
"""
_UNMOUNT = """
umount {tier.mount} 2>/dev/null || true
unit=$(systemd-escape --path --suffix=mount {tier.mount})
systemctl disable "$unit" 2>/dev/null || true
rm -rf /etc/systemd/system/"$unit" {tier.conf} {tier.rule} /var/lib/rackwright {tier.mount}
"""
_CLEAR = """
{device}
systemctl daemon-reload
for array in /dev/md/*; do
    if [ -e "$array" ]; then mdadm --stop "$array"; fi
done
for serial in {serials}; do
    dev=$(device $serial)
    blkdiscard -f $dev 2>/dev/null || blkdiscard -f -z $dev
done
udevadm settle
"""
_FILL = """
{device}
dev=$(device {serial})
yes | head -c 64M > $dev
uuid=5eed5eed-5eed-4eed-8eed-5eed5eed5eed
E2FSPROGS_FAKE_TIME=1700000000 mkfs.ext4 -qF -U $uuid -E hash_seed=$uuid,nodiscard $dev
sync
udevadm settle
"""
