"""The role container_runtime: what its program on the host says that containers are given of accelerators."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import containers, gpus
from rackwright.kinds.role.entries.gpus import Cdi
from rackwright.kinds.role.observe import observe_property
from rackwright.twin.gpu import library, state
from tests.roles.test_container_runtime import NVIDIA, TOOLKIT, files
from tests.support.gpu_stand_in import Host, stand_in
from tests.support.our_roles import REPOSITORY

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="NVML reports instances to root only")


@pytest.fixture(scope="module")
def compiled() -> Iterator[Path]:
    with stand_in() as root:
        yield root


@pytest.fixture
def host(compiled: Path, tmp_path: Path) -> Host:
    host = Host(compiled)
    host.install("535.261.03")
    host.state.write_text(state.text("alpha", ["a100-80gb", "a100-80gb"]))
    host.restart()
    linker = "".join(
        f"\\t{name} (libc6,x86-64) => {tmp_path}/{name}.535\\n" for name in ("libcuda.so.1", library.SONAME)
    )
    program(tmp_path, "ldconfig", f"printf '{linker}'")
    for name in ("libcuda.so.1", library.SONAME):
        (tmp_path / f"{name}.535").touch()
    return host


def program(root: Path, name: str, script: str) -> None:
    (root / "bin").mkdir(exist_ok=True)
    (root / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (root / "bin" / name).chmod(0o755)


Tell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tell(host: Host, tmp_path: Path) -> Tell:
    """Return what runs the role's program below *tmp_path*, on the stand-in for NVIDIA's library."""

    def run(drivers: tuple[str, ...] = NVIDIA, **variables: Any) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "rackwright-cdi"
        script.write_text(files(drivers, **variables)["/usr/local/sbin/rackwright-cdi"])
        environment = {**os.environ, "LD_LIBRARY_PATH": str(host.root), "ROOT": str(tmp_path)}
        return subprocess.run([sys.executable, "-I", script], capture_output=True, text=True, env=environment)

    return run


def specification(root: Path, sort: str = "nvidia") -> dict[str, Any]:
    return json.loads((root / f"etc/cdi/{sort}.json").read_text())


def nodes(edits: dict[str, Any]) -> list[str]:
    return [node["path"] for node in edits["deviceNodes"]]


def test_each_gpu_has_its_name_and_the_driver_its_libraries(tell, tmp_path):
    """
    Once: what stands there is not written again.
    """
    first, again = tell(), tell()
    found = specification(tmp_path)

    assert (first.returncode, first.stderr, first.stdout) == (0, "", "/etc/cdi/nvidia.json written\n")
    assert (again.returncode, again.stdout) == (0, "")
    assert {device["name"]: nodes(device["containerEdits"]) for device in found["devices"]} == {
        "0": ["/dev/nvidia0"],
        "1": ["/dev/nvidia1"],
        "all": ["/dev/nvidia0", "/dev/nvidia1"],
    }
    assert nodes(found["containerEdits"]) == ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"]
    mounted = {
        mount["containerPath"].rpartition("/")[2]: mount["hostPath"] for mount in found["containerEdits"]["mounts"]
    }
    assert mounted["libcuda.so.1"] == f"{tmp_path}/libcuda.so.1.535"
    assert (found["kind"], found["cdiVersion"]) == ("nvidia.com/gpu", "0.5.0")


def test_a_library_that_is_not_needed_is_given_where_the_host_itself_has_it(tell, tmp_path):
    """
    Debian has some in a folder of the driver alone. A container with the /usr of the host takes no file at a new path.
    """
    folder = f"usr/lib/{platform.machine()}-linux-gnu"
    names = ("libcuda.so.1", library.SONAME, "libnvidia-cfg.so.1", "libnvidia-nvvm.so.4")
    linker = "".join(f"\\t{name} (libc6,x86-64) => {tmp_path}/{name}.535\\n" for name in names)
    program(tmp_path, "ldconfig", f"printf '{linker}'")
    for name in names:
        (tmp_path / f"{name}.535").touch()
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "libnvidia-nvvm.so.4").symlink_to("/etc/alternatives/nvidia--libnvidia-nvvm.so.4")
    tell()

    mounts = specification(tmp_path)["containerEdits"]["mounts"]
    assert [Path(mount["containerPath"]).name for mount in mounts] == [
        *("libcuda.so.1", library.SONAME, "libnvidia-nvvm.so.4")
    ]


def divide(tell: Tell, host: Host, gpu: int) -> None:
    """Let a GPU have one MIG instance, of the id 3; a driver that is only loaded later would forget it."""
    tell()
    host.remove(gpu, "mig")
    host.edit(gpu, mig=1, instance="3 9 0 4")


@root_only
@pytest.mark.parametrize("divided", [False, True])
def test_what_it_writes_is_what_is_claimed(tell, host, tmp_path, monkeypatch, divided):
    """
    Of every GPU and instance that the driver knows of; one that comes later, or a file that goes, is found.
    """
    if divided:
        divide(tell, host, 1)
    done = tell()
    assert done.returncode == 0, done.stderr
    assert ("1:0" in {device["name"] for device in specification(tmp_path)["devices"]}) == divided
    monkeypatch.setattr(gpus, "LIBRARY", str(host.library))
    claim = Cdi(cdi="nvidia.com/gpu", by="/etc/cdi/nvidia.json", every_gpu=True, there="files").claim(REPOSITORY)

    def found() -> dict[str, Any]:
        # the libraries of the test lie below the root already
        facts = Facts({"cdi": containers.cdi(str(tmp_path)), **gpus.gpus("")})
        return {name: observe_property(facts, "cdi", "nvidia.com/gpu", name, claim) for name in claim.want}

    host_paths = tuple(sorted(mount["hostPath"] for mount in specification(tmp_path)["containerEdits"]["mounts"]))
    assert found() | {"missing_files": ()} == {**claim.want}
    assert set(found()["missing_files"]) <= set(host_paths)
    host.state.write_text(state.text("alpha", ["a100-80gb"] * 3))
    assert found()["lacking"] == ("2",) if not divided else ("1", "2")


@root_only
def test_instances_are_given_with_the_nodes_that_the_kernel_names(tell, host, tmp_path):
    divide(tell, host, 0)
    base = tmp_path / "proc/driver/nvidia/capabilities/gpu0/mig/gi3"
    for place, number in (("", 30), ("ci0", 31), ("ci1", 32)):
        (base / place).mkdir(parents=True, exist_ok=True)
        (base / place / "access").write_text(f"DeviceFileMinor: {number}\nDeviceFileMode: 292\n")
    done = tell()
    assert done.returncode == 0, done.stderr
    devices = {device["name"]: nodes(device["containerEdits"]) for device in specification(tmp_path)["devices"]}

    caps = "/dev/nvidia-caps/nvidia-cap"
    assert devices["0:0"] == ["/dev/nvidia0", f"{caps}30", f"{caps}31"]
    assert devices["0:1"] == ["/dev/nvidia0", f"{caps}30", f"{caps}32"]
    assert "0" not in devices and "1" in devices


def test_a_second_specification_of_the_same_devices_goes_aside_and_others_stay(tell, tmp_path):
    (tmp_path / "etc/cdi").mkdir(parents=True)
    (tmp_path / "etc/cdi/by-hand.yaml").write_text("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n")
    (tmp_path / "etc/cdi/net.yaml").write_text("cdiVersion: 0.5.0\nkind: vendor.example/net\n")

    assert "/etc/cdi/by-hand.yaml went to /var/lib/rackwright/aside\n" in tell().stdout
    assert sorted(path.name for path in (tmp_path / "etc/cdi").iterdir()) == ["net.yaml", "nvidia.json"]
    assert (tmp_path / "var/lib/rackwright/aside/etc/cdi/by-hand.yaml").exists()


def test_without_a_driver_it_says_so_and_leaves_what_stands_there(tell, host, tmp_path):
    tell()
    before = specification(tmp_path)
    host.install(None)
    program(tmp_path, "ldconfig", "")
    done = tell()

    assert (done.returncode, specification(tmp_path)) == (9, before)
    assert done.stderr.startswith("nvidia: nvmlInit_v2: ")


def test_a_driver_that_is_not_loaded_yet_gives_its_libraries_to_the_gpus_that_were_known(tell, host, tmp_path):
    """
    NVML does not answer while the kernel has the driver before it.
    """
    tell()
    before = specification(tmp_path)
    host.install("535.309.01")
    (tmp_path / "libcuda.so.1.535").rename(tmp_path / "libcuda.so.1.new")
    (tmp_path / "libcuda.so.1.535").symlink_to("libcuda.so.1.new")
    done = tell()
    after = specification(tmp_path)

    assert (done.returncode, done.stdout) == (0, "/etc/cdi/nvidia.json written\n")
    assert after["devices"] == before["devices"]
    assert f"{tmp_path}/libcuda.so.1.new" in [mount["hostPath"] for mount in after["containerEdits"]["mounts"]]


def test_a_driver_without_its_library_is_an_error(tell, tmp_path):
    program(tmp_path, "ldconfig", "")
    done = tell()

    assert done.returncode == 1
    assert "the driver answers, and the dynamic linker has no libcuda.so.1" in done.stderr


def test_a_value_without_a_declaration_is_removed(tell, tmp_path):
    tell()

    assert tell(devices=[]).stdout == "/etc/cdi/nvidia.json removed\n"
    assert list((tmp_path / "etc/cdi").iterdir()) == []


def test_nvidias_toolkit_speaks_where_it_is_declared(tell, tmp_path):
    shown = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [{"name": "all", "containerEdits": {}}]}
    program(tmp_path, "nvidia-ctk", f"""[ "$*" = 'cdi generate --format=json' ] && echo '{json.dumps(shown)}'""")
    assert tell(**TOOLKIT).returncode == 0
    assert specification(tmp_path) == shown

    program(tmp_path, "nvidia-ctk", "echo 'no such device' >&2; exit 1")
    failed = tell(**TOOLKIT)
    assert (failed.returncode, failed.stderr) == (1, "nvidia: nvidia-ctk: no such device\n")


def of_class(root: Path, name: str, vendor: str) -> None:
    (root / "sys/class" / name / "device").mkdir(parents=True)
    (root / "sys/class" / name / "device/vendor").write_text(f"{vendor}\n")


def test_amds_gpus_are_those_that_render_and_are_amds(tell, tmp_path):
    """
    By their place among them: the first may not be the kernel's first.
    """
    for name, vendor in (
        ("renderD128", "0x1a03"),
        ("renderD130", "0x1002"),
        ("renderD129", "0x1002"),
        ("card1", "0x1002"),
    ):
        of_class(tmp_path, f"drm/{name}", vendor)
    assert tell(("rocm",)).returncode == 0
    found = specification(tmp_path, "amd")

    assert nodes(found["containerEdits"]) == ["/dev/kfd"]
    assert {device["name"]: nodes(device["containerEdits"]) for device in found["devices"]} == {
        "0": ["/dev/dri/renderD129"],
        "1": ["/dev/dri/renderD130"],
        "all": ["/dev/dri/renderD129", "/dev/dri/renderD130"],
    }


def test_gaudis_are_given_with_what_controls_them(tell, tmp_path):
    of_class(tmp_path, "accel/accel0", "0x1da3")
    of_class(tmp_path, "accel/accel1", "0x8086")
    assert tell(("gaudi",)).returncode == 0

    [one, whole] = specification(tmp_path, "gaudi")["devices"]
    assert (one["name"], whole["name"]) == ("0", "all")
    assert nodes(one["containerEdits"]) == nodes(whole["containerEdits"])
    assert nodes(one["containerEdits"]) == ["/dev/accel/accel0", "/dev/accel/accel_controlD0"]


def test_of_what_is_not_there_nothing_is_reported(tell, tmp_path):
    done = tell(("rocm",))

    assert (done.returncode, done.stderr) == (9, "amd: there is no drm device of 0x1002\n")
    assert not (tmp_path / "etc/cdi").exists()


def test_a_node_gets_the_name_that_systemd_looks_for(tell, tmp_path):
    (tmp_path / "dev/char").mkdir(parents=True)
    (tmp_path / "dev/nvidia0").symlink_to("/dev/null")

    assert "/dev/nvidia0 can be found by its number\n" in tell().stdout
    assert (tmp_path / "dev/char/1:3").readlink() == Path("../nvidia0")
    assert "number" not in tell().stdout
