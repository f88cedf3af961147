"""GPUs of a twin: the settings that NVIDIA's own binding can change, and the errors."""

import ctypes
import os
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import pynvml
import pytest

from rackwright.twin.gpu import state
from tests.support.gpu_stand_in import read_gpu

NOBODY_UID = 65534


def require_error(status: int, call: Callable[..., Any], *arguments: Any) -> None:
    with pytest.raises(pynvml.NVMLError) as error:
        call(*arguments)
    assert error.value.value == status


def test_nvidias_own_binding_reads_the_same_values(host, nvml):
    host.edit(1, process="4242 1048576 python3")
    device = nvml.nvmlDeviceGetHandleByUUID(state.uuid("alpha", 1))
    facts = read_gpu(1)

    assert nvml.nvmlDeviceGetCount() == 2
    assert nvml.nvmlSystemGetDriverVersion() == "535.261.03"
    assert nvml.nvmlDeviceGetIndex(device) == 1
    assert nvml.nvmlDeviceGetName(device) == facts["name"]
    assert nvml.nvmlDeviceGetMemoryInfo(device).total == facts["memory_bytes"]
    assert nvml.nvmlDeviceGetMemoryInfo(device, version=nvml.nvmlMemory_v2).used == facts["memory_used_bytes"]
    assert nvml.nvmlDeviceGetPciInfo(device).busId == "00000000:11:00.0"
    for again in (
        nvml.nvmlDeviceGetHandleByPciBusId("0000:11:00.0"),
        nvml.nvmlDeviceGetHandleBySerial(facts["serial"]),
    ):
        assert nvml.nvmlDeviceGetUUID(again) == facts["uuid"]
    assert nvml.nvmlDeviceGetPowerManagementLimitConstraints(device) == [60000, 70000]
    assert [(process.pid, process.usedGpuMemory) for process in nvml.nvmlDeviceGetComputeRunningProcesses(device)] == [
        (4242, 1048576)
    ]
    require_error(nvml.NVML_ERROR_NOT_FOUND, nvml.nvmlDeviceGetHandleByUUID, "GPU-none")
    require_error(nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.nvmlDeviceGetHandleByIndex, 2)
    require_error(nvml.NVML_ERROR_NOT_SUPPORTED, nvml.nvmlDeviceGetMigMode, device)


def test_a_power_limit_stays_within_the_range_of_the_board(nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)

    nvml.nvmlDeviceSetPowerManagementLimit(device, 300_000)

    assert read_gpu()["power_limit_watts"] == 300.0
    for limit in (99_999, 400_001):
        require_error(nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.nvmlDeviceSetPowerManagementLimit, device, limit)
    assert read_gpu()["power_limit_watts"] == 300.0


def test_a_temperature_target_stays_within_the_range_of_the_board(host, nvml):
    host.edit(0, temperature_target=83, temperature_target_min=65, temperature_target_max=91)
    target = nvml.NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_CURR
    first, second = map(nvml.nvmlDeviceGetHandleByIndex, (0, 1))

    nvml.nvmlDeviceSetTemperatureThreshold(first, target, 70)

    facts = read_gpu()
    assert [facts[f"temperature_target_{end}celsius"] for end in ("", "min_", "max_")] == [70, 65, 91]
    require_error(nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.nvmlDeviceSetTemperatureThreshold, first, target, 92)
    require_error(nvml.NVML_ERROR_NOT_SUPPORTED, nvml.nvmlDeviceSetTemperatureThreshold, second, target, 70)


def test_clocks_stay_within_their_locked_range(nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)

    nvml.nvmlDeviceSetGpuLockedClocks(device, 210, 1200)
    assert read_gpu()["graphics_clock_mhz"] == 1200
    require_error(nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.nvmlDeviceSetGpuLockedClocks, device, 1200, 210)
    nvml.nvmlDeviceResetGpuLockedClocks(device)
    assert read_gpu()["graphics_clock_mhz"] == 1410


def test_ecc_changes_at_the_next_load_of_the_driver(host, nvml):
    nvml.nvmlDeviceSetEccMode(nvml.nvmlDeviceGetHandleByIndex(0), 0)

    assert (read_gpu()["ecc"], read_gpu()["ecc_pending"]) == (True, False)
    host.restart()
    assert (read_gpu()["ecc"], read_gpu()["ecc_pending"], read_gpu()["uncorrected_errors"]) == (False, False, None)


def test_a_restart_resets_volatile_settings(host, nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    fresh = read_gpu()
    nvml.nvmlDeviceSetPersistenceMode(device, 1)
    nvml.nvmlDeviceSetPowerManagementLimit(device, 300_000)
    nvml.nvmlDeviceSetGpuLockedClocks(device, 210, 1200)
    host.remove(0, "temperature_celsius")
    host.edit(0, process="4242 1048576 python3", uncorrected_errors=3, temperature_celsius=93)
    assert read_gpu() != fresh

    host.restart()

    assert read_gpu() == fresh


def instance(nvml: Any, device: Any, profile: str) -> Any:
    number = {"1g.10gb": 0, "2g.20gb": 1, "3g.40gb": 2, "4g.40gb": 3, "7g.80gb": 4}[profile]
    return nvml.nvmlDeviceCreateGpuInstance(device, nvml.nvmlDeviceGetGpuInstanceProfileInfo(device, number).id)


def divisions() -> list[tuple[str, int, int]]:
    return [(part["profile"], part["start"], part["size"]) for part in read_gpu()["mig_instances"]]


def test_a_gpu_is_divided_as_far_as_instances_fit(nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    require_error(nvml.NVML_ERROR_NOT_SUPPORTED, instance, nvml, device, "1g.10gb")
    assert nvml.nvmlDeviceSetMigMode(device, 1) == nvml.NVML_SUCCESS

    first = instance(nvml, device, "3g.40gb")
    instance(nvml, device, "2g.20gb")
    instance(nvml, device, "1g.10gb")

    assert divisions() == [("3g.40gb", 0, 4), ("2g.20gb", 4, 2), ("1g.10gb", 6, 1)]
    assert read_gpu()["utilisation_percent"] is None
    for profile in ("3g.40gb", "1g.10gb", "7g.80gb"):
        require_error(nvml.NVML_ERROR_INSUFFICIENT_RESOURCES, instance, nvml, device, profile)
    nvml.nvmlGpuInstanceDestroy(first)
    assert divisions() == [("2g.20gb", 4, 2), ("1g.10gb", 6, 1)]
    require_error(nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.nvmlGpuInstanceDestroy, first)
    instance(nvml, device, "4g.40gb")
    assert divisions() == [("4g.40gb", 0, 4), ("2g.20gb", 4, 2), ("1g.10gb", 6, 1)]


def test_an_instance_starts_only_where_its_profile_allows(nvml):
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
        require_error(nvml.NVML_ERROR_INSUFFICIENT_RESOURCES, create, start)


def test_a_process_blocks_changes_of_mig(host, nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    host.edit(0, process="4242 1048576 python3")

    assert nvml.nvmlDeviceSetMigMode(device, 1) == nvml.NVML_ERROR_IN_USE
    assert (read_gpu()["mig"], read_gpu()["mig_pending"]) == (False, True)
    host.remove(0, "process")
    assert nvml.nvmlDeviceSetMigMode(device, 1) == nvml.NVML_SUCCESS
    made = instance(nvml, device, "1g.10gb")
    assert nvml.nvmlDeviceSetMigMode(device, 0) == nvml.NVML_ERROR_IN_USE
    host.edit(0, process="4242 1048576 python3")
    require_error(nvml.NVML_ERROR_IN_USE, nvml.nvmlGpuInstanceDestroy, made)


@pytest.mark.parametrize("persists", [1, 0])
def test_a_restart_deletes_instances_and_keeps_mig_only_on_boards_that_do(host, nvml, persists):
    """
    MIG mode survives a restart on Ampere, and not on Hopper.
    """
    host.remove(0, "mig_persists")
    host.edit(0, mig_persists=persists)
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    nvml.nvmlDeviceSetMigMode(device, 1)
    instance(nvml, device, "1g.10gb")

    host.restart()

    assert (read_gpu()["mig"], read_gpu()["mig_pending"], divisions()) == (bool(persists), bool(persists), [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user id")
def test_only_root_changes_settings_and_reads_instances(nvml):
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    nvml.nvmlDeviceSetMigMode(device, 1)
    os.seteuid(NOBODY_UID)
    try:
        require_error(nvml.NVML_ERROR_NO_PERMISSION, nvml.nvmlDeviceSetPowerManagementLimit, device, 300_000)
        instances = read_gpu()["mig_instances"]
    finally:
        os.seteuid(0)

    assert instances == {"unknown": "nvmlDeviceGetGpuInstances: Insufficient Permissions"}
    assert read_gpu()["power_limit_watts"] == 400.0


def _set_many(path: str, index: int) -> None:
    nvml = ctypes.CDLL(path)
    nvml.nvmlInit_v2()
    device = ctypes.c_void_p(index + 1)
    for number in range(200):
        assert nvml.nvmlDeviceSetPersistenceMode(device, number % 2) == 0


def test_concurrent_writers_lose_nothing(host):
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
