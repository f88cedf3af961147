"""What runs on the host, called here: files, commands, references, and the look at a drive before it is written."""

import ast
import grp
import json
import os
import pwd
import re
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from rackwright.facts.probe import block, superblocks
from rackwright.hosts import runner_source
from rackwright.hosts.onhost import messages, references, runner
from rackwright.hosts.onhost.messages import Stop
from tests.support.drive_content import luks_format

OWNER = f"{pwd.getpwuid(os.geteuid()).pw_name}:{grp.getgrgid(os.getegid()).gr_name}"
ARRAY = UUID("01234567-89ab-cdef-0123-456789abcdef")
FILESYSTEM = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(autouse=True)
def without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "has_systemd", lambda: False)


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    return {"id": "gpu-01/hot", "directory": str(tmp_path / "run")}


@pytest.fixture
def ask(job, capsys):
    """Send a request, return the answers."""

    def ask(**request):
        runner.answer({"number": 1, **request}, job)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return ask


def test_without_systemd_nothing_is_restarted(ask):
    [answer] = ask(step={"kind": "reboot", "text": "restart"})

    assert (answer["event"], answer["reason"]) == ("failed", "there is no systemd to restart it")


@pytest.mark.parametrize(("status", "event"), [(0, "done"), (1, "failed")])
def test_a_restart_is_ordered_and_what_forbids_it_is_reported(ask, tmp_path, monkeypatch, status, event):
    """
    By the command that systemd gives, which is another here.
    """
    monkeypatch.setattr(runner, "has_systemd", lambda: True)
    monkeypatch.setitem(runner.ENVIRONMENT, "PATH", f"{tmp_path}:{runner.ENVIRONMENT['PATH']}")
    command = tmp_path / "systemctl"
    command.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho "an update runs"\nexit {status}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    [answer] = ask(step={"kind": "reboot", "text": "restart"})

    assert answer["event"] == event
    assert (tmp_path / "asked").read_text() == "--no-block --check-inhibitors=yes reboot\n"
    assert event == "done" or answer["output"] == ["an update runs"]


def put(path: Path, content: str = "new\n", **changes) -> dict[str, Any]:
    return {"kind": "put", "path": str(path), "content": content, "mode": 0o640, "owner": OWNER, **changes}


def run(*argv: str, timeout_seconds: float = 60) -> dict[str, Any]:
    return {"kind": "run", "text": "test", "argv": argv, "timeout_seconds": timeout_seconds}


def add_drive(root: Path, name: str, serial: str, content: bytes = b"") -> None:
    """Add an NVMe drive of 4 MiB to a machine made of files."""
    (root / "sys/block" / name).mkdir(parents=True)
    folder = root / "sys/class/block" / name
    (folder / "device").mkdir(parents=True)
    (folder / "size").write_text("8192\n")
    (folder / "dev").write_text("0:0\n")  # as a file has it
    (folder / "device/serial").write_text(f"{serial}   \n")
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / name).write_bytes(content.ljust(4 << 20, b"\0"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of two drives, the second a member of the running array lab:hot."""
    root = tmp_path / "machine"
    superblock = bytearray(512)
    struct.pack_into("<II8x16s32s8xi16xI", superblock, 0, 0xA92B4EFC, 1, ARRAY.bytes, b"lab:hot", 1, 2)
    add_drive(root, "nvme0n1", "RW-NVME0")
    add_drive(root, "nvme1n1", "RW-NVME1", bytes(4096) + superblock)
    md = root / "sys/class/block/md127/md"
    (md / "dev-nvme1n1").mkdir(parents=True)
    (root / "sys/block/md127").mkdir()
    (md.parent / "size").write_text("8192\n")
    (md / "metadata_version").write_text("1.2\n")
    (md / "array_state").write_text("clean\n")
    make_filesystem(root / "dev/md127")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").touch()
    (root / "proc/swaps").write_text("Filename Type Size Used Priority\n")
    monkeypatch.setattr(references, "ROOT", str(root))
    return root


def make_filesystem(path: Path) -> None:
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    path.write_bytes(bytes(4 << 20))
    subprocess.run([str(mkfs), "-q", "-U", FILESYSTEM, path], check=True)


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file_is_written_with_its_directories_mode_and_owner(ask, tmp_path):
    path = tmp_path / "etc/mdadm/hot.conf"

    assert ask(step=put(path)) == [{"event": "done"}]
    assert path.read_text() == "new\n"
    assert oct(path.stat().st_mode) == "0o100640"
    assert oct(path.parent.stat().st_mode) == "0o40755"
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("target", ["/dev/null", "elsewhere"])
def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(ask, tmp_path, target):
    """A masked unit is a link to /dev/null: written through, the file would be lost and the mask would stay."""
    path, elsewhere = tmp_path / "srv-hot.mount", tmp_path / "elsewhere"
    elsewhere.write_text("old\n")
    path.symlink_to(target)

    assert ask(step=put(path)) == [{"event": "done"}]
    assert not path.is_symlink()
    assert (path.read_text(), elsewhere.read_text()) == ("new\n", "old\n")


def test_what_a_killed_run_left_beside_a_file_is_no_hindrance(ask, tmp_path):
    path, precious = tmp_path / "hot.conf", tmp_path / "precious"
    precious.write_text("precious\n")
    (tmp_path / ".hot.conf.rackwright").symlink_to(precious)

    assert ask(step=put(path)) == [{"event": "done"}]
    assert (path.read_text(), precious.read_text()) == ("new\n", "precious\n")


def test_a_file_of_an_unknown_owner_is_not_written(ask, tmp_path):
    answer = ask(step=put(tmp_path / "file", owner="nosuchuser:root"))

    assert answer[0]["event"] == "failed"
    assert "nosuchuser" in answer[0]["reason"]
    assert not [*tmp_path.glob("*file*")]


def test_a_directory_in_the_place_of_a_file_is_an_error_in_words(ask, tmp_path):
    (tmp_path / "file").mkdir()

    answer = ask(step=put(tmp_path / "file"))

    assert answer[0]["event"] == "failed"
    assert "Is a directory" in answer[0]["reason"]


def test_a_removed_file_may_be_gone_already(ask, tmp_path):
    path = tmp_path / "file"
    path.touch()

    assert [ask(step={"kind": "remove", "path": str(path)}) for _ in range(2)] == [[{"event": "done"}]] * 2
    assert not path.exists()


# --- commands -------------------------------------------------------------------------------------------------------


def test_a_command_runs_without_a_shell(ask, tmp_path):
    assert ask(step=run("touch", f"{tmp_path}/$(id) ; *")) == [{"event": "done"}]
    assert (tmp_path / "$(id) ; *").exists()


def test_a_failed_command_reports_its_status_and_its_last_lines(ask):
    answer = ask(step=run("sh", "-c", "seq 20; echo no such array >&2; exit 3"))

    assert answer == [
        {"event": "failed", "reason": "`sh` ended with 3", "output": [*map(str, range(10, 21)), "no such array"]}
    ]


def test_a_command_that_is_not_there_is_an_error_in_words(ask):
    assert "No such file or directory: 'nosuchcommand'" in ask(step=run("nosuchcommand"))[0]["reason"]


def test_a_command_beyond_its_time_is_stopped(ask):
    *chunks, last = ask(step=run("sh", "-c", "echo begun; sleep 1000", timeout_seconds=1))

    assert last["event"] == "failed"
    assert last["reason"].startswith("`sh` was stopped after ")
    assert last["output"] == ["begun"]
    assert all(answer["event"] == "progress" for answer in chunks)


def test_progress_carries_the_last_word_of_the_command(ask, monkeypatch):
    monkeypatch.setattr(runner, "PROGRESS_SECONDS", 0.2)

    answer, *_ = ask(step=run("sh", "-c", "printf '10%%\\r20%%\\r'; sleep 0.5"))

    assert answer == {"event": "progress", "text": "running for 0 s 20%"}


@pytest.mark.parametrize("name", ["KUBECACHEDIR", "KUBECTL_KUBERC"])
def test_kubectl_of_a_step_leaves_no_cache_in_its_directory(tmp_path: Path, name: str) -> None:
    unit = runner.in_unit(["kubectl"], "u", "d", tmp_path / "log", 60)

    assert f"--setenv={name}={runner.ENVIRONMENT[name]}" in unit


def test_a_unit_gets_the_command_unchanged(tmp_path):
    """systemd would otherwise expand variables in its arguments."""
    unit = runner.in_unit(["echo", "${HOME}", "$$"], "u", "d", tmp_path / "log", 60)

    assert unit[unit.index("--") :] == ["--", "echo", "$${HOME}", "$$$$"]


@pytest.mark.parametrize(
    ("id", "unit"),
    [("gpu-01/hot", r"gpu\x2d01-hot"), ("a_b/c.d:e", "a_b-c.d:e"), ("host/é", r"host-\xe9")],
)
def test_an_id_is_escaped_as_systemd_does(id, unit):
    assert runner.escape_unit(id) == unit


@pytest.mark.parametrize(
    ("running", "goes_on"),
    [
        ({}, True),
        ({r"rackwright-step-gpu\x2d01-warm-3.service": "gpu-01/warm: make the array"}, False),
        ({r"rackwright-step-gpu\x2d01-hot-copy-3.service": "gpu-01/hot/copy: write"}, False),
    ],
)
def test_steps_of_another_resource_are_in_the_way(running, goes_on, monkeypatch, capsys):
    monkeypatch.setattr(runner, "running_steps", lambda: running)

    assert runner.await_steps("gpu-01/hot") is goes_on
    assert [json.loads(line)["steps"] for line in capsys.readouterr().out.splitlines()] == [
        [text] for text in running.values()
    ]


def test_an_own_step_that_still_runs_is_waited_for(monkeypatch, capsys):
    own = {r"rackwright-step-gpu\x2d01-hot-3.service": "gpu-01/hot: make the array"}
    seen = iter([own, own, {}])
    monkeypatch.setattr(runner, "running_steps", lambda: next(seen))
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.0)

    assert runner.await_steps("gpu-01/hot")
    assert json.loads(capsys.readouterr().out)["text"] == (
        "waiting for a step of an earlier run: gpu-01/hot: make the array"
    )


# --- references -----------------------------------------------------------------------------------------------------


def test_references_name_what_is_there_now(machine):
    text = "${drive:RW-NVME0} ${drive:RW-NVME1} ${device:lab:hot} ${array:lab:hot} ${filesystem:lab:hot} $HOME"

    assert runner.resolve_references(text).split() == [
        f"{machine}/dev/nvme0n1",
        f"{machine}/dev/nvme1n1",
        f"{machine}/dev/md127",
        "01234567:89abcdef:01234567:89abcdef",
        FILESYSTEM,
        "$HOME",
    ]


def test_a_drive_is_found_under_another_name_after_a_boot(machine):
    for old, new in (("nvme0n1", "swap"), ("nvme1n1", "nvme0n1"), ("swap", "nvme1n1")):
        (machine / "sys/class/block" / old).rename(machine / "sys/class/block" / new)

    assert runner.resolve_references("${drive:RW-NVME0}") == f"{machine}/dev/nvme1n1"


def test_what_is_on_an_encrypted_array_is_found_by_its_path(machine):
    luks_format(machine / "dev/md127")
    folder = machine / "sys/block/dm-0"
    (machine / "sys/class/block/dm-0").symlink_to(folder)
    (folder / "dm").mkdir(parents=True)
    for path, text in {"dm/name": "tier-hot", "dm/uuid": "CRYPT-LUKS2-01-tier-hot", "size": "8192"}.items():
        (folder / path).write_text(f"{text}\n")
    make_filesystem(machine / "dev/dm-0")

    assert runner.resolve_references("${filesystem:/dev/mapper/tier-hot}") == FILESYSTEM
    assert runner.resolve_references("${luks:lab:hot}") == superblocks.luks(str(machine / "dev/md127"))["uuid"]
    with pytest.raises(Stop, match="no filesystem on lab:hot here"):
        runner.resolve_references("${filesystem:lab:hot}")
    with pytest.raises(Stop, match="no /dev/mapper/tier-warm here"):
        runner.resolve_references("${filesystem:/dev/mapper/tier-warm}")


@pytest.mark.parametrize("command", [
    "/usr/bin/python3 && sleep 0",
    "sudo -H -S -n  -u root /bin/sh -c 'echo BECOME-SUCCESS-x ; /usr/bin/python3' && sleep 0",
    "/usr/bin/python3 /root/.ansible/tmp/x/AnsiballZ_apt.py && sleep 0",
])  # fmt: skip
def test_commands_of_ansible_are_known_and_others_are_not(command):
    assert runner.TASK.search(command)
    assert not runner.TASK.search(command.removesuffix(" && sleep 0"))


def test_a_lease_waits_for_a_task_that_an_ended_run_has_left(monkeypatch, capsys, tmp_path):
    """The next change would meet a half-made one: the task of a role goes on when its connection has ended."""
    monkeypatch.setattr(runner, "has_systemd", lambda: True)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(runner, "TASK", re.compile(f"cat {re.escape(str(tmp_path))}/end && sleep 0$"))
    os.mkfifo(tmp_path / "end")
    argv = ["/bin/sh", "-c", f"cat {tmp_path}/end && sleep 0"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as task:
        while runner.running_tasks() != [task.pid]:
            assert task.poll() is None
        assert not runner.await_tasks(0)
        assert json.loads(capsys.readouterr().out)["event"] == "locked"
        (tmp_path / "end").write_text("")
        assert runner.await_tasks(60)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("${drive:RW-NVME}", "no drive RW-NVME here"),
        ("${drive:RW-NVME9}", "no drive RW-NVME9 here"),
        ("${array:lab:warm}", "no array lab:warm here"),
        ("${array:hot}", "no array hot here"),
    ],
)
def test_only_an_exact_name_is_a_reference(machine, reference, reason):
    with pytest.raises(Stop, match=f"^{reason}; nothing was written"):
        runner.resolve_references(reference)


def test_two_drives_of_one_serial_are_none(machine):
    add_drive(machine, "nvme2n1", "RW-NVME0")

    with pytest.raises(Stop, match="^more than one drive RW-NVME0 here; nothing was written"):
        runner.resolve_references("${drive:RW-NVME0}")


def test_an_array_that_does_not_run_can_be_referred_to(machine):
    """Else it could not be stopped before its members are wiped."""
    (machine / "sys/class/block/md127/md/array_state").write_text("inactive\n")

    assert runner.resolve_references("${device:lab:hot}") == f"{machine}/dev/md127"


def test_a_command_with_a_dangling_reference_is_not_begun(machine, ask, tmp_path):
    answer = ask(step=run("touch", f"{tmp_path}/begun", "${drive:RW-NVME9}"))

    assert answer == [{"event": "failed", "reason": "no drive RW-NVME9 here; nothing was written", "output": []}]
    assert not (tmp_path / "begun").exists()


@pytest.mark.parametrize(("expected", "event"), [("", "done"), (None, "failed")])
def test_a_step_that_expects_something_of_a_drive_looks_at_it_in_its_own_process(machine, ask, job, expected, event):
    job["drives"] = json.loads(runner_source.first_line(directory=job["directory"]))["drives"]
    serial = "RW-NVME0" if expected is not None else "RW-NVME1"
    step = {**run("touch", str(machine / "begun"), f"${{drive:{serial}}}"), "expects": {serial: expected or ""}}

    answer = ask(step=step)[-1]

    assert answer["event"] == event, answer
    assert (machine / "begun").exists() == (event == "done")
    if event == "failed":
        assert answer["reason"].startswith(f"what is on drive {serial} cannot be known (")
        assert answer["reason"].endswith("; nothing was written")
    job_file = Path(job["directory"], "drives.json")
    assert oct(job_file.stat().st_mode) == "0o100600"


@pytest.fixture
def slow(machine, monkeypatch):
    """A machine whose drives let their reader wait."""
    serial = block.serial
    monkeypatch.setattr(messages, "PROGRESS_SECONDS", 0.2)
    monkeypatch.setattr(block, "serial", lambda *given: [time.sleep(0.3), serial(*given)][1])


def test_a_drive_that_is_slow_to_read_is_no_silence(slow, ask):
    stepped = ask(step=run("true", "${drive:RW-NVME0}"))

    assert stepped[0]["event"] == "progress"
    assert stepped[0]["text"].startswith("looking at the drives for ")
    assert stepped[-1]["event"] == "done"


def test_a_look_that_fails_is_no_longer_reported(slow, ask, capsys):
    assert ask(step=run("true", "${drive:RW-NVME9}"))[-1]["event"] == "failed"

    time.sleep(0.3)
    assert capsys.readouterr().out == ""


def test_udev_that_takes_its_time_is_no_silence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "has_systemd", lambda: True)
    monkeypatch.setattr(messages, "PROGRESS_SECONDS", 0.2)
    monkeypatch.setitem(runner.ENVIRONMENT, "PATH", f"{tmp_path}:{runner.ENVIRONMENT['PATH']}")
    command = tmp_path / "udevadm"
    command.write_text("#!/bin/sh\nsleep 0.3\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    runner.settle()

    printed = json.loads(capsys.readouterr().out.splitlines()[0])
    assert printed["event"] == "progress"
    assert printed["text"].startswith("waiting for udev for ")


@pytest.mark.parametrize("name", runner_source.RUNNER_MODULES)
def test_it_runs_on_python_3_8(name):
    source = Path(runner.__file__).with_name(f"{name}.py").read_text()

    ast.parse(source, feature_version=(3, 8))
    assert source.count("from __future__ import annotations") == 1
