"""Vendors' software and PCI bridges below a directory that stands for a machine."""

import struct

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import processes, vendors
from tests.support.fabricated_machine import FabricatedMachine

L4T = "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64\n"
"""As Jetson Linux 36.4.4 has it."""
TOOLKIT = "usr/local/Ascend/ascend-toolkit/latest/aarch64-linux/ascend_toolkit_install.info"


@pytest.fixture
def machine(tmp_path):
    return FabricatedMachine(tmp_path)


@pytest.mark.parametrize(
    ("name", "path", "text", "value"),
    [
        ("jetson.release", "etc/nv_tegra_release", L4T, "36.4.4"),
        ("jetson.power_mode", "var/lib/nvpmodel/status", "pmode:0003", "3"),
        ("jetson.power_mode", "var/lib/nvpmodel/status", "pmode:0000\n", "0"),
        ("rocm.release", "opt/rocm/.info/version", "6.4.3-128\n", "6.4.3"),
        ("ascend.driver", "usr/local/Ascend/driver/version.info", "Version=23.0.0\nfirmware_version=1.0\n", "23.0.0"),
        ("ascend.firmware", "usr/local/Ascend/firmware/version.info", "Version=7.1.0.3.220\n", "7.1.0.3.220"),
        ("ascend.toolkit", TOOLKIT, "package_name=Ascend-cann-toolkit\nversion=8.0.RC1\narch=aarch64\n", "8.0.RC1"),
    ],
)
def test_software_says_what_it_is(machine, name, path, text, value):
    machine.write(path, text)
    facts = Facts({"readings": vendors.readings(machine.top)})

    assert facts.reading(name) == value
    assert all(facts.reading(other) is None for other, *_ in vendors.READINGS if other != name)


def test_what_is_written_in_another_way_is_unknown(machine):
    machine.write("etc/nv_tegra_release", "Jetson, newer than we know\n")

    assert "has an unknown form" in vendors.readings(machine.top)["jetson.release"]["unknown"]


def test_dkms_has_what_was_left_there(machine):
    """
    A version that was never built stands there as well; links for kernels are no versions.
    """
    built = "6.8.0-60-generic/x86_64/module/amdgpu.ko.zst"
    tree = machine.write(f"var/lib/dkms/amdgpu/6.12.12-2194681.22.04/{built}", "").parents[4]
    machine.write("var/lib/dkms/amdgpu/6.10.5-2084815.22.04/build/make.log", "")
    machine.write("var/lib/dkms/mok.pub", "")
    (tree / "kernel-6.8.0-60-generic-x86_64").symlink_to("6.12.12-2194681.22.04")
    found = vendors.dkms(machine.top)

    assert found == {"amdgpu": {"6.10.5-2084815.22.04": [], "6.12.12-2194681.22.04": ["6.8.0-60-generic"]}}
    assert Facts({"dkms": found}).dkms("habanalabs") == {}


def test_a_process_that_has_an_accelerator_open_is_reported(machine):
    for pid, name, files in (
        (7, "python3", ["/dev/kfd", "/dev/kfd", "/dev/null"]),
        (8, "hl_qual", ["/dev/accel/accel1"]),
        (9, "bash", ["/dev/accel/accel_controlD1", "socket:[1]"]),
        (10, "atc", ["/dev/davinci0", "/dev/davinci_manager"]),
    ):
        machine.write(f"proc/{pid}/comm", f"{name}\n")
        fds = machine.root / f"proc/{pid}/fd"
        fds.mkdir()
        for number, file in enumerate(files):
            (fds / str(number)).symlink_to(file)

    users = Facts(
        {"accelerator_users": vendors.accelerator_users(machine.top, processes.open_files(machine.top))}
    ).accelerator_users
    assert [(user.pid, user.name, user.device) for user in users] == [
        (7, "python3", "/dev/kfd"),
        (8, "hl_qual", "/dev/accel/accel1"),
        (10, "atc", "/dev/davinci0"),
    ]


def function(machine: FabricatedMachine, address: str, code: str, config: bytes) -> None:
    machine.write(f"sys/bus/pci/devices/{address}/class", f"{code}\n")
    machine.write(f"sys/bus/pci/devices/{address}/config", config)


def config(control: int, chain: tuple[int, ...] = (0x1, 0xD)) -> bytes:
    """Return 4 KiB of configuration: extended capabilities of these ids, Access Control Services with *control*."""
    space = bytearray(4096)
    for number, id in enumerate(chain):
        at, follows = 0x100 + 0x40 * number, 0x140 + 0x40 * number if number + 1 < len(chain) else 0
        struct.pack_into("<I", space, at, id | 1 << 16 | follows << 20)
        if id == 0xD:
            struct.pack_into("<HH", space, at + 4, 0x5F, control)
    return bytes(space)


def test_bridges_that_redirect_are_reported_and_no_other_device(machine):
    """
    0x1d is what Linux writes: source validation, redirection of requests and completions, upstream forwarding.
    """
    function(machine, "0000:00:01.0", "0x060400", config(0x1D))
    function(machine, "0000:00:02.0", "0x060400", config(0))
    function(machine, "0000:00:03.0", "0x060400", config(0x1D, (0x1, 0x3)))
    function(machine, "0000:00:04.0", "0x060400", bytes(256))
    function(machine, "0000:00:1f.0", "0x060100", config(0x1D))
    function(machine, "0000:3b:00.0", "0x030200", config(0x1D))

    assert vendors.redirecting_bridges(machine.top) == ["0000:00:01.0"]


def test_a_chain_of_capabilities_that_never_ends_is_left(machine):
    space = bytearray(4096)
    struct.pack_into("<I", space, 0x100, 0x1 | 1 << 16 | 0x100 << 20)
    function(machine, "0000:00:01.0", "0x060400", bytes(space))

    assert vendors.redirecting_bridges(machine.top) == []
