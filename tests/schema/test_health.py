"""Thresholds for drives: of the fleet, over them those of a group, over these a host's own."""

import pytest

from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet

FLEET = """
fleet: example
health: {{wear_percent: 80}}
groups:
  old: {{health: {{media_errors: 3, wear_percent: {wear}}}}}
hosts:
  alpha: {{address: 192.0.2.1, identity: {{serial: A1}}, os: debian-12, group: old, health: {{pending_sectors: 8}}}}
  beta: {{address: 192.0.2.2, identity: {{serial: B1}}, os: debian-12, health: {{wear_percent: 95}}}}
"""


def hosts(path, wear="any"):
    path = path / "example.yaml"
    path.write_text(FLEET.format(wear=wear))
    return load_fleet(path, {}).hosts


def test_a_host_has_those_of_the_fleet_and_its_group_and_its_own_over_them(tmp_path):
    found = hosts(tmp_path)
    alpha, beta = found["alpha"].health, found["beta"].health

    assert (alpha.pending_sectors, alpha.media_errors, alpha.wear_percent) == (8, 3, "any")
    assert (beta.pending_sectors, beta.media_errors, beta.wear_percent) == (0, 0, 95)


@pytest.mark.parametrize("wear", ["-1", "most", "0.5"])
def test_a_threshold_is_a_count_or_any(tmp_path, wear):
    with pytest.raises(DeclarationError, match="wear_percent: got .*; a threshold is a whole number, or any"):
        hosts(tmp_path, wear)
