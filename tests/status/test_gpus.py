"""Which GPUs somebody should look at, by the thresholds that are declared."""

import copy
import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from rackwright.errors import Diagnostic, HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.schema import Alerts, Fleet, Size
from rackwright.status.gpu_table import summary, table
from rackwright.status.gpus import GpuReport, as_json, build_report, hosts_with_gpus
from tests.support import recorded_facts
from tests.support.json_documents import checked
from tests.support.recorded_hosts import STACK as EXAMPLE

NOW = 1_764_080_000.0
FLEET = {
    "fleet": "example",
    "hosts": {
        name: {
            "address": f"192.0.2.{number}",
            "identity": {"serial": f"CHASSIS-{number}"},
            "os": "debian-12",
            "profile": profile,
        }
        for number, (name, profile) in enumerate((("alpha", "inference-t4"), ("beta", "virtual")), start=1)
    },
}
GONE = HostUnreachable(Diagnostic("alpha", "no answer", "it answers at its address", "Switch it on"))


def stack(**alerts: Any) -> Any:
    fleet = copy.deepcopy(FLEET)
    fleet["hosts"]["alpha"]["alerts"] = alerts  # type: ignore[index]
    return replace(EXAMPLE, name="example", fleet=Fleet.model_validate(fleet))


@pytest.fixture
def raw() -> dict[str, Any]:
    """Eight boards at work, as alpha's profile says, and none over a limit."""
    facts = recorded_facts.gpus()
    board = facts["gpus"][1]
    gpus = [{**copy.deepcopy(board), "index": n, "pci_address": f"0000:{16 + n:02x}:00.0"} for n in range(8)]
    return {"taken_at": NOW, "gpus": gpus, "xids": [], "gpu_assignments": {}}


def seen(raw: Any, **alerts: Any) -> GpuReport:
    return build_report(stack(**alerts), {"alpha": Facts(raw) if isinstance(raw, dict) else raw})


def alerts(found: GpuReport) -> list[tuple[int | None, str]]:
    return [(row.index, alert) for row in found.rows for alert in row.alerts]


def error(pci: str, minutes_ago: float, code: int = 79) -> dict[str, Any]:
    return {"pci": pci, "code": code, "text": "GPU has fallen off the bus.", "at": NOW - minutes_ago * 60}


def test_gpus_that_do_their_work_are_no_alert(raw):
    found = seen(raw)

    assert (alerts(found), found.exit_status) == ([], 0)
    assert [row.index for row in found.rows] == [*range(8)]
    assert found.rows[0].processes == ((4242, "python3"),)


def test_each_gpu_names_the_runs_and_servers_that_have_it(raw):
    for index, board in enumerate(raw["gpus"]):
        board["uuid"] = f"GPU-{index}"
    raw["gpu_assignments"] = {
        "run-digits": {"fleet": "training", "gpus": ["7"], "uuids": ["GPU-2"]},  # moved to another slot since
        "server-talk": {"fleet": "serving", "gpus": ["0", "1"], "uuids": []},
    }
    found = seen(raw)
    assert {row.index: row.assigned_to for row in found.rows if row.assigned_to} == {
        0: ("server-talk",), 1: ("server-talk",), 2: ("run-digits",),
    }  # fmt: skip
    assert as_json(found)["gpus"][2]["assigned_to"] == ["run-digits"]
    raw["gpu_assignments"] = {"unknown": "no permission"}
    assert (seen(raw).exit_status, seen(raw).rows[0].assigned_to) == (3, ())


def test_only_hosts_that_are_declared_with_gpus_are_asked():
    assert hosts_with_gpus(stack()) == ("alpha",)


MIB = 1 << 20


@pytest.mark.parametrize(
    ("name", "at_limit", "over", "alert"),
    [
        ("utilisation_percent", 95, 96, "utilisation 96 % > 95 %"),
        ("memory_used_bytes", 9000 * MIB, 9001 * MIB, "memory 9001 > 9000 MiB"),
        ("temperature_celsius", 85, 86, "temperature 86 °C > 85 °C"),
        ("uncorrected_errors", 0, 1, "uncorrected errors 1 > 0"),
    ],
)
def test_more_than_the_limit_is_an_alert_and_the_limit_is_none(raw, name, at_limit, over, alert):
    """
    The limits are those of somebody who declares none; whoever declares a higher one hears nothing.
    """
    raw["gpus"][3][name] = at_limit
    assert seen(raw).exit_status == 0

    raw["gpus"][3][name] = over

    assert (alerts(seen(raw)), seen(raw).exit_status) == ([(3, alert)], 1)
    higher = {"utilisation_percent": 99, "memory_used": "9100MiB", "temperature_celsius": 90, "uncorrected_errors": 2}
    assert seen(raw, **higher).exit_status == 0


def test_what_a_board_does_not_have_is_over_no_limit(raw):
    for name in ("utilisation_percent", "temperature_celsius", "uncorrected_errors", "power_watts"):
        raw["gpus"][0][name] = None

    assert seen(raw).exit_status == 0


@pytest.mark.parametrize("condition", ["lost", "reset required"])
def test_a_gpu_that_cannot_be_used_is_an_alert_and_nothing_else_is_reported_of_it(raw, condition):
    raw["gpus"][2] = {"index": 2, "condition": condition, "uuid": {"unknown": "GPU is lost"}}

    assert (alerts(seen(raw)), seen(raw).rows[2].unknown) == ([(2, condition)], ())


def test_a_gpu_that_is_not_there_is_an_alert(raw):
    raw["gpus"].pop()

    assert alerts(seen(raw)) == [(None, "7 of 8 GPUs are there")]


def test_an_error_of_the_driver_is_an_alert_of_its_gpu_while_it_is_new(raw):
    raw["xids"] = [error("0000:11:00", 59), error("0000:11:00", 50), error("0000:12:00", 61)]

    assert alerts(seen(raw)) == [(1, "Xid 79: GPU has fallen off the bus.")]
    assert alerts(seen(raw, xid_minutes=0)) == []
    assert len(alerts(seen(raw, xid_minutes=120))) == 2


def test_an_error_of_a_gpu_that_does_not_tell_where_it_sits_is_the_host_s(raw):
    raw["gpus"][1] = {"index": 1, "condition": "lost", "pci_address": {"unknown": "GPU is lost"}}
    raw["xids"] = [error("0000:11:00", 1)]

    assert alerts(seen(raw)) == [(1, "lost"), (None, "0000:11:00: Xid 79: GPU has fallen off the bus.")]


def test_what_is_not_known_is_neither_fine_nor_an_alert(raw):
    raw["gpus"][0]["temperature_celsius"] = {"unknown": "nvmlDeviceGetTemperature: Unknown Error"}
    raw["xids"] = {"unknown": "/dev/kmsg: Permission denied"}
    found = seen(raw)

    assert (alerts(found), found.exit_status) == ([], 3)
    assert "temperature_celsius" not in found.rows[0].figures
    assert found.rows[0].unknown == ("gpus[0].temperature_celsius: nvmlDeviceGetTemperature: Unknown Error",)
    assert [row.unknown for row in found.rows if row.index is None] == [("facts.xids: /dev/kmsg: Permission denied",)]


@pytest.mark.parametrize(
    "raw", [GONE, {"taken_at": NOW, "gpus": {"unknown": "NVML did not answer"}, "xids": []}, {"taken_at": NOW}]
)
def test_a_host_of_which_no_gpu_is_known_is_a_row_of_its_own(raw):
    found = seen(raw)

    assert ([(row.host, row.index) for row in found.rows], found.exit_status) == ([("alpha", None)], 3)


def test_an_alert_outweighs_what_is_unknown(raw):
    raw["gpus"][0]["utilisation_percent"] = 99
    raw["xids"] = {"unknown": "/dev/kmsg: Permission denied"}

    assert seen(raw).exit_status == 1


def test_machines_get_the_same(raw):
    raw["gpus"][0] |= {"utilisation_percent": 99, "power_watts": None}
    report = checked("gpu top", as_json(seen(raw)))

    assert (report["stack"], report["exit_status"], len(report["gpus"])) == ("example", 1, 8)
    first = report["gpus"][0]
    assert (first["host"], first["index"], first["name"], first["power_watts"]) == ("alpha", 0, "NVIDIA T4", None)
    assert (first["alerts"], first["processes"]) == (["utilisation 99 % > 95 %"], [{"pid": 4242, "name": "python3"}])
    [gone] = checked("gpu top", as_json(seen(GONE)))["gpus"]
    assert (gone["index"], gone["not_reached"]) == (None, str(GONE))


def shown(found: GpuReport, width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(table(found), summary(found), sep="\n")
    return captured.get()


def test_people_see_a_row_for_each_gpu(raw):
    raw["gpus"][0] |= {"temperature_celsius": 97, "power_watts": None}
    raw["gpus"][1]["utilisation_percent"] = {"unknown": "[broken]"}
    lines = shown(seen(raw)).splitlines()

    assert len(lines) == 10
    for part in (
        "alpha",
        "NVIDIA T4",
        "0 %",
        "1024 of 15258",
        "97",
        "-/70",
        "4242 python3",
        "temperature 97 °C > 85 °C",
    ):
        assert part in lines[1]
    for part in ("?", "unknown: gpus[1].utilisation_percent: [broken]"):
        assert part in lines[2]
    assert lines[-1] == "example: 8 GPUs, 1 with alerts, 1 partly unknown"


def test_a_terminal_of_80_columns_has_a_readable_alert(raw):
    """
    Columns without a text are left out, and none becomes as narrow as a letter.
    """
    for gpu in raw["gpus"]:
        gpu["processes"] = []
    assert "processes" not in shown(seen(raw)) and "assigned to" not in shown(seen(raw))
    raw["gpus"][0]["temperature_celsius"] = 97

    lines = shown(seen(raw), 80).splitlines()

    assert len(lines) <= 11 and max(map(len, lines)) <= 80
    assert "temperature 97" in lines[1]


def test_people_see_who_was_not_reached():
    assert "not reached: no answer" in shown(seen(GONE))
    assert "example: 0 GPUs, 0 with alerts, not reached: alpha" in shown(seen(GONE))


def test_default_limits_are_those_of_the_guide():
    assert (Alerts().utilisation_percent, Alerts().memory_used) == (95, Size("9000MiB"))
