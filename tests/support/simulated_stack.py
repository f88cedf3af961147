"""A stack of simulated hosts for checks of the operator's side: real commands, real pulumi, no machine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.inventory import NOTHING, OTHERS, with_nothing_more
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.recorded_hosts import HOST, SALT, blank, recorded
from tests.support.simulated import SimulatedHost, SimulatedRack

OTHER = "gpu-02"
MEMBERS = [f"NVME{number}" for number in range(4)]


@contextmanager
def simulated_stack(log: Log, hosts: dict[str, dict[str, Any]]) -> Iterator[tuple[Lab, SimulatedRack]]:
    """Hand out a project of the simulated *hosts*, each with its raw facts and a tier ``hot`` of RAID10."""
    with SimulatedRack(hosts) as rack:
        names = [*hosts]
        text = "".join(_lines(rack, rack[name]) for name in names)
        login = f"{{name: test, user: {rack.user}, key: {rack.key}, become: false}}"
        fleet = f"fleet: rack\nssh: {{logins: [{login}]}}\nhosts:\n{text}"
        with Lab(log.empty_directory() / "project", fleet, log, target="rack") as lab:
            lab.pins.write_text("".join(rack[name].pin for name in names))
            salt = lab.directory / ".rackwright/salts/rack"  # that of the recorded digests
            salt.parent.mkdir(parents=True)
            salt.write_bytes(SALT)
            yield lab, rack


def facts_of(name: str, made: bool = False) -> dict[str, Any]:
    """Return what the probe says of the host *name* before its tier is made, or once it is *made*."""
    raw = recorded(HOST) if made else blank()
    text = json.dumps(raw)
    for old, new in (("RW-GPU-01", f"RW-{name.upper()}"), ("RW01-", f"{_prefix(name)}-"), (HOST, name)):
        text = text.replace(old, new)
    renamed: dict[str, Any] = json.loads(text)
    return with_nothing_more(renamed, NOTHING, OTHERS)


def obey(host: SimulatedHost) -> None:
    """Give *host* the recorded facts once its tier is ready."""

    def work(step: dict[str, Any]) -> None:
        if step["text"] == "note in the owner file: ready":
            host.set_facts(facts_of(host.name, made=True))

    host.on_step = work


def _prefix(name: str) -> str:
    return f"RW{name[-2:]}"


def _lines(rack: SimulatedRack, host: SimulatedHost) -> str:
    drives = "".join(
        f"      - {{serial: {_prefix(host.name)}-{slot}, bus: nvme, size: 512MB, tier: hot}}\n" for slot in MEMBERS
    )
    others = "".join(f"      - {{serial: {_prefix(host.name)}-SAS{n}, bus: sas, size: 512MB}}\n" for n in range(4))
    return (
        f"  {host.name}:\n    profile: virtual\n    os: debian-12\n    address: {host.address}\n"
        f"    ssh: {{port: {host.port}}}\n    identity: {{serial: RW-{host.name.upper()}}}\n"
        "    tiers:\n      hot: {level: raid10, filesystem: xfs, mount: /srv/hot}\n"
        f"    drives:\n      - {{serial: {_prefix(host.name)}-BOOT, boot: true}}\n{drives}{others}"
    )
