"""Thresholds for GPUs: of the fleet, over them those of a group, over these a host's own."""

from rackwright.fleet import load_fleet
from rackwright.schema import Size

FLEET = """
fleet: example
alerts: {utilisation_percent: 90, temperature_celsius: 80}
groups:
  training:
    alerts: {memory_used: 75GB, temperature_celsius: 83}
hosts:
  alpha: {address: 192.0.2.1, identity: {serial: A1}, os: debian-12, group: training, alerts: {utilisation_percent: 99}}
  beta: {address: 192.0.2.2, identity: {serial: B1}, os: debian-12}
"""


def test_a_host_has_those_of_the_fleet_and_its_group_and_its_own_over_them(tmp_path):
    path = tmp_path / "example.yaml"
    path.write_text(FLEET)
    hosts = load_fleet(path, {}).hosts
    alpha, beta = hosts["alpha"].alerts, hosts["beta"].alerts

    assert (alpha.utilisation_percent, alpha.memory_used, alpha.temperature_celsius) == (99, Size("75GB"), 83)
    assert (beta.utilisation_percent, beta.memory_used, beta.temperature_celsius) == (90, Size("9000MiB"), 80)
