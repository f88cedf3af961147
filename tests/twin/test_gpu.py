"""GPUs of a twin: the answers and errors of the stand-in for NVIDIA's library, as the probe reads them."""

import ctypes
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from rackwright.errors import SetupError
from rackwright.facts.facts import Facts
from rackwright.facts.probe import gpus
from rackwright.facts.probe.observe import ReadError
from rackwright.schema.catalogue import GPUS
from rackwright.twin.gpu import library, state
from tests.support.gpu_stand_in import DEBIAN, MARKER, MODELS, NVIDIA, STRICT, Host, read_gpu

# --- answers to the probe


def test_the_probe_sees_the_gpus_that_the_fleet_declares(host):
    first, second = Facts({"gpus": gpus.read_nvml()["gpus"]}).gpus

    assert (first.name, first.pci_id, first.memory_bytes) == ("NVIDIA A100 80GB", "10de:20b2", 80_000_000_000)
    assert (first.uuid, first.serial) == (state.uuid("alpha", 0), state.serial("alpha", 0))
    assert (first.pci_address, second.pci_address) == ("0000:10:00.0", "0000:11:00.0")
    assert (first.mig, first.ecc, first.power_limit_max_watts) == (False, True, 400.0)
    assert (second.name, second.mig, second.power_limit_max_watts) == ("NVIDIA T4", None, 70.0)


def test_the_library_of_a_test_is_found_by_its_path_alone(nvml):
    try:
        other = ctypes.CDLL(library.SONAME)
    except OSError:
        return  # this computer has no driver
    assert other._handle != pynvml.nvmlLib._handle


def test_gpu_ids_are_unique_and_stable():
    """
    Declarations and recordings name devices by these ids.
    """
    names = [(host, index) for host in ("alpha", "beta") for index in range(8)]

    assert len({state.uuid(*name) for name in names}) == len({state.serial(*name) for name in names}) == 16
    assert state.text("alpha", MODELS) == state.text("alpha", MODELS)
    assert state.uuid("alpha", 0) == "GPU-070ecf02-84e2-e6d2-7ea4-12075d4c1a14"
    assert all(re.fullmatch(r"\d{13}", state.serial(*name)) for name in names)


@pytest.mark.parametrize(
    ("version", "folder", "nvml_version"),
    [
        ("535.261.03", DEBIAN, "12.535.261.03"),
        ("550.163.01", NVIDIA, "12.550.163.01"),
        ("580.95.05", NVIDIA, "13.580.95.05"),
    ],
)
def test_the_driver_is_the_one_that_is_installed(host, version, folder, nvml_version):
    host.install(version, folder)
    host.restart()

    assert gpus.read_nvml()["driver"] == {
        "version": version,
        "nvml_version": nvml_version,
        "library": str(host.library),
    }


def test_a_declared_driver_that_the_twin_cannot_install_answers(host):
    """
    So it does beside a library of another version, which a package such as that of CUDA brings along.
    """
    host.install(None, declared="580")
    host.restart()
    before = gpus.read_nvml()["driver"]["version"]
    host.install("535.309.01", NVIDIA, declared="580")

    assert before == gpus.read_nvml()["driver"]["version"] == "580"


def test_a_reloaded_driver_answers_open_clients(host, nvml):
    host.restart()

    assert nvml.nvmlSystemGetDriverVersion() == "535.261.03"
    assert (host.root / MARKER).read_text() == "535.261.03"


def test_without_a_driver_reading_gpus_fails(host):
    host.install(None)
    host.restart()

    with pytest.raises(ReadError, match="^nvmlInit_v2: Driver Not Loaded$"):
        gpus.read_nvml()


def test_a_replaced_driver_works_after_a_restart(host):
    host.install("550.163.01")

    with pytest.raises(ReadError, match="^nvmlInit_v2: Driver/library version mismatch$"):
        gpus.read_nvml()
    host.restart()
    assert gpus.read_nvml()["driver"]["version"] == "550.163.01"


PROPERTIES_BY_CALL = {
    "nvmlDeviceGetUUID": {"uuid"},
    "nvmlDeviceGetName": {"name"},
    "nvmlDeviceGetSerial": {"serial"},
    "nvmlDeviceGetPciInfo_v3": {"pci_address", "pci_id"},
    "nvmlDeviceGetMemoryInfo": {"memory_bytes", "memory_used_bytes"},
    "nvmlDeviceGetUtilizationRates": {"utilisation_percent"},
    "nvmlDeviceGetTemperature": {"temperature_celsius"},
    "nvmlDeviceGetTemperatureThreshold": {
        "temperature_target_celsius",
        "temperature_target_min_celsius",
        "temperature_target_max_celsius",
    },
    "nvmlDeviceGetPowerUsage": {"power_watts"},
    "nvmlDeviceGetPowerManagementLimit": {"power_limit_watts"},
    "nvmlDeviceGetPowerManagementDefaultLimit": {"power_limit_default_watts"},
    "nvmlDeviceGetPowerManagementLimitConstraints": {"power_limit_min_watts", "power_limit_max_watts"},
    "nvmlDeviceGetClockInfo": {"graphics_clock_mhz"},
    "nvmlDeviceGetPersistenceMode": {"persistence"},
    "nvmlDeviceGetEccMode": {"ecc", "ecc_pending"},
    "nvmlDeviceGetTotalEccErrors": {"uncorrected_errors"},
    "nvmlDeviceGetMigMode": {"mig", "mig_pending", "mig_instances"},
    "nvmlDeviceGetComputeRunningProcesses_v2": {"processes"},
}
"""The properties of a GPU that the probe reads with each call."""


def test_the_table_above_has_all_queries():
    assert set().union(*PROPERTIES_BY_CALL.values()) == gpus.QUERIES.keys()


@pytest.mark.parametrize("call", PROPERTIES_BY_CALL)
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (3, None),
        (4, "Insufficient Permissions"),
        (15, "GPU is lost"),
        (16, "GPU requires reset"),
        (999, "Unknown Error"),
    ],
)
def test_an_error_of_one_call_affects_only_its_properties(host, call, status, message):
    healthy = read_gpu()
    host.edit(0, **{call: status})

    changed = {name: message and {"unknown": f"{call}: {message}"} for name in PROPERTIES_BY_CALL[call]}
    changed["condition"] = {15: "lost", 16: "reset required"}.get(status, "working")
    if call == "nvmlDeviceGetMemoryInfo" and message:  # the other form calls it
        changed |= {name: {"unknown": f"nvmlDeviceGetMemoryInfo_v2: {message}"} for name in PROPERTIES_BY_CALL[call]}
    assert read_gpu() == {**healthy, **changed}


def test_a_lost_gpu_reports_it_in_all_properties_and_hides_no_other(host):
    other = read_gpu(1)
    host.edit(0, lost=1)

    lost = read_gpu(0)
    assert (lost.pop("index"), lost.pop("condition")) == (0, "lost")
    assert all(value == {"unknown": "nvmlDeviceGetHandleByIndex_v2: GPU is lost"} for value in lost.values())
    assert read_gpu(1) == other


def test_a_gpu_without_any_answer_has_an_unknown_condition(host):
    host.edit(0, nvmlDeviceGetHandleByIndex_v2=999)

    assert read_gpu()["condition"] == {"unknown": "nvmlDeviceGetHandleByIndex_v2: Unknown Error"}


@pytest.fixture
def nodes(host: Host) -> Iterator[Path]:
    """The directory of device nodes, with those of both GPUs; regular files, which can be opened like nodes."""
    directory = host.root / "dev"
    directory.mkdir(exist_ok=True)
    for name in ("nvidiactl", "nvidia0", "nvidia1"):
        (directory / name).touch()
    yield directory
    shutil.rmtree(directory)


def minor_number(library: ctypes.CDLL, index: int) -> int:
    gpu, number = ctypes.c_void_p(), ctypes.c_uint()
    assert library.nvmlInit_v2() == library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(gpu)) == 0
    assert library.nvmlDeviceGetMinorNumber(gpu, ctypes.byref(number)) == library.nvmlShutdown() == 0
    return number.value


def test_where_nodes_exist_only_gpus_with_a_node_are_seen(host, nodes):
    """
    A GPU among hidden ones has another index, and its own minor number.
    """
    both = gpus.read_nvml()["gpus"]
    (nodes / "nvidia0").unlink()

    [seen] = gpus.read_nvml()["gpus"]
    assert seen == {**both[1], "index": 0}
    assert minor_number(ctypes.CDLL(str(host.library)), 0) == 1
    (nodes / "nvidiactl").unlink()
    assert gpus.read_nvml()["gpus"] == both


def test_a_process_that_does_not_see_all_gpus_changes_none(host, nodes):
    library, gpu, before = ctypes.CDLL(str(host.library)), ctypes.c_void_p(), host.state.read_text()

    def set_persistence(mode: int) -> int:
        assert library.nvmlInit_v2() == library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(gpu)) == 0
        status = library.nvmlDeviceSetPersistenceMode(gpu, mode)
        library.nvmlShutdown()
        return int(status)

    assert set_persistence(1) == 0
    assert host.state.read_text() != before
    assert set_persistence(0) == 0
    (nodes / "nvidia1").unlink()
    assert (set_persistence(1), host.state.read_text().count("[gpu]")) == (4, 2)


def test_in_a_container_the_driver_is_that_of_the_host(host):
    """
    A container has no library with the driver's version in its name.
    """
    host.install(None)
    host.restart()
    kernel = host.root / "run/rackwright-twin-gpu-kernel"
    kernel.write_text("550.163.01")

    try:
        assert gpus.read_nvml()["driver"]["version"] == "550.163.01"
    finally:
        kernel.unlink()


def test_reading_a_hanging_driver_times_out(host, monkeypatch):
    monkeypatch.setattr(gpus, "NVML_SECONDS", 0.2)
    host.edit(1, nvmlDeviceGetPowerUsage="never")

    with pytest.raises(ReadError, match="^NVML: no answer within 0.2 s$"):
        gpus.read_nvml()


class Older:
    """The library of an older driver, without some calls."""

    def __init__(self, library: ctypes.CDLL, without: tuple[str, ...]) -> None:
        self._library, self._without = library, without

    def __getattr__(self, name: str) -> Any:
        if name in self._without:
            raise AttributeError(name)
        return getattr(self._library, name)


@pytest.fixture
def older(host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that removes calls from the library."""

    def remove_calls(*names: str) -> None:
        opened = ctypes.CDLL(str(host.library))
        monkeypatch.setattr(ctypes, "CDLL", lambda path: Older(opened, names))

    return remove_calls


def test_an_older_driver_is_read_with_its_older_calls(host, older):
    host.edit(0, process="4242 1048576 python3")
    newest = read_gpu()
    older("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses_v2")

    assert read_gpu() == newest
    assert newest["processes"] == [{"pid": 4242, "name": "python3", "memory_bytes": 1048576}]


def test_a_property_without_a_call_is_unknown(host, older):
    older("nvmlDeviceGetMigMode")

    assert read_gpu(1)["mig"] == {"unknown": "this driver's NVML has no nvmlDeviceGetMigMode"}


def test_all_processes_are_read_beyond_the_first_buffer(host):
    text = host.state.read_text()
    host.state.write_text(text.replace("[gpu]\n", "[gpu]\n" + "".join(f"process={n} 1 p\n" for n in range(1, 151)), 1))

    assert [process["pid"] for process in read_gpu()["processes"]] == [*range(1, 151)]


def test_a_process_may_have_no_name_and_no_memory(host):
    host.edit(0, process=f"77 {2**64 - 1} x")
    host.edit(-1, nvmlSystemGetProcessName=6)

    assert read_gpu()["processes"] == [{"pid": 77, "name": None, "memory_bytes": None}]


def test_facts_of_gpus_survive_a_snapshot(host, tmp_path):
    from rackwright.facts import snapshot

    answer = gpus.read_nvml()
    saved = snapshot.save(
        tmp_path, "alpha", Facts({"format": 1, "gpus": answer["gpus"], "gpu_driver": answer["driver"]})
    )

    assert json.loads(saved.read_text())["gpus"] == answer["gpus"]


# --- properties of a board


def limits(model: str) -> dict[str, int]:
    lines = dict(line.split("=", 1) for line in state.text("alpha", [model]).splitlines() if "=" in line)
    return {name: int(value) for name, value in lines.items() if name.startswith(("power_limit", "clock"))}


def test_power_and_clocks_are_those_of_the_catalogue(monkeypatch):
    power = {"power_limit": 70_000, "power_limit_default": 70_000, "power_limit_min": 60_000, "power_limit_max": 70_000}

    assert limits("t4") == {f"{name}_mw": value for name, value in power.items()} | {
        "clock_mhz": 1590,
        "clock_max_mhz": 1590,
    }
    changed = GPUS["t4"].model_copy(update={"power_max_watts": 75, "clock_max_mhz": 1600})
    monkeypatch.setattr(state, "GPUS", {"t4": changed})
    assert (limits("t4")["power_limit_max_mw"], limits("t4")["clock_max_mhz"]) == (75_000, 1600)


def test_a_board_with_one_known_limit_reports_no_limits():
    assert GPUS["l4"].power_max_watts and GPUS["l4"].power_min_watts is None
    assert limits("l4") == {}


@pytest.mark.parametrize("model", [name for name, gpu in GPUS.items() if gpu.pci])
def test_boards_repeat_nothing_from_the_catalogue(model):
    board, gpu = state._boards().get(GPUS[model].pci[0], {}), GPUS[model]

    assert not [name for name in board if getattr(gpu, name, None) is not None and name in type(gpu).model_fields]


# --- compilation


def test_the_library_runs_with_the_c_library_of_debian_12(host):
    """
    Guests have the C library of Debian 12.
    """
    needed = {tuple(map(int, version)) for version in re.findall(rb"GLIBC_(\d+)\.(\d+)", host.library.read_bytes())}

    assert needed
    assert max(needed) <= (2, 36)


def test_the_library_is_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path))
    folder = library.ensure(print)
    monkeypatch.setenv("PATH", "")

    assert library.ensure(print) == folder
    assert {path.name for path in folder.iterdir()} == {"libnvidia-ml.so.1", "libcuda.so.1"}


def test_a_program_finds_the_library_of_the_driver_and_no_gpu_to_compute_with(tmp_path):
    library.compile_to(tmp_path / library.CUDA, *STRICT)

    assert ctypes.CDLL(str(tmp_path / library.CUDA)).cuInit(0) == 100


def test_without_a_compiler_the_error_names_the_packages(tmp_path, monkeypatch):
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SetupError, match="the program cc is missing.*Install gcc and libc6-dev"):
        library.ensure(print)
