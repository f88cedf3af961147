"""Hosts that are as declared, and carry as much as a real one: facts recorded on a twin, under many names."""

import json
import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from rackwright.kinds.tier import boot
from rackwright.kinds.tier.spec import TierSpec
from tests.support.recorded_facts import raw
from tests.support.recorded_hosts import RESOURCES, STACK, recorded
from tests.support.simulated import SimulatedHost, SimulatedRack

PACKAGES, FILES = 3_000, 2_000
FLEET = """\
fleet: rack
ssh: {{logins: [{{name: test, user: {user}, key: {key}, become: false}}]}}
groups:
  storage:
    profile: virtual
    os: debian-12
    tiers:
      hot: {{level: raid10, filesystem: xfs, mount: /srv/hot}}
      warm: {{level: raid6, filesystem: xfs, mount: /srv/warm}}
hosts:
"""
HOST = """\
  {host.name}:
    group: storage
    address: {host.address}
    ssh: {{port: {host.port}}}
    identity: {{serial: RW-{host.name}}}
    drives:
      - {{serial: {host.name}-BOOT, boot: true}}
      - {{serial: {host.name}-NVME0, bus: nvme, size: 512MB, tier: hot}}
      - {{serial: {host.name}-NVME1, bus: nvme, size: 512MB, tier: hot}}
      - {{serial: {host.name}-NVME2, bus: nvme, size: 512MB, tier: hot}}
      - {{serial: {host.name}-NVME3, bus: nvme, size: 512MB, tier: hot}}
      - {{serial: {host.name}-SAS0, bus: sas, size: 512MB, tier: warm}}
      - {{serial: {host.name}-SAS1, bus: sas, size: 512MB, tier: warm}}
      - {{serial: {host.name}-SAS2, bus: sas, size: 512MB, tier: warm}}
      - {{serial: {host.name}-SAS3, bus: sas, size: 512MB, tier: warm}}
    nics:
      - {{name: fabric0, mac: "{mac}", mtu: 9000, addresses: [{address}/16]}}
"""


def names(count: int) -> list[str]:
    return [f"node-{number:03}" for number in range(1, count + 1)]


def facts(name: str) -> dict[str, Any]:
    """Return raw facts of a host that is as ``fleet`` declares it, of a project with the salt of `keep_salt`."""
    own: dict[str, Any] = json.loads(_renamed(json.dumps(recorded("gpu-01")), name))
    for tier in ("hot", "warm"):
        spec = TierSpec.model_validate_json(_renamed(RESOURCES[f"gpu-01/{tier}"].spec.model_dump_json(), name))
        own["files"][spec.rule_path]["digest"] = STACK.repository.digest(boot.rule_text(spec, STACK.repository))
    packages, files, units = _carried()
    return own | {"packages": packages, "files": files | own["files"], "units": units | own["units"]}


def keep_salt(project: Path) -> None:
    """Give *project* the salt of the digests in `facts`."""
    path = project / ".rackwright" / "salts" / "rack"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(STACK.salt)


RECORDED_MAC = "52:54:00:00:01:01"


def _renamed(text: str, name: str) -> str:
    names = {"RW-GPU-01": f"RW-{name}", "gpu-01": name, "RW01-": f"{name}-", RECORDED_MAC: mac(name)}
    for recorded_name, own_name in names.items():
        text = text.replace(recorded_name, own_name)
    return text


def mac(name: str) -> str:
    number = int(name.removeprefix("node-"))
    return f"52:54:00:02:{number >> 8:02x}:{number & 255:02x}"


def fleet(rack: SimulatedRack, hosts: Iterable[SimulatedHost]) -> str:
    """Return the fleet's file for some hosts of *rack*."""
    text = FLEET.format(user=rack.user, key=rack.key)
    for number, host in enumerate(hosts, start=1):
        text += HOST.format(host=host, mac=mac(host.name), address=f"10.30.{number // 250}.{number % 250 + 1}")
    return text


@cache
def _carried() -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
    """Return packages, files and units of a host with a whole system on it."""
    chance, system = random.Random(8), raw("two-tiers")
    packages, files = dict(system["packages"]), dict(system["files"])
    while len(packages) < PACKAGES:
        packages[f"library{len(packages)}-dev"] = f"{chance.randrange(9)}.{chance.randrange(99)}-{chance.randrange(9)}"
    while len(files) < FILES:
        digest, made = f"{chance.getrandbits(128):032x}", chance.randrange(10**18, 2 * 10**18)
        files[f"/etc/application-{len(files)}/settings.conf"] = {
            "digest": digest, "mode": "0644", "mtime_ns": made, "owner": "root:root"
        }  # fmt: skip
    return packages, files, system["units"]
