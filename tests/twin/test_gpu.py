"""GPUs of a twin: what the stand-in for NVIDIA's library says and refuses, to the probe and to NVIDIA's own binding."""

import ctypes
import json
import os
import re
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pynvml
import pytest

from rackwright.errors import SetupError
from rackwright.facts.facts import Facts
from rackwright.facts.probe import gpus
from rackwright.facts.probe.look import Unreadable
from rackwright.spec.catalogue import GPUS
from rackwright.twin.gpu import library, state
from tests.twin.stand_in import DEBIAN, MARKER, NVIDIA, Host, stand_in

MODELS = ("a100-80gb", "t4")
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
NOBODY = 65534


@pytest.fixture(scope="module")
def compiled() -> Iterator[Path]:
    with stand_in(*STRICT) as root:
        yield root


@pytest.fixture
def host(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with an A100 and a T4, whose driver has just been loaded."""
    host = Host(compiled)
    monkeypatch.setattr(gpus, "LIBRARY", str(host.library))
    host.install("535.261.03")
    host.state.write_text(state.text("alpha", MODELS))
    host.restart()
    gpus.nvml()
    return host


@pytest.fixture
def nvml(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """NVIDIA's own binding, which has opened the library."""
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(host.library)))
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlInit()
    yield pynvml
    pynvml.nvmlShutdown()


def seen(index: int = 0) -> dict[str, Any]:
    """Return what the probe sees of a GPU."""
    found: dict[str, Any] = gpus.nvml()["gpus"][index]
    return found


# --- what the probe sees


def test_the_probe_sees_the_gpus_that_the_fleet_declares(host):
    first, second = Facts({"gpus": gpus.nvml()["gpus"]}).gpus

    assert (first.name, first.pci_id, first.memory_bytes) == ("NVIDIA A100 80GB", "10de:20b2", 80_000_000_000)
    assert (first.uuid, first.serial) == (state.uuid("alpha", 0), state.serial("alpha", 0))
    assert (first.pci_address, second.pci_address) == ("0000:10:00.0", "0000:11:00.0")
    assert (first.mig, first.ecc, first.power_limit_max_watts) == (False, True, 400.0)
    assert (second.name, second.mig, second.power_limit_max_watts) == ("NVIDIA T4", None, 70.0)


def test_every_gpu_of_every_host_is_another_and_stays_the_same():
    """
    Their names are those of devices in what is declared and recorded.
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

    assert gpus.nvml()["driver"] == {
        "version": version,
        "nvml_version": nvml_version,
        "library": str(host.library),
    }


def test_a_driver_that_is_loaded_anew_answers_whoever_had_opened_it(host, nvml):
    host.restart()

    assert nvml.nvmlSystemGetDriverVersion() == "535.261.03"
    assert (host.root / MARKER).read_text() == "535.261.03"


def test_without_a_driver_no_gpu_is_known(host):
    host.install(None)
    host.restart()

    with pytest.raises(Unreadable, match="^nvmlInit_v2: Driver Not Loaded$"):
        gpus.nvml()


def test_a_driver_that_was_replaced_while_it_is_loaded_works_after_a_restart(host):
    host.install("550.163.01")

    with pytest.raises(Unreadable, match="^nvmlInit_v2: Driver/library version mismatch$"):
        gpus.nvml()
    host.restart()
    assert gpus.nvml()["driver"]["version"] == "550.163.01"


ASKED_BY = {
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
"""Every call that the probe makes of a GPU, and what it learns from it."""


def test_the_table_above_has_all_that_is_asked():
    assert set().union(*ASKED_BY.values()) == gpus.QUESTIONS.keys()


@pytest.mark.parametrize("call", ASKED_BY)
@pytest.mark.parametrize(
    ("status", "found"),
    [
        (3, None),
        (4, "Insufficient Permissions"),
        (15, "GPU is lost"),
        (16, "GPU requires reset"),
        (999, "Unknown Error"),
    ],
)
def test_what_one_call_refuses_takes_nothing_else_along(host, call, status, found):
    healthy = seen()
    host.edit(0, **{call: status})

    wanted = {name: found and {"unknown": f"{call}: {found}"} for name in ASKED_BY[call]}
    wanted["condition"] = {15: "lost", 16: "reset required"}.get(status, "working")
    if call == "nvmlDeviceGetMemoryInfo" and found:  # of which the other form is made
        wanted |= {name: {"unknown": f"nvmlDeviceGetMemoryInfo_v2: {found}"} for name in ASKED_BY[call]}
    assert seen() == {**healthy, **wanted}


def test_a_lost_gpu_says_so_wherever_it_is_asked_and_hides_no_other(host):
    other = seen(1)
    host.edit(0, lost=1)

    lost = seen(0)
    assert (lost.pop("index"), lost.pop("condition")) == (0, "lost")
    assert all(found == {"unknown": "nvmlDeviceGetHandleByIndex_v2: GPU is lost"} for found in lost.values())
    assert seen(1) == other


def test_a_gpu_of_which_nothing_is_told_is_not_a_working_one(host):
    host.edit(0, nvmlDeviceGetHandleByIndex_v2=999)

    assert seen()["condition"] == {"unknown": "nvmlDeviceGetHandleByIndex_v2: Unknown Error"}


def test_a_driver_that_hangs_in_the_middle_is_given_up(host, monkeypatch):
    monkeypatch.setattr(gpus, "NVML_SECONDS", 0.2)
    host.edit(1, nvmlDeviceGetPowerUsage="never")

    with pytest.raises(Unreadable, match="^NVML did not answer within 0.2 s$"):
        gpus.nvml()


class Older:
    """The library as an older driver has it: without some calls."""

    def __init__(self, library: ctypes.CDLL, without: tuple[str, ...]) -> None:
        self._library, self._without = library, without

    def __getattr__(self, name: str) -> Any:
        if name in self._without:
            raise AttributeError(name)
        return getattr(self._library, name)


@pytest.fixture
def older(host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that takes calls away from the library."""

    def take_away(*names: str) -> None:
        opened = ctypes.CDLL(str(host.library))
        monkeypatch.setattr(ctypes, "CDLL", lambda path: Older(opened, names))

    return take_away


def test_what_an_older_driver_lacks_is_asked_in_its_older_way(host, older):
    host.edit(0, process="4242 1048576 python3")
    newest = seen()
    older("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses_v2")

    assert seen() == newest
    assert newest["processes"] == [{"pid": 4242, "name": "python3", "memory_bytes": 1048576}]


def test_what_a_driver_has_no_call_for_is_unknown(host, older):
    older("nvmlDeviceGetMigMode")

    assert seen(1)["mig"] == {"unknown": "this driver's NVML has no nvmlDeviceGetMigMode"}


def test_more_processes_than_there_was_room_for_are_all_told(host):
    text = host.state.read_text()
    host.state.write_text(text.replace("[gpu]\n", "[gpu]\n" + "".join(f"process={n} 1 p\n" for n in range(1, 151)), 1))

    assert [who["pid"] for who in seen()["processes"]] == [*range(1, 151)]


def test_a_process_of_which_the_driver_knows_no_name_and_no_memory_has_none(host):
    host.edit(0, process=f"77 {2**64 - 1} x")
    host.edit(-1, nvmlSystemGetProcessName=6)

    assert seen()["processes"] == [{"pid": 77, "name": None, "memory_bytes": None}]


def test_facts_of_gpus_outlive_being_written_down(host, tmp_path):
    from rackwright.facts import snapshot

    found = gpus.nvml()
    saved = snapshot.save(tmp_path, "alpha", Facts({"format": 1, "gpus": found["gpus"], "gpu_driver": found["driver"]}))

    assert json.loads(saved.read_text())["gpus"] == found["gpus"]


# --- what can be set, and what is refused


def refused(status: int, call: Callable[..., Any], *arguments: Any) -> None:
    with pytest.raises(pynvml.NVMLError) as error:
        call(*arguments)
    assert error.value.value == status


def test_another_binding_reads_the_same(host, nvml):
    host.edit(1, process="4242 1048576 python3")
    device = nvml.nvmlDeviceGetHandleByUUID(state.uuid("alpha", 1))
    found = seen(1)

    assert nvml.nvmlDeviceGetCount() == 2
    assert nvml.nvmlSystemGetDriverVersion() == "535.261.03"
    assert nvml.nvmlDeviceGetIndex(device) == 1
    assert nvml.nvmlDeviceGetName(device) == found["name"]
    assert nvml.nvmlDeviceGetMemoryInfo(device).total == found["memory_bytes"]
    assert nvml.nvmlDeviceGetMemoryInfo(device, version=nvml.nvmlMemory_v2).used == found["memory_used_bytes"]
    assert nvml.nvmlDeviceGetPciInfo(device).busId == "00000000:11:00.0"
    for again in (
        nvml.nvmlDeviceGetHandleByPciBusId("0000:11:00.0"),
        nvml.nvmlDeviceGetHandleBySerial(found["serial"]),
    ):
        assert nvml.nvmlDeviceGetUUID(again) == found["uuid"]
    assert nvml.nvmlDeviceGetPowerManagementLimitConstraints(device) == [60000, 70000]
    assert [(who.pid, who.usedGpuMemory) for who in nvml.nvmlDeviceGetComputeRunningProcesses(device)] == [
        (4242, 1048576)
    ]
    refused(nvml.NVML_ERROR_NOT_FOUND, nvml.nvmlDeviceGetHandleByUUID, "GPU-none")
    refused(nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.nvmlDeviceGetHandleByIndex, 2)
    refused(nvml.NVML_ERROR_NOT_SUPPORTED, nvml.nvmlDeviceGetMigMode, device)


def test_a_power_limit_is_within_what_the_board_can(nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)

    nvml.nvmlDeviceSetPowerManagementLimit(device, 300_000)

    assert seen()["power_limit_watts"] == 300.0
    for limit in (99_999, 400_001):
        refused(nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.nvmlDeviceSetPowerManagementLimit, device, limit)
    assert seen()["power_limit_watts"] == 300.0


def test_a_temperature_target_is_within_what_the_board_can(host, nvml):
    host.edit(0, temperature_target=83, temperature_target_min=65, temperature_target_max=91)
    target = nvml.NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_CURR
    first, second = map(nvml.nvmlDeviceGetHandleByIndex, (0, 1))

    nvml.nvmlDeviceSetTemperatureThreshold(first, target, 70)

    found = seen()
    assert [found[f"temperature_target_{end}celsius"] for end in ("", "min_", "max_")] == [70, 65, 91]
    refused(nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.nvmlDeviceSetTemperatureThreshold, first, target, 92)
    refused(nvml.NVML_ERROR_NOT_SUPPORTED, nvml.nvmlDeviceSetTemperatureThreshold, second, target, 70)


def test_clocks_run_in_the_range_that_they_are_locked_to(nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)

    nvml.nvmlDeviceSetGpuLockedClocks(device, 210, 1200)
    assert seen()["graphics_clock_mhz"] == 1200
    refused(nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.nvmlDeviceSetGpuLockedClocks, device, 1200, 210)
    nvml.nvmlDeviceResetGpuLockedClocks(device)
    assert seen()["graphics_clock_mhz"] == 1410


def test_ecc_changes_when_the_driver_is_loaded_again(host, nvml):
    nvml.nvmlDeviceSetEccMode(nvml.nvmlDeviceGetHandleByIndex(0), 0)

    assert (seen()["ecc"], seen()["ecc_pending"]) == (True, False)
    host.restart()
    assert (seen()["ecc"], seen()["ecc_pending"], seen()["uncorrected_errors"]) == (False, False, None)


def test_a_restart_forgets_what_a_driver_forgets(host, nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    fresh = seen()
    nvml.nvmlDeviceSetPersistenceMode(device, 1)
    nvml.nvmlDeviceSetPowerManagementLimit(device, 300_000)
    nvml.nvmlDeviceSetGpuLockedClocks(device, 210, 1200)
    host.remove(0, "temperature_celsius")
    host.edit(0, process="4242 1048576 python3", uncorrected_errors=3, temperature_celsius=93)
    assert seen() != fresh

    host.restart()

    assert seen() == fresh


def instance(nvml: Any, device: Any, profile: str) -> Any:
    number = {"1g.10gb": 0, "2g.20gb": 1, "3g.40gb": 2, "4g.40gb": 3, "7g.80gb": 4}[profile]
    return nvml.nvmlDeviceCreateGpuInstance(device, nvml.nvmlDeviceGetGpuInstanceProfileInfo(device, number).id)


def divisions() -> list[tuple[str, int, int]]:
    return [(part["profile"], part["start"], part["size"]) for part in seen()["mig_instances"]]


def test_a_gpu_is_divided_as_far_as_it_has_room(nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    refused(nvml.NVML_ERROR_NOT_SUPPORTED, instance, nvml, device, "1g.10gb")
    assert nvml.nvmlDeviceSetMigMode(device, 1) == nvml.NVML_SUCCESS

    first = instance(nvml, device, "3g.40gb")
    instance(nvml, device, "2g.20gb")
    instance(nvml, device, "1g.10gb")

    assert divisions() == [("3g.40gb", 0, 4), ("2g.20gb", 4, 2), ("1g.10gb", 6, 1)]
    assert seen()["utilisation_percent"] is None
    for profile in ("3g.40gb", "1g.10gb", "7g.80gb"):
        refused(nvml.NVML_ERROR_INSUFFICIENT_RESOURCES, instance, nvml, device, profile)
    nvml.nvmlGpuInstanceDestroy(first)
    assert divisions() == [("2g.20gb", 4, 2), ("1g.10gb", 6, 1)]
    refused(nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.nvmlGpuInstanceDestroy, first)
    instance(nvml, device, "4g.40gb")
    assert divisions() == [("4g.40gb", 0, 4), ("2g.20gb", 4, 2), ("1g.10gb", 6, 1)]


def test_an_instance_stands_where_its_profile_may(nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    nvml.nvmlDeviceSetMigMode(device, 1)
    id = nvml.nvmlDeviceGetGpuInstanceProfileInfo(device, nvml.NVML_GPU_INSTANCE_PROFILE_3_SLICE).id
    count = ctypes.c_uint()
    places = (nvml.c_nvmlGpuInstancePlacement_t * 8)()
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(device, id, places, ctypes.byref(count))
    assert [(place.start, place.size) for place in places[: count.value]] == [(0, 4), (4, 4)]

    def create(start: int) -> None:
        wanted = nvml.c_nvmlGpuInstancePlacement_t(start, 4)
        nvml.nvmlDeviceCreateGpuInstanceWithPlacement(device, id, ctypes.byref(wanted))

    create(4)
    assert divisions() == [("3g.40gb", 4, 4)]
    for start in (2, 4):
        refused(nvml.NVML_ERROR_INSUFFICIENT_RESOURCES, create, start)


def test_who_uses_a_gpu_keeps_it_as_it_is(host, nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    host.edit(0, process="4242 1048576 python3")

    assert nvml.nvmlDeviceSetMigMode(device, 1) == nvml.NVML_ERROR_IN_USE
    assert (seen()["mig"], seen()["mig_pending"]) == (False, True)
    host.remove(0, "process")
    assert nvml.nvmlDeviceSetMigMode(device, 1) == nvml.NVML_SUCCESS
    made = instance(nvml, device, "1g.10gb")
    assert nvml.nvmlDeviceSetMigMode(device, 0) == nvml.NVML_ERROR_IN_USE
    host.edit(0, process="4242 1048576 python3")
    refused(nvml.NVML_ERROR_IN_USE, nvml.nvmlGpuInstanceDestroy, made)


@pytest.mark.parametrize("persists", [1, 0])
def test_instances_vanish_at_a_restart_and_the_mode_stays_where_the_board_keeps_it(host, nvml, persists):
    """
    As on Ampere, and as on Hopper.
    """
    host.remove(0, "mig_persists")
    host.edit(0, mig_persists=persists)
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    nvml.nvmlDeviceSetMigMode(device, 1)
    instance(nvml, device, "1g.10gb")

    host.restart()

    assert (seen()["mig"], seen()["mig_pending"], divisions()) == (bool(persists), bool(persists), [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_only_root_changes_anything_and_sees_instances(nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    nvml.nvmlDeviceSetMigMode(device, 1)
    os.seteuid(NOBODY)
    try:
        refused(nvml.NVML_ERROR_NO_PERMISSION, nvml.nvmlDeviceSetPowerManagementLimit, device, 300_000)
        instances = seen()["mig_instances"]
    finally:
        os.seteuid(0)

    assert instances == {"unknown": "nvmlDeviceGetGpuInstances: Insufficient Permissions"}
    assert seen()["power_limit_watts"] == 400.0


def _set_many(path: str, index: int) -> None:
    nvml = ctypes.CDLL(path)
    nvml.nvmlInit_v2()
    device = ctypes.c_void_p(index + 1)
    for number in range(200):
        assert nvml.nvmlDeviceSetPersistenceMode(device, number % 2) == 0


def test_two_who_change_it_at_once_lose_nothing(host):
    before = sorted(host.state.read_text().splitlines())
    writers = [get_context("fork").Process(target=_set_many, args=(str(host.library), index)) for index in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert [writer.exitcode for writer in writers] == [0, 0]
    assert sorted(host.state.read_text().splitlines()) == sorted(
        line.replace("persistence=0", "persistence=1") for line in before
    )


# --- what it says of a board


def limits(model: str) -> dict[str, int]:
    lines = dict(line.split("=", 1) for line in state.text("alpha", [model]).splitlines() if "=" in line)
    return {name: int(value) for name, value in lines.items() if name.startswith(("power_limit", "clock"))}


def test_power_and_clocks_are_those_of_the_catalogue(monkeypatch):
    told = {"power_limit": 70_000, "power_limit_default": 70_000, "power_limit_min": 60_000, "power_limit_max": 70_000}

    assert limits("t4") == {f"{name}_mw": value for name, value in told.items()} | {
        "clock_mhz": 1590,
        "clock_max_mhz": 1590,
    }
    changed = GPUS["t4"].model_copy(update={"power_max_watts": 75, "clock_max_mhz": 1600})
    monkeypatch.setattr(state, "GPUS", {"t4": changed})
    assert (limits("t4")["power_limit_max_mw"], limits("t4")["clock_max_mhz"]) == (75_000, 1600)


def test_a_board_of_which_only_one_limit_is_known_tells_none():
    assert GPUS["l4"].power_max_watts and GPUS["l4"].power_min_watts is None
    assert limits("l4") == {}


@pytest.mark.parametrize("model", [name for name, gpu in GPUS.items() if gpu.pci])
def test_what_the_catalogue_has_of_a_board_stands_nowhere_else(model):
    board, gpu = state._boards().get(GPUS[model].pci[0], {}), GPUS[model]

    assert not [name for name in board if getattr(gpu, name, None) is not None and name in type(gpu).model_fields]


# --- how it is made


def test_it_runs_with_an_older_c_library_than_this_computer_has(host):
    """
    A guest's is that of Debian 12.
    """
    needed = {tuple(map(int, version)) for version in re.findall(rb"GLIBC_(\d+)\.(\d+)", host.library.read_bytes())}

    assert needed
    assert max(needed) <= (2, 36)


def test_it_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path))
    made = library.library(print)
    monkeypatch.setenv("PATH", "")

    assert library.library(print) == made
    assert made.name == "libnvidia-ml.so.1"


def test_without_a_compiler_it_says_what_brings_one(tmp_path, monkeypatch):
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SetupError, match="there is no cc on PATH.*Install gcc and libc6-dev"):
        library.library(print)
