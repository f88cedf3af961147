"""GPUs of a twin: what the stand-in for NVIDIA's library says and refuses, to the probe and to NVIDIA's own binding."""

import ctypes
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from rackwright.errors import SetupError
from rackwright.facts.facts import Facts
from rackwright.facts.probe import gpus
from rackwright.facts.probe.observe import ReadError
from rackwright.schema.catalogue import GPUS
from rackwright.twin.gpu import library, state
from tests.support.gpu_stand_in import DEBIAN, MARKER, MODELS, NVIDIA, Host, seen

# --- what the probe sees


def test_the_probe_sees_the_gpus_that_the_fleet_declares(host):
    first, second = Facts({"gpus": gpus.read_nvml()["gpus"]}).gpus

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

    assert gpus.read_nvml()["driver"] == {
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

    with pytest.raises(ReadError, match="^nvmlInit_v2: Driver Not Loaded$"):
        gpus.read_nvml()


def test_a_driver_that_was_replaced_while_it_is_loaded_works_after_a_restart(host):
    host.install("550.163.01")

    with pytest.raises(ReadError, match="^nvmlInit_v2: Driver/library version mismatch$"):
        gpus.read_nvml()
    host.restart()
    assert gpus.read_nvml()["driver"]["version"] == "550.163.01"


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
    assert set().union(*ASKED_BY.values()) == gpus.QUERIES.keys()


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

    with pytest.raises(ReadError, match="^NVML: no answer within 0.2 s$"):
        gpus.read_nvml()


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

    found = gpus.read_nvml()
    saved = snapshot.save(tmp_path, "alpha", Facts({"format": 1, "gpus": found["gpus"], "gpu_driver": found["driver"]}))

    assert json.loads(saved.read_text())["gpus"] == found["gpus"]


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
    made = library.ensure(print)
    monkeypatch.setenv("PATH", "")

    assert library.ensure(print) == made
    assert made.name == "libnvidia-ml.so.1"


def test_without_a_compiler_it_says_what_brings_one(tmp_path, monkeypatch):
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SetupError, match="there is no cc on PATH.*Install gcc and libc6-dev"):
        library.ensure(print)
