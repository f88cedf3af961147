"""`rackwright drive locate`, as typed, against a simulated host whose ledctl is the test's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import TypedProject
from tests.support import recorded_facts
from tests.support.simulated import SimulatedRack

RAW: dict[str, Any] = recorded_facts.raw(recorded_facts.TODAY)
RAW["packages"] = {**RAW["packages"], "ledmon": "0.95-2+b2"}
HOST = {"identity": {"serial": "CHASSIS-F1"}, "os": "debian-12", "drives": [{"serial": "F1-BOOT", "boot": True}]}
PATH = next(drive["path"] for drive in RAW["drives"] if drive["serial"] == "F1-SAS1")
# What ledctl 0.95 printed on a computer without any such light.
HAS_NO_LIGHT = f"""
echo '/etc/ledmon.conf: does not exist, using built-in defaults'
echo 'ledctl: {PATH}: device not supported
ledctl: IBPI LOCATE: missing block device(s)... pattern ignored.' >&2
exit 33
"""


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[TypedProject]:
    with SimulatedRack({"alpha": RAW}) as rack:
        yield TypedProject(rack, tmp_path, HOST)


@pytest.mark.parametrize(
    ("options", "pattern", "expected"),
    [
        ((), "locate", "blinks until `rackwright drive locate lab alpha F1-SAS1 --off`"),
        (("--off",), "locate_off", "no longer blinks"),
    ],
)
def test_the_light_of_that_drive_alone_is_switched(options, pattern, expected, typed):
    typed.alpha.set_ledctl(f'echo "$SSH_ORIGINAL_COMMAND" > {typed.directory}/asked')
    done = typed("drive", "locate", "lab", "alpha", "F1-SAS1", *options)

    assert (done.returncode, done.stderr) == (0, "")
    assert (typed.directory / "asked").read_text() == f"ledctl --listed-only {pattern}={PATH}\n"
    assert done.stdout.startswith("alpha: F1-SAS1 (")
    assert done.stdout.endswith(f", {PATH}) {expected}\n")


def test_a_program_gets_the_drive_and_its_light(typed):
    typed.alpha.set_ledctl("true")
    report = json.loads(typed("drive", "locate", "lab", "alpha", "F1-SAS1", "--off", "--json").stdout)

    assert (report["host"], report["serial"], report["path"], report["blinks"]) == ("alpha", "F1-SAS1", PATH, False)


def test_a_drive_without_a_light_is_reported_in_the_words_of_ledctl(typed):
    typed.alpha.set_ledctl(HAS_NO_LIGHT)
    done = typed("drive", "locate", "lab", "alpha", "F1-SAS1")

    assert (done.returncode, done.stdout) == (4, "")
    assert (
        f"alpha: drive F1-SAS1: ledctl cannot switch its light, and printed 'ledctl: {PATH}: device not supported / "
        in done.stderr
    )


def test_an_ignored_pattern_is_no_light_whatever_the_status(typed):
    typed.alpha.set_ledctl(HAS_NO_LIGHT.replace("exit 33", "exit 0"))

    assert typed("drive", "locate", "lab", "alpha", "F1-SAS1").returncode == 4


@pytest.mark.parametrize(
    ("serial", "fix"),
    [("F1-SAS11", "Write F1-SAS1."), ("DEAD", "If the drive is dead, look for the bay whose drive is none of these.")],
)
def test_a_drive_that_is_not_seen_is_reported_with_those_that_are(serial, fix, typed):
    done = typed("drive", "locate", "lab", "alpha", serial)

    assert done.returncode == 2
    there = ", ".join(drive["serial"] for drive in RAW["drives"])
    assert (
        f"alpha: the host has no drive {serial}\n  expected: one of {there}\n  help:     {fix.rstrip('.')}"
        in done.stderr
    )


def test_a_host_without_ledctl_or_of_another_name_is_reported(typed):
    typed.alpha.set_facts(recorded_facts.raw(recorded_facts.TODAY))
    without = typed("drive", "locate", "lab", "alpha", "F1-SAS1")
    unknown = typed("drive", "locate", "lab", "alhpa", "F1-SAS1")

    assert without.returncode == 4
    assert (
        "package ledmon is not installed\n  note:     its ledctl switches the light\n  help:     Add ledmon"
        in without.stderr
    )
    assert unknown.returncode == 2
    assert "stack lab: the stack has no host alhpa\n  expected: one of alpha\n  help:     Write alpha" in unknown.stderr
