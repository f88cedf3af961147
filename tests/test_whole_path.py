"""From a fleet nobody wrote to tiers on a booted kernel and back, by the commands that a person types."""

from pathlib import Path
from shlex import quote

import pytest

from tests.support.fleets import generate, write_yaml
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.removal import destroy_without_consent, nothing_is_left
from tests.support.tier_life import create_tiers
from tests.support.tiers import places, read_file, restart_hosts

pytestmark = pytest.mark.twin
SEED = 58
"""Of a small fleet; `make accept` takes another one each time."""


def test_a_rack_is_made_kept_mended_and_given_up(tmp_path: Path) -> None:
    """
    Made once, then nothing to do; a change by hand is found, and mended; what was written outlives a restart; nothing
    goes without consent, and with it nothing stays.
    """
    fleet = tmp_path / "fleet.yaml"
    write_yaml(generate(SEED), fleet)
    with Lab(tmp_path / "project", fleet, Log("whole-path")) as lab:
        everywhere = places(lab.fleet)
        lab.start()
        lab.rackwright("preview", lab.stack, status=1)
        sums = create_tiers(lab)

        changed = everywhere[0]
        lab.ssh(changed.host, f"umount {quote(changed.mount)}")
        assert lab.differing() == {(changed.resource, f"mount:{changed.mount}")}
        lab.up()
        restart_hosts(lab, everywhere)
        assert {place: read_file(lab, place) for place in everywhere} == sums

        destroy_without_consent(lab, everywhere)
        lab.edit(lambda fleet: fleet["hosts"][changed.host]["tiers"][changed.name].update(destroy="allowed"))
        lab.up()
        lab.edit(lambda fleet: _without(fleet["hosts"][changed.host], changed.name))
        lab.up()
        nothing_is_left(lab, changed)
        assert lab.audit_differences() == set()


def _without(host, tier):
    """Let *tier* go, and its drives be drives of no tier."""
    del host["tiers"][tier]
    for drive in host["drives"]:
        if drive.get("tier") == tier:
            del drive["tier"]
