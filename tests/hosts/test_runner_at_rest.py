"""Commands that wait in a unit until md rests: what reaches them, and which drives they find after the wait."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rackwright.hosts import runner_source
from rackwright.hosts.onhost import runner
from rackwright.hosts.onhost.messages import Stop
from rackwright.kinds.tier import commands
from rackwright.qualify import bench
from tests.hosts.test_runner import add_drive, machine  # noqa: F401 - a fixture
from tests.support import systemd_run
from tests.support.own_clock import own_clock

ARGUMENTS = ["${value%.}", "$HOME", "$$", "a ${b} $c\nd", "100%", ""]
FOLDERS, STARTS = ("rackwright", "roles", "templates", "workloads"), r"\bsystemd-run\b(?!-)"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """The runner's PATH begins with a systemd-run that expands variables as systemd does."""
    (tmp_path / "bin").mkdir()
    systemd_run.install(tmp_path / "bin")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setitem(runner.ENVIRONMENT, "PATH", path)
    monkeypatch.setattr(runner, "has_systemd", lambda: True)
    return tmp_path


@pytest.fixture
def resting(machine):  # noqa: F811
    """The machine, with nothing left to do for md."""
    folder = machine / "sys/class/block/md127/md"
    (folder / "sync_action").write_text("idle\n")
    (folder / "reshape_position").write_text("none\n")
    return folder


def printing(*argv):
    """Return a command that prints its arguments as JSON, and *argv* behind it."""
    return [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", *argv]


def step(*argv, **later):
    later = {"array": "lab:hot", "unit": "rackwright-grow-lab-hot", **later}
    return {"kind": "run", "text": "grow once that is done", "argv": argv, "timeout_seconds": 60, "when_at_rest": later}


def test_every_systemd_run_of_ours_gives_the_command_its_arguments_unchanged(systemd):
    steps = runner.in_unit(printing(*ARGUMENTS), "u", "d", systemd / "log", 60)
    benches = bench.unit_command(printing(*ARGUMENTS), "u", "d", 60, {})

    for argv in (steps, benches):
        assert json.loads(subprocess.run(argv, check=True, capture_output=True).stdout) == ARGUMENTS


def test_no_other_place_starts_units():
    """
    A new place that does has to be tried above.
    """
    places = {
        path.relative_to(ROOT).as_posix()
        for folder in ("rackwright", "roles", "templates", "workloads")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and path.suffix != ".pyc"
        and re.search(r"\bsystemd-run\b(?!-)", path.read_text(errors="replace"))
    }

    assert places == {"rackwright/hosts/onhost/runner.py", "rackwright/qualify/bench.py"}


def test_a_command_that_waits_gets_its_arguments_unchanged(systemd):
    """
    The key of an encrypted tier came to nothing on its way through a unit within a unit.
    """
    job = {"id": "gpu-01/hot", "directory": str(systemd / "run"), "modules": []}
    loader = f"open('{systemd}/given', 'w').write(open(0).readline())"

    runner.run(step(*printing(*ARGUMENTS)), "unit", {**job, "loader": loader})

    described = json.loads((systemd / "given").read_text())["at_rest"]
    assert described == {"array": "lab:hot", "argv": printing(*ARGUMENTS)}
    assert [path.stat().st_mode & 0o777 for path in (systemd / "run").iterdir()] == [0o600]


def test_the_unit_runs_the_runner_itself(systemd):
    job = json.loads(runner_source.first_line(id="gpu-01/hot", directory=str(systemd / "run")))

    with pytest.raises(Stop, match="ended with 1") as failed:
        runner.defer(step("true", array="no:array"), job)

    assert failed.value.output == ["no array no:array here; nothing was written"]


def test_a_unit_that_waits_already_is_enough(systemd):
    (systemd / "bin/systemctl").write_text("#!/bin/sh\n")
    (systemd / "bin/systemd-run").write_text("#!/bin/sh\nexit 1\n")

    runner.defer(step("true"), {"id": "gpu-01/hot", "directory": str(systemd / "run")})


def test_without_systemd_nothing_waits(monkeypatch):
    monkeypatch.setattr(runner, "has_systemd", lambda: False)

    with pytest.raises(Stop, match="no systemd"):
        runner.defer(step("true"), {})


def test_drives_are_looked_for_after_the_wait(resting, machine, monkeypatch, capfd):  # noqa: F811
    """
    A drive is pulled while md is at work, and another one gets its kernel name.
    """
    (resting / "sync_action").write_text("recover\n")

    def wait(seconds):
        folder = machine / "sys/class/block/nvme0n1"
        folder.rename(machine / "sys/class/block/nvme7n1")
        (machine / "sys/block/nvme0n1").rename(machine / "sys/block/nvme7n1")
        (machine / "dev/nvme0n1").rename(machine / "dev/nvme7n1")
        add_drive(machine, "nvme0n1", "RW-OTHER")
        (resting / "sync_action").write_text("idle\n")

    own_clock(monkeypatch, runner, sleep=wait)
    argv = printing(
        "${drive:RW-NVME0}", "${drive-if-present:RW-NVME0}", "${drive-if-present:RW-GONE}", "${device:lab:hot}"
    )

    with pytest.raises(SystemExit) as ended:
        runner.run_at_rest({"array": "lab:hot", "argv": argv})

    assert ended.value.code == 0
    moved = f"{machine}/dev/nvme7n1"
    assert json.loads(capfd.readouterr().out) == [moved, moved, "", f"{machine}/dev/md127"]


def test_a_drive_that_is_gone_after_the_wait_stops_what_needs_it(resting, tmp_path):
    with pytest.raises(SystemExit, match="no drive RW-GONE here"):
        runner.run_at_rest({"array": "lab:hot", "argv": ["touch", str(tmp_path / "begun"), "${drive:RW-GONE}"]})

    assert not (tmp_path / "begun").exists()


def test_an_array_that_is_gone_ends_the_wait(resting, machine, monkeypatch):  # noqa: F811
    (resting / "sync_action").write_text("recover\n")
    own_clock(monkeypatch, runner, sleep=lambda seconds: (machine / "sys/block/md127").rmdir() or gone())

    def gone():
        resting.rename(machine / "elsewhere")

    with pytest.raises(SystemExit, match="no array lab:hot here"):
        runner.run_at_rest({"array": "lab:hot", "argv": ["true"]})


def test_a_drive_that_comes_between_two_looks_stops_the_command(resting, machine, monkeypatch, tmp_path):  # noqa: F811
    """
    The names that were found stay as they are only while the drives are open.
    """
    opened = os.open

    def swap(path, *arguments):
        if str(path) == f"{machine}/dev/nvme0n1":
            for old, new in (("nvme0n1", "swap"), ("nvme1n1", "nvme0n1"), ("swap", "nvme1n1")):
                (machine / "sys/class/block" / old).rename(machine / "sys/class/block" / new)
        return opened(path, *arguments)

    monkeypatch.setattr(runner.os, "open", swap)

    with pytest.raises(SystemExit, match="drives came or went"):
        runner.run_at_rest({"array": "lab:hot", "argv": ["touch", str(tmp_path / "begun"), "${drive:RW-NVME0}"]})

    assert not (tmp_path / "begun").exists()


LET_GO = """#!/bin/sh
echo "$@" >> {log}
case "$*" in *--examine*) echo "MD_UUID=$(cat "$3.uuid")";; esac
case "$*" in *--zero-superblock*used*) exit 1;; esac
exit 0
"""


@pytest.mark.parametrize("degraded", ["0", "1"])
def test_superblocks_are_erased_of_drives_of_the_array_alone_and_only_while_it_is_whole(systemd, degraded):
    log, drives = systemd / "log", {"used": "OURS", "old": "OURS", "other": "THEIRS"}
    (systemd / "bin/mdadm").write_text(LET_GO.format(log=log))
    (systemd / "bin/mdadm").chmod(0o755)
    for name, uuid in drives.items():
        (systemd / f"{name}.uuid").write_text(uuid)
    (systemd / "degraded").write_text(f"{degraded}\n")
    argv = commands.let_go("/dev/md127", "OURS", ["", *(str(systemd / name) for name in drives)])
    argv = [part.replace("/sys/class/block/${1##*/}/md/", f"{systemd}/") for part in argv]

    done = subprocess.run(argv, capture_output=True, text=True)

    erased = [line for line in log.read_text().splitlines() if "--zero-superblock" in line]
    assert done.returncode == 1
    assert [line.rpartition("/")[2] for line in erased] == (["used", "old"] if degraded == "0" else [])
