"""A machine with a tier and a container with a role, from their declaration to the end of the tier, by the commands."""

import os
from pathlib import Path

import pytest

from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.removal import nothing_is_left
from tests.support.tiers import places, require_whole_tier

pytestmark = [
    pytest.mark.twin,
    pytest.mark.soak,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start containers"),
]
MACHINE, CONTAINER = "alpha", "beta"
FLEET = f"""\
fleet: small
hosts:
  {MACHINE}:
    address: 192.0.2.1
    identity: {{serial: S-ALPHA}}
    os: debian-12
    tiers:
      hot: {{level: raid1, filesystem: ext4, mount: /srv/hot}}
    drives:
      - {{serial: A-BOOT, boot: true}}
      - {{serial: A-NVME0, bus: nvme, size: 512MB, tier: hot}}
      - {{serial: A-NVME1, bus: nvme, size: 512MB, tier: hot}}
  {CONTAINER}:
    address: 192.0.2.2
    identity: {{serial: S-BETA}}
    os: debian-12
    roles: {{base: {{security_updates: false}}}}
"""
CHANGED = {(f"{MACHINE}/hot", "mount:/srv/hot"), (f"{CONTAINER}/base", "file:/etc/timezone")}


def test_a_small_rack_is_made_mended_and_its_tier_is_removed(tmp_path: Path) -> None:
    """
    Audit and preview find exactly what is changed by hand; `up` corrects it and keeps the data; consent ends the tier.

    `make accept ONLY=storage-life.harness[seed]` checks the same path, and restarts, on a larger and random fleet.
    """
    with Lab(tmp_path / "project", FLEET, Log("small-rack"), containers=[CONTAINER]) as lab:
        lab.start()
        lab.up()
        [tier] = places(lab.fleet)
        require_whole_tier(lab, tier)

        lab.ssh(MACHINE, "echo kept > /srv/hot/file; umount /srv/hot")
        lab.ssh(CONTAINER, "chmod 0600 /etc/timezone")
        assert lab.differing() == CHANGED
        lab.edit(lambda fleet: fleet["hosts"][MACHINE]["tiers"]["hot"].update(destroy="allowed"))
        lab.apply()
        assert lab.ssh(MACHINE, "cat /srv/hot/file") == "kept"

        lab.edit(_remove_tier)
        lab.apply()
        nothing_is_left(lab, tier)
        assert lab.audit_differences(status=0) == set()


def _remove_tier(fleet):
    """Remove the tier, and leave its drives without one."""
    del fleet["hosts"][MACHINE]["tiers"]
    for drive in fleet["hosts"][MACHINE]["drives"]:
        drive.pop("tier", None)
