"""Results of measurements: compared with their floors, and reported with their details."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.hosts.transport import CommandResult
from rackwright.qualify import floor, gpus, health
from rackwright.qualify.gpus import Gpus
from rackwright.qualify.item import Figure, Item, MeasurementFailed, QualificationReport, make_item
from rackwright.schema import catalogue
from rackwright.schema.host import Host
from tests.qualify import recordings
from tests.support import recorded_facts
from tests.support.json_documents import checked

TOOLS = {name: f"/usr/bin/{name}" for name in ("dcgmi", "nvbandwidth", "all_reduce_perf", "nvidia-smi")}
A100, H100, T4 = "10de:20b2", "10de:2330", "10de:1eb8"


def raw(pci: str, count: int) -> dict[str, Any]:
    """Return facts of so many boards, all well and idle."""
    facts: dict[str, Any] = recorded_facts.gpus()
    boards = []
    for number in range(count):
        board = copy.deepcopy(facts["gpus"][0])
        board |= {"index": number, "pci_id": pci, "uuid": f"GPU-{number}", "processes": [], "uncorrected_errors": 0}
        boards.append(board | {"condition": "working", "temperature_celsius": 60, "memory_bytes": 80 * 10**9})
    return {**facts, "taken_at": 1000.0, "gpus": boards, "xids": []}


class FakeBench:
    """A host on which every program prints the text of the test."""

    host = "alpha"

    def __init__(self, printed: Mapping[str, str], readings: Sequence[dict[str, Any]] = ()) -> None:
        self.printed, self.ran = printed, []
        self.hosts = self
        self._readings = [*readings]

    def run(self, what: str, argv: Sequence[str], seconds: float, environment: Any = None) -> CommandResult:
        self.ran.append((argv, dict(environment or {})))
        return CommandResult(0, next(text for name, text in self.printed.items() if name in argv).encode(), "")

    def gpus(self, host: str) -> Facts:
        return Facts(self._readings.pop(0) if len(self._readings) > 1 else self._readings[0])


def at_work(profile: str, pci: str, count: int, printed: Mapping[str, str], **more: Any) -> Gpus:
    host = Host.model_validate(
        {"address": "192.0.2.1", "identity": {"serial": "C1"}, "os": "ubuntu-24.04", "profile": profile}
    )
    bench: Any = FakeBench(printed, more.pop("readings", ()))
    return Gpus(bench, host, Facts(raw(pci, count)), more.pop("tools", TOOLS))


def floors(item: Item) -> list[tuple[float, float | None]]:
    return [(figure.value, figure.floor) for figure in item.figures]


# --- which there are


def test_as_many_as_the_profile_says_have_to_work():
    site = at_work("inference-t4", T4, 8, {})
    facts = raw(T4, 8)
    assert gpus.presence_item(site.declared, Facts(facts)).state == "ok"

    facts["gpus"][2] = {"index": 2, "condition": "lost"}
    del facts["gpus"][7]
    found = gpus.presence_item(site.declared, Facts(facts))

    assert (found.state, found.details.split("; ")[:2]) == ("short", ["GPU 2: lost", "7 of 8 GPUs are there"])


# --- memory and copies


def test_memory_is_judged_by_dcgm_which_is_given_the_catalogues_floor():
    fine = at_work("training-h100", H100, 8, {"memory_bandwidth": recordings.dcgm(("memory_bandwidth", "Pass", ""))})
    slow = at_work(
        "training-h100", H100, 8, {"memory_bandwidth": recordings.dcgm(("memory_bandwidth", "Fail", recordings.SLOW))}
    )
    bench: Any = fine.bench

    item = fine.measure(gpus.MEMORY)

    assert item.state == "ok"
    assert item.details.startswith("each at least 1905 GB/s [DCGM 4.6.0, nvvs/diag-skus.yaml.in")
    assert "memory_bandwidth.minimum_bandwidth=1905000" in bench.ran[0][0]
    assert slow.measure(gpus.MEMORY).state == "short"
    assert recordings.SLOW in slow.measure(gpus.MEMORY).details


def test_a_board_without_a_floor_for_its_memory_has_dcgms_own():
    printed = {"memory_bandwidth": recordings.dcgm(("memory_bandwidth", "Pass", ""))}
    site = at_work("inference-h200", "10de:2335", 8, printed)
    bench: Any = site.bench

    assert site.measure(gpus.MEMORY).details.startswith("against DCGM's own floor")
    assert "--parameters" not in bench.ran[0][0]


def test_what_dcgm_leaves_out_is_not_known():
    left = at_work(
        "training-h100", H100, 1, {"memory_bandwidth": recordings.dcgm(("memory_bandwidth", "Skip", ""), gpus=1)}
    )

    with pytest.raises(UnknownFact, match="DCGM skipped memory_bandwidth"):
        left.measure(gpus.MEMORY)


def copies(to_gpu: str, from_gpu: str) -> str:
    return recordings.nvbandwidth(("host_to_device_memcpy_ce", [[to_gpu]]), ("device_to_host_memcpy_ce", [[from_gpu]]))


@pytest.mark.parametrize(
    ("to_gpu", "from_gpu", "state"), [("54.2", "55.1", "ok"), ("54.2", "47.9", "short"), ("48", "48", "ok")]
)
def test_copies_to_and_from_the_host_have_a_floor_each(to_gpu, from_gpu, state):
    item = at_work("training-h100", H100, 8, {TOOLS["nvbandwidth"]: copies(to_gpu, from_gpu)}).measure(gpus.HOST_COPY)

    assert item.state == state
    assert floors(item) == [(float(to_gpu), 48), (float(from_gpu), 48)]
    assert "nd96isr_h100_v5.conf" in item.figures[0].source


def test_a_measurement_without_a_declared_minimum_is_not_ok():
    item = at_work("inference-t4", T4, 8, {TOOLS["nvbandwidth"]: copies("1", "1")}).measure(gpus.HOST_COPY)

    assert (item.state, floors(item)) == ("measured", [(1, None), (1, None)])


def test_a_floor_for_gpus_behind_nvswitch_is_none_for_others():
    printed = {TOOLS["nvbandwidth"]: recordings.nvbandwidth(("device_to_device_memcpy_read_ce", [["N/A", "90.5"]]))}

    assert at_work("training-h100", H100, 8, printed).measure(gpus.PEER_COPY).state == "short"
    assert at_work("training-a100", A100, 4, printed).measure(gpus.PEER_COPY).state == "measured"


def test_a_test_that_was_not_reported_is_no_result():
    with pytest.raises(MeasurementFailed, match="printed no result of device_to_host_memcpy_ce"):
        at_work(
            "training-h100",
            H100,
            8,
            {TOOLS["nvbandwidth"]: recordings.nvbandwidth(("host_to_device_memcpy_ce", [["50"]]))},
        ).measure(gpus.HOST_COPY)


# --- all-reduce


def reduced(profile: str, pci: str, count: int, ways: str, average: float, topology: str = recordings.APART) -> Item:
    printed = {TOOLS["all_reduce_perf"]: recordings.all_reduce(ways, average), TOOLS["nvidia-smi"]: topology}
    return at_work(profile, pci, count, printed).measure(gpus.ALL_REDUCE)


def test_an_all_reduce_has_a_floor_and_a_way():
    assert reduced("training-h100", H100, 8, recordings.NVLINK, 470.0).state == "ok"
    slow = reduced("training-h100", H100, 8, recordings.NVLINK, 459.9)

    assert (slow.state, slow.details) == ("short", "bus bandwidth is below 460 GB/s; over NVLink")


def test_an_all_reduce_that_took_a_slower_way_is_short_however_fast_it_was():
    item = reduced("training-h100", H100, 8, recordings.FALLEN_BACK, 500.0)

    assert (item.state, item.details) == ("short", "went over TCP, not over NVLink alone")


def test_where_the_host_has_links_they_have_to_be_used():
    linked = reduced("training-a100", A100, 4, recordings.PEERS_OVER_PCIE, 20.0, recordings.SWITCHED)
    apart = reduced("training-a40", "10de:2235", 2, recordings.PEERS_OVER_PCIE, 20.0)

    assert (linked.state, linked.details) == ("short", "went over PCIe, not over NVLink alone")
    assert (apart.state, apart.details) == ("measured", "over PCIe")


@pytest.mark.parametrize(("memory", "size"), [(80 * 10**9, "16G"), (40 * 10**9, "8G"), (16 * 10**9, "1G")])
def test_as_much_is_reduced_as_has_room(memory, size):
    printed = {TOOLS["all_reduce_perf"]: recordings.all_reduce(recordings.NVLINK)}
    site = at_work("training-h100", H100, 8, printed)
    bench: Any = site.bench
    for gpu in site.before.raw["gpus"][1:]:
        gpu["memory_bytes"] = memory

    site.measure(gpus.ALL_REDUCE)

    assert bench.ran[0][0] == (TOOLS["all_reduce_perf"], "-b", size, "-e", size, "-g", "8", "-c", "1")


def test_a_floor_for_eight_is_none_for_fewer():
    assert reduced("training-h100", H100, 4, recordings.NVLINK, 300.0).figures[0].floor is None


@pytest.mark.parametrize(
    ("ways", "state", "expected"),
    [
        (recordings.RDMA, "measured", "over RDMA"),
        (recordings.FALLEN_BACK, "short", "went over TCP, not over RDMA alone"),
    ],
)
def test_through_the_network_it_goes_by_rdma_or_is_short(ways, state, expected):
    site = at_work("training-h100", H100, 8, {TOOLS["all_reduce_perf"]: recordings.all_reduce(ways, 21.0)})
    bench: Any = site.bench

    item = site.measure(gpus.NETWORK)

    assert (item.state, item.details) == (state, expected)
    assert bench.ran[0][1] == {
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_SUBSYS": "INIT,GRAPH,NET,P2P,SHM",
        "NCCL_P2P_DISABLE": "1",
        "NCCL_SHM_DISABLE": "1",
    }


# --- burn-in


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    facts = raw(H100, 2)
    change(facts)
    return facts


def problems(during: dict[str, Any] | None = None, after: dict[str, Any] | None = None) -> tuple[str, ...]:
    well = raw(H100, 2)
    return health.problems(Facts(raw(H100, 2)), [Facts(during or well)], Facts(after or well), 85)


def test_gpus_that_bear_it_have_no_problems():
    hot = changed(lambda facts: facts["gpus"][1].update(temperature_celsius=85))

    assert problems(during=hot) == ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda facts: facts["gpus"][1].update(uncorrected_errors=2), "GPU 1: 2 uncorrected memory errors"),
        (lambda facts: facts["gpus"][0].update(condition="lost"), "GPU 0: lost"),
        (lambda facts: facts["gpus"].pop(), "1 of 2 GPUs are gone"),
        (
            lambda facts: facts["xids"].append({"pci": "0000:10:00", "code": 79, "text": "off the bus", "at": 1001.0}),
            "0000:10:00: Xid 79: off the bus",
        ),
    ],
)
def test_what_a_load_brings_to_light_is_reported(change, problem):
    assert problems(after=changed(change)) == (problem,)


def test_errors_from_before_are_not_the_loads():
    old = {"pci": "0000:10:00", "code": 79, "text": "off the bus", "at": 999.0}

    assert problems(after=changed(lambda facts: facts["xids"].append(old))) == ()


def test_heat_is_reported_once_even_where_it_lasted():
    hot = changed(lambda facts: facts["gpus"][1].update(temperature_celsius=86))

    assert problems(during=hot, after=hot) == ("GPU 1 was hotter than 85 °C",)


def test_what_was_not_read_is_not_known_to_be_well():
    blind = changed(lambda facts: facts.update(xids={"unknown": "no permission"}))

    with pytest.raises(UnknownFact, match="no permission"):
        problems(after=blind)


def test_a_load_is_reported_by_its_extremes():
    readings = [raw(H100, 2), raw(H100, 2)]
    readings[0]["gpus"][0]["power_watts"] = 690.5
    readings[1]["gpus"][1]["temperature_celsius"] = 82

    content = {figure.name: figure.value for figure in health.figures([Facts(one) for one in readings])}

    assert (content["hottest"], content["most power"]) == (82.0, 690.5)
    with pytest.raises(UnknownFact, match="no GPU was read"):
        health.figures([])


@pytest.mark.parametrize(("status", "state"), [("Pass", "ok"), ("Fail", "short")])
def test_a_burn_in_has_dcgms_verdict_and_the_readings_during_it(monkeypatch, status, state):
    monkeypatch.setattr(gpus, "wait", _twice())
    printed = {"targeted_power": recordings.dcgm(("targeted_power", status, ""))}
    item = at_work("training-h100", H100, 2, printed, readings=[raw(H100, 2)]).measure(gpus.BURN_IN)

    assert item.state == state
    assert {figure.name for figure in item.figures} == {"hottest", "most power", "slowest clock"}


def test_an_error_under_load_makes_it_short_whatever_dcgm_says(monkeypatch):
    monkeypatch.setattr(gpus, "wait", _twice())
    bad = changed(lambda facts: facts["gpus"][0].update(uncorrected_errors=1))
    printed = {"targeted_power": recordings.dcgm(("targeted_power", "Pass", ""))}
    item = at_work("training-h100", H100, 2, printed, readings=[raw(H100, 2), bad]).measure(gpus.BURN_IN)

    assert item.state == "short"
    assert item.details.startswith("GPU 0: 1 uncorrected memory errors")


def burnt(text: str, after: dict[str, Any]) -> Item:
    return gpus.burn_in_item(gpus.BURN_IN, text, Facts(raw(H100, 2)), [Facts(raw(H100, 2))], Facts(after), 85)


def test_what_is_wrong_comes_before_what_is_not_known():
    blind = changed(lambda facts: facts.update(xids={"unknown": "no permission"}))
    gone = changed(lambda facts: facts["gpus"].pop())
    passed, failed = (recordings.dcgm(("targeted_power", status, "")) for status in ("Pass", "Fail"))

    assert burnt(failed, blind).state == "short"
    assert burnt(recordings.NO_ENGINE, gone).details.startswith("1 of 2 GPUs are gone; dcgmi printed no result")
    with pytest.raises(UnknownFact, match="no permission"):
        burnt(passed, blind)
    with pytest.raises(UnknownFact, match="DCGM skipped targeted_power"):
        burnt(recordings.dcgm(("targeted_power", "Skip", ""), gpus=1), raw(H100, 2))
    with pytest.raises(MeasurementFailed, match="printed no result"):
        burnt(recordings.NO_ENGINE, raw(H100, 2))


def _twice() -> Callable[..., Any]:
    """Return a wait after which one reading is made, and then one for the end."""
    from concurrent.futures import wait

    asked = iter([[]])
    return lambda running, seconds: wait(next(asked, running))


# --- what is not there


def test_a_tool_that_is_not_there_is_named_with_who_brings_it():
    with pytest.raises(UnknownFact, match="nvbandwidth is not installed: role dcgm installs it"):
        at_work("training-h100", H100, 8, {}, tools={}).measure(gpus.HOST_COPY)
    with pytest.raises(UnknownFact, match="nvidia-smi is not installed: role nvidia_driver installs it"):
        at_work("training-a100", A100, 4, {"x": ""}, tools={})._has_nvlink()


def test_accelerators_of_others_are_not_measured_and_what_would_is_named():
    host = Host.model_validate(
        {"address": "192.0.2.1", "identity": {"serial": "C1"}, "os": "ubuntu-24.04", "profile": "training-mi300x"}
    )

    assert gpus.reason_not_measured(host).endswith("these boards have rocm-bandwidth-test, rccl-tests and rvs")
    assert gpus.item_names(host) == (
        gpus.PRESENCE, gpus.MEMORY, gpus.HOST_COPY, gpus.PEER_COPY, gpus.ALL_REDUCE, gpus.BURN_IN, gpus.DIAGNOSIS,
    )  # fmt: skip


# --- floors and states


def test_an_unverified_floor_is_reported_and_judges_nothing(monkeypatch):
    row = catalogue.GPUS["h100-sxm"]
    sources = {
        id: tuple(value for value in values if value != "floor_host_copy_gb_per_s")
        for id, values in row.sources.items()
    }
    doubted = row.model_copy(update={"sources": {**sources, "unverified": ("floor_host_copy_gb_per_s",)}})
    monkeypatch.setattr(floor, "_BY_PCI", {H100: doubted})

    item = at_work("training-h100", H100, 8, {TOOLS["nvbandwidth"]: copies("1", "1")}).measure(gpus.HOST_COPY)

    assert (item.state, floors(item)) == ("measured", [(1, 48), (1, 48)])


def test_of_different_boards_the_least_floor_counts_and_one_without_leaves_none():
    facts = raw(H100, 2)
    facts["gpus"][1]["pci_id"] = A100
    assert floor.gpu_floor(Facts(facts).gpus, "floor_host_copy_gb_per_s").value == 21

    facts["gpus"][1]["pci_id"] = "10de:ffff"

    assert floor.gpu_floor(Facts(facts).gpus, "floor_host_copy_gb_per_s").value is None


@pytest.mark.parametrize("name", [name for name, gpu in catalogue.GPUS.items() if not gpu.pci])
def test_what_is_no_pci_board_has_no_floor(name):
    assert not [value for value in catalogue.GPUS[name].values if value.startswith("floor_")]


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (("ok", "measured", "not rehearsable"), 0),
        (("ok", "not possible"), 3),
        (("not possible", "failed"), 4),
        (("failed", "short", "not possible"), 1),
    ],
)
def test_the_exit_status_is_that_of_the_worst(states, status):
    report = QualificationReport("lab", "alpha", tuple(Item("x", state) for state in states))

    assert report.exit_status == status
    assert checked("host qualify", report.as_json())["exit_status"] == status


def test_what_cannot_be_rehearsed_is_counted_apart():
    report = QualificationReport(
        "lab", "alpha", (Item("a", "ok"), Item("b", "not rehearsable"), Item("c", "not rehearsable"))
    )

    assert report.counts == {"ok": 1, "not rehearsable": 2}


def test_a_figure_without_a_floor_is_short_of_nothing():
    assert make_item("x", [Figure("a", 0.0, "GB/s")]).state == "measured"
    assert make_item("x", [Figure("a", 1.0, "GB/s", 1.0, "somebody")]).state == "ok"
    assert make_item("x", [Figure("a", 0.9, "GB/s", 1.0, "somebody")]).state == "short"
