"""Shared libraries below a directory that stands for a machine."""

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe.libraries import libraries
from tests.support.fabricated_machine import FabricatedMachine

CUDA = "libcuda.so.1"
OURS = "usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.535.261.03"


@pytest.fixture
def machine(tmp_path):
    machine = FabricatedMachine(tmp_path)
    machine.write("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf # all of them\n")
    machine.write("etc/ld.so.conf.d/multiarch.conf", "# of Debian\n/usr/local/lib\n/usr/lib/x86_64-linux-gnu\n")
    machine.write(OURS, "")
    machine.write("usr/lib/libc.so.6", "")
    (tmp_path / "lib").rename(tmp_path / "usr/lib/old")
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / f"usr/lib/x86_64-linux-gnu/{CUDA}").symlink_to("nvidia/current/libcuda.so.535.261.03")
    return machine


def test_a_name_leads_to_its_file_once_whatever_ways_there_are(machine):
    """
    /lib is /usr/lib, and a second link to the same file is no second library.
    """
    machine.write("usr/local/lib/x", "")
    (machine.root / f"usr/local/lib/{CUDA}").symlink_to(machine.root / OURS)
    found = libraries(machine.top)

    assert found == {CUDA: [f"/{OURS}"], "libc.so.6": ["/usr/lib/libc.so.6"]}
    assert Facts({"libraries": found}).library(CUDA) == (f"/{OURS}",)
    assert Facts({"libraries": found}).library("libm.so.6") == ()


def test_a_second_library_is_seen_in_the_order_of_the_linker(machine):
    machine.write("usr/local/lib/libcuda.so.550.1", "")
    (machine.root / f"usr/local/lib/{CUDA}").symlink_to("libcuda.so.550.1")

    assert libraries(machine.top)[CUDA] == ["/usr/local/lib/libcuda.so.550.1", f"/{OURS}"]


def test_without_a_configuration_the_linker_looks_where_it_always_does(machine):
    (machine.root / "etc/ld.so.conf").unlink()

    assert libraries(machine.top) == {"libc.so.6": ["/usr/lib/libc.so.6"]}
