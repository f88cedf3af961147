"""Profiles of hardware that a fleet declares: they count like those of the catalogue."""

from pathlib import Path

import pytest

from rackwright.core.contract import Between
from rackwright.core.repository import Repository
from rackwright.fleet import load_fleet
from rackwright.kinds.host import HostKind, HostSpec
from rackwright.schema import HardwareProfile, Host, Size, nvidia
from tests.support.our_roles import ROLES

FLEET = """\
fleet: example
profiles:
  station: {gpus: {a100-80gb: 4}, memory: 512GB, nvswitch: 3, drives: [{count: 1, bus: nvme, size: 3.84TB}], nics: 1}
groups:
  training: {profile: station, os: debian-12}
hosts:
  alpha:
    group: training
    address: 192.0.2.1
    identity: {serial: S-1}
    drives: [{serial: D-1, bus: nvme, size: 3.84TB}]
    nics: [{name: fabric0, mac: "52:54:00:00:41:01"}]
"""


@pytest.fixture
def alpha(tmp_path: Path) -> Host:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return load_fleet(path, ROLES).hosts["alpha"]


def test_hosts_get_the_hardware_of_their_profile(alpha: Host) -> None:
    assert nvidia.gpus(alpha.minimum) == ("a100-80gb",) * 4
    assert (alpha.accelerators.gpus, alpha.accelerators.nvswitch) == (("a100-80gb",), 3)


def test_the_claims_of_a_host_survive_the_wire(alpha: Host) -> None:
    identity = {"serial": "S-1"}
    spec = HostSpec(host="alpha", identity=identity, os="debian-12", profile=alpha.profile, hardware=alpha.hardware)
    received = HostSpec.model_validate_json(spec.model_dump_json(exclude_none=True))
    want = {claim.thing: claim.want for claim in HostKind().claims(received, Repository({}))}

    assert want["gpus:alpha"] == {"a100-80gb": Between(4)}
    assert want["memory:alpha"] == {"bytes": Between(Size("512GB"))}


def test_a_fleet_in_python_gives_the_hardware_to_its_hosts() -> None:
    hardware = HardwareProfile(gpus={"t4": 2})
    host = Host(address="192.0.2.1", identity={"serial": "S"}, os="debian-12", profile="edge", hardware=hardware)

    assert nvidia.gpus(host.minimum) == ("t4", "t4")


@pytest.mark.parametrize(
    ("profile", "gpus"),
    [
        ("training-h100", ("h100-sxm",) * 8),
        ("training-h100-pcie", ("h100-pcie",) * 8),
        ("inference-l40s", ("l40s",) * 4),
    ],
)
def test_hosts_with_eight_h100_and_four_l40s_have_a_profile_of_the_catalogue(
    profile: str, gpus: tuple[str, ...]
) -> None:
    host = Host(address="192.0.2.1", identity={"serial": "S"}, os="debian-12", profile=profile)

    assert nvidia.gpus(host.minimum) == gpus
