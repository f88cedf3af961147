"""Processes of services on a real systemd: differences from their units are read, and what systemd does is none."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rackwright.facts.probe import control_groups, service_processes
from rackwright.facts.probe.observe import ReadError
from tests.support.changed_services import SERVICES, SILENT, read_all, unit
from tests.support.systemd_machine import SystemdMachine, lacks


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    if missing := lacks():
        pytest.skip(f"a real systemd needs {missing}")
    with SystemdMachine(tmp_path_factory.mktemp("services")) as machine:
        yield read_all(machine)


@pytest.mark.parametrize("name", SERVICES)
def test_a_process_that_differs_from_its_unit_is_found(answer: dict[str, Any], name: str) -> None:
    [found] = answer["service_processes"][unit(name)]

    assert SERVICES[name][2] in found


@pytest.mark.parametrize("name", SILENT)
def test_what_systemd_does_for_a_unit_is_not_found(answer: dict[str, Any], name: str) -> None:
    assert unit(name) not in answer["service_processes"]


def test_nothing_is_found_at_the_other_services(answer: dict[str, Any]) -> None:
    assert {*answer["service_processes"]} == {unit(name) for name in SERVICES}


def test_a_frozen_service_and_the_environment_of_all_are_found(answer: dict[str, Any]) -> None:
    assert answer["group_limits"] == {f"/system.slice/{unit('raises')}": ["frozen"]}
    assert answer["manager_environment"] == ["EVIL", "LD_PRELOAD"]


def test_the_remedies_of_the_rules_end_their_findings(answer: dict[str, Any]) -> None:
    assert answer["mended"] == {"service_processes": {}, "group_limits": {}, "manager_environment": []}


BASE: Any = None
"""Rights and the root directory of a process are compared with its unit alone."""
UNIT = {"MemoryMax": ["infinity"], "MemoryHigh": ["infinity"], "TasksMax": ["100"], "CPUQuotaPerSecUSec": ["infinity"]}


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("cgroup.events", "populated 1\nfrozen 1\n", "frozen"),
        ("memory.max", "4194304\n", "memory.max is 4194304, and infinity in the unit"),
        ("memory.high", "4194304\n", "memory.high is 4194304, and infinity in the unit"),
        ("pids.max", "7\n", "pids.max is 7, and 100 in the unit"),
        ("cpu.max", "1000 100000\n", "cpu.max is 1000 100000, and the unit has no limit"),
        ("io.max", "8:0 rbps=1024 wbps=max riops=max wiops=max\n", "io.max is 8:0 rbps=1024"),
        ("io.latency", "8:0 target=10\n", "io.latency is 8:0 target=10"),
    ],
)
def test_a_limit_that_no_unit_has_is_found(tmp_path: Path, file: str, text: str, found: str) -> None:
    quiet = {
        "cgroup.events": "populated 1\nfrozen 0\n",
        "memory.max": "max\n",
        "pids.max": "100\n",
        "cpu.max": "max 100000\n",
    }
    for name, content in {**quiet, "io.max": "", "io.latency": ""}.items():
        (tmp_path / name).write_text(content)
    assert [*control_groups.group_differences(str(tmp_path), UNIT)] == []

    (tmp_path / file).write_text(text)

    [difference] = control_groups.group_differences(str(tmp_path), UNIT)
    assert difference.startswith(found)


def test_a_declared_limit_is_none_that_is_found(tmp_path: Path) -> None:
    declared = {"MemoryMax": ["5000000"], "CPUQuotaPerSecUSec": ["500ms"], "IOReadBandwidthMax": ["/dev/sda 1024"]}
    for name, content in {"memory.max": "4997120", "cpu.max": "50000 100000", "io.max": "8:0 rbps=1024"}.items():
        (tmp_path / name).write_text(content)

    assert [*control_groups.group_differences(str(tmp_path), declared)] == []


@pytest.mark.parametrize(
    ("name", "program", "found"),
    [
        ("(registry)", "/usr/lib/systemd/systemd", []),
        ("(registry)", "/usr/lib/systemd/systemd-executor", []),
        ("(registry)", "/usr/local/bin/registry", ["LD_PRELOAD"]),
        ("systemd", "/usr/lib/systemd/systemd", ["LD_PRELOAD"]),
        (None, None, []),
    ],
)
def test_a_process_that_systemd_still_sets_up_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, program: str | None, found: list[str]
) -> None:
    """
    On a busy host that takes seconds, in which the process has neither the unit's environment nor its mounts.
    """
    for part in ("limits", "rights", "root_directory", "namespaces", "mounts"):
        monkeypatch.setattr(service_processes, part, lambda *given: ())
    monkeypatch.setattr(service_processes, "environment", lambda *given: ["LD_PRELOAD"])
    for pid, exe in ((1, "/usr/lib/systemd/systemd"), (7, program)):
        if exe:
            (tmp_path / f"proc/{pid}").mkdir(parents=True)
            (tmp_path / f"proc/{pid}/exe").symlink_to(exe)
            (tmp_path / f"proc/{pid}/status").write_text(f"Name:\t{name}\n")

    assert service_processes.differences(str(tmp_path), {"MainPID": ["7"]}, BASE, [9]) == found


def test_more_processes_than_the_limit_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_processes, "processes_in", lambda root, group: range(1, 10))
    monkeypatch.setattr(service_processes, "status_of", lambda root, pid: {"State": "S (sleeping)"})

    with pytest.raises(ReadError, match="more than"):
        [*service_processes.states("", "/x", [5])]


@pytest.mark.parametrize(
    ("main", "control", "path", "found"),
    [
        (7, 0, "registry.service", ["no process of the service started nc"]),
        (7, 12, "registry.service", []),
        (7, 0, "training-x.service", []),
        (7, 0, "x.service", []),
    ],
)
def test_a_process_that_was_moved_into_a_service_of_ours_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: int, control: int, path: str, found: list[str]
) -> None:
    """
    Children and their children belong to the service, and so does a command that systemd runs beside it.
    """
    monkeypatch.setattr(service_processes, "AGAIN_SECONDS", 0)
    processes = {7: ("registry", 1), 8: ("worker", 7), 9: ("helper", 8), 12: ("nc", 1), 13: ("sh", 12)}
    group = tmp_path / "sys/fs/cgroup/system.slice/x.service"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("\n".join(map(str, (7, 8, 9, 12, 14))))  # 14 has just ended
    for pid, (name, parent) in processes.items():
        (tmp_path / f"proc/{pid}").mkdir(parents=True)
        text = f"Name:\t{name}\nState:\tS (sleeping)\nPPid:\t{parent}\n"
        (tmp_path / f"proc/{pid}/status").write_text(text)
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for name in ("registry.service", "training-x.service"):
        (units / name).write_text("# alpha/x: written by rackwright, and put back when it is changed.\n")
    (units / "x.service").write_text("[Unit]\n")
    values = {"MainPID": [str(main)], "ControlPID": [str(control)], "ControlGroup": ["/system.slice/x.service"]}
    values["FragmentPath"] = [f"/etc/systemd/system/{path}"]

    is_ours = service_processes.is_ours(str(tmp_path), values)

    assert ([*service_processes.strangers(str(tmp_path), values)] if is_ours else []) == found


def test_a_traced_process_and_a_missing_filter_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_processes, "processes_in", lambda root, group: [7])
    status = {"Name": "nginx", "State": "S (sleeping)", "TracerPid": "9", "Seccomp": "0"}
    monkeypatch.setattr(service_processes, "status_of", lambda root, pid: status)

    assert [*service_processes.states("", "/x", [5])] == ["stopped: nginx in a debugger"]
    filtered = {"SystemCallFilter": ["read write"]}
    assert [*service_processes.rights("", 7, filtered, BASE)] == [
        "it has no filter of system calls, and the unit has one"
    ]
    assert [*service_processes.rights("", 7, {"SystemCallFilter": ["~"]}, BASE)] == []
    privileged = {**filtered, "ExecStartEx": ["{ path=/bin/x ; argv[]=/bin/x ; flags=privileged ; pid=7 }"]}
    assert [*service_processes.rights("", 7, privileged, BASE)] == []


def test_another_root_directory_is_found_unless_the_program_goes_there_by_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/root").symlink_to("/srv/copy")
    monkeypatch.setattr(service_processes, "program_name", lambda root, pid: "/usr/sbin/nginx")

    assert [*service_processes.root_directory(str(tmp_path), 7, {}, BASE)] == ["its root directory is /srv/copy"]
    declared = {"RootDirectory": ["/srv/copy"]}
    assert [*service_processes.root_directory(str(tmp_path), 7, declared, BASE)] == []
    monkeypatch.setattr(service_processes, "program_name", lambda root, pid: "/usr/sbin/haproxy")
    assert [*service_processes.root_directory(str(tmp_path), 7, {}, BASE)] == []


@pytest.mark.parametrize(
    ("program", "environ", "found"),
    [
        ("haproxy", b"PATH=/bin\0HAPROXY_MWORKER=1\0HAPROXY_CFGFILES=/etc/x\0", []),
        ("haproxy", b"PATH=/bin\0HIDDEN=1\0HAPROXY_MWORKER=1\0", ["environment has HIDDEN"]),
        ("cat", b"PATH=/bin\0HAPROXY_MWORKER=1\0", ["environment has HAPROXY_MWORKER"]),
        ("cat", b"cat: listens at /run/x [0 of 100]\0\0\0\0", []),
        ("cat", bytes(100), []),
        ("cat", b"", []),
    ],
)
def test_names_that_programs_give_to_themselves_are_theirs(
    tmp_path: Path, program: str, environ: bytes, found: list[str]
) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin" / program).touch()
    (tmp_path / "proc/7/exe").symlink_to(f"/usr/bin/{program}")
    (tmp_path / "proc/7/environ").write_bytes(environ)
    (tmp_path / "proc/7/cmdline").write_bytes(f"/usr/bin/{program}\0-x\0".encode())
    argv = f"{{ path=/usr/bin/{program} ; argv[]=/usr/bin/{program} -x ; flags= ; pid=7 }}"
    base: Any = SimpleNamespace(environment={"PATH": "/bin"})

    assert [*service_processes.environment(str(tmp_path), 7, {"ExecStartEx": [argv]}, base)] == found
