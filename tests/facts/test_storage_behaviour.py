"""Filesystems that are frozen, or have no journal or barriers, and devices that keep or refuse what is written."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.audit.undeclared.search import apply
from rackwright.audit.undeclared.table import RULES
from rackwright.facts.facts import Facts
from rackwright.facts.probe import storage_behaviour
from rackwright.facts.probe.observe import ReadError
from tests.support.converged_host import converged, declared, with_more
from tests.support.odd_filesystems import ODD, Machine, Make, lacks_tools, make_usual, mounted, run, states


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    if missing := lacks_tools():
        pytest.skip(f"loop devices need {missing}")
    with mounted(tmp_path) as make:
        yield make


def test_usual_filesystems_and_changes_show_nothing(make: Make) -> None:
    assert states(*make_usual(make).values()) == {}
    assert [path for path in storage_behaviour.waiting_for("") if "test_usual_filesystem" in path] == []


@pytest.mark.parametrize("name", ODD)
def test_a_filesystem_that_may_lose_data_is_found(make: Make, name: str) -> None:
    arguments, found = ODD[name]
    target = make("ext4", **arguments)

    assert states(target) == {str(target): found}


@pytest.mark.parametrize("type", ["ext4", "xfs"])
def test_a_frozen_filesystem_is_found_without_a_wait_and_by_one_process(make: Make, type: str) -> None:
    target, other = make(type), make("ext4")
    run("fsfreeze", "--freeze", target)

    begin = time.monotonic()
    assert states(target, other) == {str(target): ["frozen"]}
    assert states(target, other) == {str(target): ["frozen"]}
    assert time.monotonic() - begin < 30
    assert str(target) in storage_behaviour.waiting_for("")

    run("fsfreeze", "--unfreeze", target)
    until = time.monotonic() + 30
    while str(target) in storage_behaviour.waiting_for("") and time.monotonic() < until:
        time.sleep(0.05)
    assert states(target, other) == {}


def test_a_device_that_became_read_only_below_its_filesystem_is_found(make: Make) -> None:
    target = make("ext4")
    loop = run("findmnt", "--noheadings", "--output", "SOURCE", target)
    run("blockdev", "--setro", loop)
    try:
        assert states(target) == {str(target): [f"{Path(loop).name} is read-only"]}
    finally:
        run("blockdev", "--setrw", loop)


def device(root: Path, name: str, **files: str) -> dict[str, Any]:
    """Return what is read of a device whose files of sysfs are *files*, with ``__`` for a slash."""
    for path, text in {"ro": "0", "queue__write_cache": "write back", **files}.items():
        place = root / "sys/class/block" / name / path.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")
    is_array = name.startswith("md")
    machine = Machine(str(root), () if is_array else (name,), (name,) if is_array else ())
    found: dict[str, Any] = storage_behaviour.device_states(machine)  # type: ignore[arg-type]
    return found


THROUGH = {"queue__write_cache": "write through"}
ARRAY = {"md__array_state": "clean", "md__sync_action": "idle"}
DEVICES: dict[str, tuple[str, dict[str, str], list[str]]] = {
    "a usual drive": ("sda", {"device__scsi_disk__0:0:0:0__cache_type": "write back"}, []),
    "a drive without a cache": ("sda", {**THROUGH, "device__scsi_disk__0:0:0:0__cache_type": "write through"}, []),
    "a usual array": ("md127", ARRAY, []),
    "an array at work": ("md127", {**ARRAY, "md__sync_action": "recover", "md__sync_speed_max": "200000 (system)"}, []),
    "a virtual drive whose cache is off": ("vda", {**THROUGH, "device__features": "0" * 9 + "101" + "0" * 52}, []),
    "a read-only drive": ("sda", {"ro": "1"}, ["read-only"]),
    "a disc": ("sr0", {"ro": "1"}, []),
    "a drive that left": ("sda", {"device__state": "offline"}, ["its device is offline"]),
    "a drive that is held": ("sda", {"device__state": "quiesce"}, ["its device is quiesce"]),
    "a drive that fails on purpose": ("sda", {"make-it-fail": "1"}, ["it fails on purpose"]),
    "a drive that is not asked": (
        "sda",
        {**THROUGH, "device__scsi_disk__0:0:0:0__cache_type": "write back, no read (daft)"},
        ["the kernel does not ask it to write its cache, and it has one"],
    ),
    "a virtual drive that is not asked": (
        "vda",
        {**THROUGH, "device__features": "0" * 9 + "100" + "0" * 52},
        ["the kernel does not ask it to write its cache, and it has one"],
    ),
    "an array that is not asked": (
        "md127",
        {**ARRAY, **THROUGH},
        ["the kernel does not ask it to write its cache, and it has one"],
    ),
    "an array that takes nothing": ("md127", {**ARRAY, "md__array_state": "readonly"}, ["the array takes no writes"]),
    "an array that mends nothing": (
        "md127",
        {**ARRAY, "md__sync_action": "frozen"},
        ["the array mends nothing (frozen)"],
    ),
    "an array that waits": (
        "md127",
        {**ARRAY, "md__suspend_lo": "0", "md__suspend_hi": "4096"},
        ["a part of the array makes each access wait"],
    ),
    "an array that is slow": (
        "md127",
        {**ARRAY, "md__sync_speed_max": "10 (local)"},
        ["at most 10 KiB/s for a rebuild"],
    ),
}


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_that_does_something_else_is_found(tmp_path: Path, name: str) -> None:
    kernel_name, files, found = DEVICES[name]

    assert device(tmp_path, kernel_name, **files) == ({kernel_name: found} if found else {})


def test_a_drive_of_nvme_is_asked_about_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"/dev/nvme0n1": True}
    monkeypatch.setattr(storage_behaviour, "has_volatile_cache", lambda path: answers[path[-12:]])
    assert [*device(tmp_path, "nvme0n1", **THROUGH)] == ["nvme0n1"]

    answers["/dev/nvme0n1"] = False
    assert device(tmp_path, "nvme0n1", **THROUGH) == {}


def found(raw: dict[str, Any], *things: str) -> list[str]:
    declaration = with_more(declared(), *things) if things else declared()
    return [
        f"{id} {each.thing}: {each.found}"
        for id in ("RW-150", "RW-151")
        for each, _ in apply(RULES[id], Facts(raw), declaration)
    ]


def test_another_filesystem_below_a_tier_is_found_but_those_of_containers() -> None:
    below: dict[str, Any] = {"target": "/data/sets", "device": None, "type": "tmpfs", "options": []}
    raw = {**converged(), "mounts": [*converged()["mounts"], below, {**below, "target": "/database"}]}

    assert found(raw) == []
    assert found(raw, "mount:/data") == ["RW-150 mount:/data/sets: tmpfs on no drive, below /data"]
    raw["packages"]["podman"] = "4.3.1"
    assert found(raw, "mount:/data") == []
    raw["mounts"][-2] = {**below, "type": "xfs", "device": "sdb1"}
    assert found(raw, "mount:/data") == ["RW-150 mount:/data/sets: xfs on sdb1, below /data"]


def test_a_declared_option_is_none_that_is_found() -> None:
    raw = {**converged(), "filesystem_states": {"/data": ["nobarrier", "frozen"]}}
    wants = {**declared().wants, "mount:/data": {"options": ("noatime", "nobarrier")}}
    [(finding, _)] = apply(RULES["RW-150"], Facts(raw), declared(**{"mount:/data": wants["mount:/data"]}))

    assert finding.found == "frozen"


@pytest.mark.parametrize(("enabled", "active", "is_found"), [
    ("static", "active", False), ("static", "inactive", True), ("masked", "inactive", True),
    ("masked-runtime", "active", True), ("static", "failed", True),
])  # fmt: skip
def test_the_monitor_runs_where_an_array_does(enabled: str, active: str, is_found: bool) -> None:
    raw = converged()
    raw["units"]["mdmonitor.service"] = {"load": "loaded", "active": active, "enabled": enabled}
    assert found(raw) == []

    raw["arrays"] = [{"name": "md127", "array_state": "clean", "md_name": "a:b", "uuid": "1"}]
    assert bool(found(raw)) == is_found


def test_a_read_only_device_counts_where_data_is() -> None:
    raw = {**converged(), "device_states": {"sda1": ["read-only"], "sdaa": ["read-only"], "sdx": ["read-only"]}}

    assert found(raw) == ["RW-151 device:sda1: read-only"]


def test_a_slow_limit_of_all_rebuilds_is_found() -> None:
    assert found({**converged(), "rebuild_speed_kib": 1000})
    assert found({**converged(), "rebuild_speed_kib": None}) == []


MASKS = (
    "/etc/udev/rules.d/64-md-raid-assembly.rules",
    "/run/udev/rules.d/63-md-raid-arrays.rules",
    "/etc/systemd/system/mdmonitor.service",
    "/run/systemd/system/mdmonitor.service",
    "/etc/udev/rules.d/60-persistent-storage.rules",
)


@pytest.mark.parametrize("path", MASKS)
def test_a_packaged_rule_or_monitor_that_a_link_switches_off_is_found(path: str) -> None:
    raw = converged()
    raw["integrity"]["files"][path] = {
        "digest": "-> /dev/null",
        "mode": "0777",
        "owner": "root:root",
        "state": "unpackaged",
    }

    assert [(each.thing, unknown) for each, unknown in apply(RULES["RW-080"], Facts(raw), declared())] == [
        (f"file:{path}", False)
    ]


def test_a_slow_drive_is_not_frozen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def slowly(root: str, targets: list[str], write_end: int) -> None:
        time.sleep(0.3)
        os.write(write_end, b"." * len(targets))

    monkeypatch.setattr(storage_behaviour, "ask_in_child", slowly)
    monkeypatch.setattr(storage_behaviour, "FREEZE_SECONDS", 0.05)
    assert storage_behaviour.ask_all("", ["/a", "/b"]) == (2, "")

    monkeypatch.setattr(storage_behaviour, "SLOWEST_SECONDS", 0.1)
    assert storage_behaviour.ask_all("", ["/a"]) == (0, "no answer within 0.1 s")


def test_a_process_that_ends_early_leaves_all_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_behaviour, "ask_in_child", lambda *arguments: None)

    with pytest.raises(ReadError, match="has ended"):
        storage_behaviour.ask_all("", ["/a"])
