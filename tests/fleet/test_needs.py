"""What is to run on a host, and what its roles choose, held against its hardware wherever it was written."""

from pathlib import Path

import pytest

from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet


def refusals(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(DeclarationError) as caught:
        load_fleet(path, {})
    return [str(error).removeprefix(f"{path}:") for error in caught.value.diagnostics]


def test_the_driver_of_a_group_is_reported_at_the_group(tmp_path: Path) -> None:
    fleet = """
fleet: example
groups:
  training:
    os: debian-12
    profile: training-a100
    roles:
      nvidia_driver:
        version: "580"
hosts:
  alpha: {group: training, address: 192.0.2.1, identity: {serial: CHASSIS-1}}
  beta: {group: training, address: 192.0.2.2, identity: {serial: CHASSIS-2}}
"""
    messages = [line for line in refusals(tmp_path / "fleet.yaml", fleet) if "unknown role" not in line]
    assert messages == [
        "9: groups.training.roles.nvidia_driver.version: got 580; debian-12 itself has driver 535. "
        "Leave version out, or write source: vendor. [Debian 12 and 13, packages nvidia-driver and nvidia-cuda-toolkit]"
    ]


def test_from_a_wrong_system_nothing_is_concluded(tmp_path: Path) -> None:
    fleet = """
fleet: example
hosts:
  alpha:
    os: debian-11
    profile: training-a100
    address: 192.0.2.1
    identity: {serial: CHASSIS-1}
    roles: {nvidia_driver: {version: "580"}}
    needs: {precision: [fp8]}
"""
    messages = refusals(tmp_path / "fleet.yaml", fleet)
    assert any("got fp8" in line for line in messages)
    assert not any("itself has" in line for line in messages)


def test_a_fleet_in_python_is_held_to_it(tmp_path: Path) -> None:
    fleet = """
from rackwright.schema import Host, Identity, Needs

def fleet():
    return Host(
        address="192.0.2.1",
        identity=Identity(serial="CHASSIS-1"),
        os="debian-12",
        profile="inference-t4",
        needs=Needs(precision=["bf16"]),
    )
"""
    assert refusals(tmp_path / "fleet.py", fleet) == [
        "5: Host.needs.precision[0]: got bf16; NVIDIA T4 (Turing) is made for fp32, fp16, int8 (profile). Write fp16. "
        "[TensorRT 10 Support Matrix, Hardware and Precision]"
    ]
