"""The plan is what runs, on drives that are still what was planned for; and a host need not be a twin."""

import random
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from shlex import quote
from typing import Any

from rackwright.schema.twin import DRIVE_BYTES
from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.images import Drive, digest, sums
from tests.support.lab import Lab, format_claims
from tests.support.log import Log
from tests.support.simulated import SimulatedRack
from tests.support.tiers import SEED, Place, places, require_whole_tier, write_random_fleet

OWNERS = "/var/lib/rackwright/owners"
CREATING = re.compile(r"rackwright:storage:Tier (\S+) creating \(\d+s\) step 1/")
UNIT_STARTED = re.compile(r"Started rackwright-step-\S+ - (\S+: .*)\.$", re.MULTILINE)


def small(found: list[Place]) -> bool:
    """Whether a fleet is one host of a few drives."""
    return len({place.host for place in found}) == 1 and sum(len(place.serials) for place in found) < 10


@line("foundation", "toy", part="steps")
def test_an_exchanged_drive_stops_its_step_before_the_first_byte(log: Log) -> str:
    """A drive exchanged between plan and write stops before the first byte; then what runs is what was previewed."""
    with Lab(log.empty_directory() / "project", write_random_fleet(log.directory, log, small), log) as lab:
        lab.start()
        exchanged = _exchanged(lab)
        previewed = lab.steps("preview", running=False)
        executed = lab.steps("up", "--yes", "--skip-preview", running=True)
        need(previewed and executed == previewed, f"previewed is {previewed}, executed {executed}")
        runs = [f"{name}: {text.partition(': ')[2]}" for name, texts in executed.items() for text in texts]
        units = [text for text in _started(lab, places(lab.fleet)[0].host) if text in runs]
        need(units and units == [run for run in runs if run in units], f"the host ran {units}, not {runs}")
        for place in places(lab.fleet):
            require_whole_tier(lab, place)
        count = sum(map(len, executed.values()))
        return f"{exchanged} exchanged after the plan, nothing written; {count} steps run as previewed"


def _exchanged(lab: Lab) -> str:
    """Hold the first step, which only notes something, until a drive has become another with the same serial."""
    everywhere = places(lab.fleet)
    host = everywhere[0].host
    with _held(lab, host) as release:
        before = sums(lab, everywhere)
        lab.log("up, held at its first step")
        running = threading.Thread(target=lambda: messages.append(lab.up(status=4)))
        messages: list[subprocess.CompletedProcess[str]] = []
        running.start()
        eventually(lambda: CREATING.search(lab.log.path.read_text()), "up begins its first step", 300)
        found = CREATING.search(lab.log.path.read_text())
        assert found
        place = next(place for place in everywhere if place.resource == found[1])
        serial = random.Random(SEED).choice(place.serials)
        lab.log(f"{serial} of {place.resource} is exchanged")
        sum = _exchange(lab, host, serial, b"other data, and more of it. " * 40_000)
        release()
        running.join()
    need(messages, "up has not ended with 4")
    text = messages[0].stdout + messages[0].stderr
    need(f"drive {serial} holds first MiB" in text, f"up does not say what {serial} holds now")
    theirs: dict[Drive, str] = {(host, other): before[host, other] for other in place.serials} | {(host, serial): sum}
    after = sums(lab, [place])
    need(after == theirs, f"written although {serial} was exchanged: {[d for d in theirs if theirs[d] != after[d]]}")
    _exchange(lab, host, serial, b"")
    return serial


@contextmanager
def _held(lab: Lab, host: str) -> Iterator[Any]:
    """Let no owner file be written on *host* until the yielded function is called."""
    thaw = f"fsfreeze --unfreeze {OWNERS}"
    lab.ssh(
        host,
        f"""mkdir -p {OWNERS}; truncate -s 16M /root/owners.img; mkfs.ext4 -qF /root/owners.img
            mount -o loop /root/owners.img {OWNERS}; fsfreeze --freeze {OWNERS}""",
    )
    try:
        yield lambda: lab.ssh(host, thaw)
    finally:
        keep = f"cp -a {OWNERS}/*.json /root/; umount {OWNERS}; mv /root/*.json {OWNERS}/"
        lab.ssh(host, f"{thaw} 2>/dev/null || true; {keep}", status=None)


def _exchange(lab: Lab, host: str, serial: str, content: bytes) -> str:
    """Put a drive with *content* into the place of another; return the digest of its image."""
    image = lab.twin.layout.disk(host, serial)
    faults.pull(lab.twin, host, serial)
    with image.open("r+b") as file:
        file.truncate(0)
        file.truncate(lab.twin.machine(host).drive(serial).size_bytes)
        file.write(content)
    faults.insert(lab.twin, host, serial)
    return digest(image)


def _started(lab: Lab, host: str) -> list[str]:
    """Return what systemd on *host* noted of the steps it ran."""
    return UNIT_STARTED.findall(lab.ssh(host, "journalctl --no-pager -o cat _PID=1"))


@line("foundation", "toy", part="rack")
def test_a_host_behind_a_jump_host_is_provisioned_like_a_twin(log: Log) -> str:
    """A host known by address, key and jump host alone is provisioned, audited and mended like a twin's."""
    directory = log.empty_directory()
    fleet = write_random_fleet(log.directory, log, small)
    with Lab(directory / "machine", fleet, log) as machine, SimulatedRack({"jump": None}) as jumps:
        machine.start()
        with Lab(directory / "project", fleet, log, stack="prod", target="rack") as lab:
            _reached_through(lab, machine, jumps)
            log("up through the jump host")
            lab.up()
            everywhere = places(lab.fleet)
            for place in everywhere:
                require_whole_tier(machine, place)
            need(not lab.differing(), "something differs right after up")
            place = random.Random(SEED).choice(everywhere)
            machine.ssh(place.host, f"umount {quote(place.mount)}")
            differing = lab.differing()
            need(differing == {(place.resource, f"mount:{place.mount}")}, f"{format_claims(differing)} differ")
            lab.up()
            require_whole_tier(machine, place)
            log("the jump host is off")
            jumps.switch_off("jump")
            lab.audit(status=3)
            need(not (lab.directory / ".rackwright/twins").exists(), "the stack of a rack has files of a twin")
        return f"{len(everywhere)} tiers on a host known by address, key and jump host"


def _reached_through(lab: Lab, machine: Lab, jumps: SimulatedRack) -> None:
    """Write into the fleet where its host answers, and what is between; pin both keys."""
    layout, [host] = machine.twin.layout, machine.fleet.hosts
    port, jump = machine.twin.settings(host).port, jumps["jump"]
    public = subprocess.run(["ssh-keygen", "-y", "-f", layout.key], capture_output=True, text=True, check=True).stdout
    with (jumps.directory / "authorized_keys").open("a") as keys:
        keys.write(public)
    lab.pins.write_text(jump.pin + layout.known_hosts.read_text())

    def reach(content: Any) -> None:
        declared = content["hosts"][host]
        declared["address"] = "127.0.0.1"
        declared["ssh"] = {
            "port": port,
            "jump": f"{jumps.user}@{jump.address}:{jump.port}",
            "logins": [{"name": "admin", "user": "rackwright", "key": str(layout.key)}],
        }
        for drive in declared["drives"]:
            if "size" in drive:
                drive["size"] = f"{DRIVE_BYTES}B"
            drive["watched"] = False  # virtual drives tell nothing of their health

    lab.edit(reach)
