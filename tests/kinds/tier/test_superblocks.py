"""A running member whose superblock was erased, and an array that was cut in size by hand."""

import os
import subprocess
from pathlib import Path

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import UnknownValue
from rackwright.facts.facts import Facts
from rackwright.kinds.tier import commands
from tests.support.mutations import array, drive
from tests.support.recorded_hosts import RESOURCES, STACK, recorded

TIER = RESOURCES["gpu-01/hot"]
KEY = TIER.spec.array_key
SERIAL = TIER.spec.members[0].serial


@pytest.fixture
def raw():
    return recorded("gpu-01")


@pytest.fixture
def member(raw):
    """The entry of the member with SERIAL."""
    return next(each for each in array(raw, KEY)["members"] if each["name"] == drive(raw, SERIAL)["name"])


def differences(raw):
    claims, facts = TIER.kind.claims(TIER.spec, STACK.repository), Facts(raw)
    return comparison.diff(claims, TIER.kind.observe(claims, facts))


def planned(raw):
    return TIER.kind.plan(TIER.spec, differences(raw), Facts(raw), STACK.repository)


def differing_values(raw):
    return {item.name: item.actual for item in differences(raw)}


def erase(raw, member, *signatures):
    member["names_array"] = None
    drive(raw, SERIAL).update(superblock=None, signatures=[*signatures])


def test_a_superblock_that_is_erased_is_written_again(raw, member):
    """
    The array runs on, and the member is missing after the next start.
    """
    erase(raw, member)

    assert differing_values(raw) == {"superblocks_lost": (SERIAL,)}
    plan = planned(raw)
    assert [step.text for step in plan.steps] == [f"have md write the superblock of {SERIAL} again"]
    assert plan.steps[0].argv[-3:] == (f"${{device:{KEY}}}", array(raw, KEY)["uuid"], "internal")
    assert (plan.by_hand, plan.refusals) == ((), ())


@pytest.mark.parametrize("there", ["ext4", "another"])
def test_where_something_else_was_written_a_person_looks(raw, member, there):
    """
    Data of the member may be gone with it, and only a rebuild brings that back.
    """
    erase(raw, member, *([{"type": "ext4", "uuid": "1", "label": None}] if there == "ext4" else []))
    if there == "another":
        member["names_array"] = "0:0:0:0"

    assert differing_values(raw) == {
        "superblocks_lost": (f"{SERIAL} ({'ext4' if there == 'ext4' else 'array 0:0:0:0'})",)
    }
    plan = planned(raw)
    assert plan.steps == ()
    [left] = plan.by_hand
    assert "find out by whom" in left.remedy and "rackwright drive replace" in left.remedy


def test_a_member_that_cannot_be_read_is_unknown(raw, member):
    member["names_array"] = {"unknown": "an I/O error"}

    assert isinstance(differing_values(raw)["superblocks_lost"], UnknownValue)
    assert planned(raw).steps == ()


def test_a_member_that_has_failed_is_not_asked(raw, member):
    member.update(names_array={"unknown": "no such device"}, state=["faulty"])

    assert "superblocks_lost" not in differing_values(raw)


def test_what_was_cut_off_by_hand_comes_back(raw):
    """
    The filesystem takes all of it: it may have been made smaller as well.
    """
    array(raw, KEY).update(array_size="300000", size_bytes=300_000 << 10)

    assert differing_values(raw) == {"array_size": "300000"}
    size, filesystem = planned(raw).steps
    assert size.argv == ("mdadm", "--grow", f"${{device:{KEY}}}", "--array-size=max")
    assert "take all that the array has" in filesystem.text


MDADM = """#!/bin/sh
echo "$@" >> {top}/log
case $* in
--examine-bitmap*) cat {top}/bitmap ;;
--examine*) grep -qs failfast {top}/md/dev-*/state && [ -e {top}/writes ] && echo MD_UUID=OURS ;;
esac
"""


@pytest.fixture
def host(tmp_path, monkeypatch) -> Path:
    """A stand-in for md's files and for mdadm; md writes superblocks."""
    for name, state in {"sda": "in_sync", "sdb": "in_sync,failfast", "sdc": "faulty"}.items():
        (tmp_path / f"md/dev-{name}").mkdir(parents=True)
        (tmp_path / f"md/dev-{name}/state").write_text(f"{state}\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mdadm").write_text(MDADM.format(top=tmp_path))
    (tmp_path / "bin/mdadm").chmod(0o755)
    (tmp_path / "bitmap").write_text("           Magic : 6d746962\n")
    (tmp_path / "writes").touch()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def write(host):
    argv = commands.write_superblocks("/dev/md127", "OURS", "internal")
    argv = [part.replace("/sys/class/block/${1##*/}/md", f"{host}/md") for part in argv]
    return subprocess.run(argv, capture_output=True, text=True)


def states(host):
    return {path.parent.name: path.read_text().strip() for path in (host / "md").glob("*/state")}


def grown(host):
    return [line for line in (host / "log").read_text().splitlines() if "--grow" in line]


def test_md_writes_superblocks_when_it_gets_a_flag_that_a_member_has_anyway(host):
    done = write(host)

    assert done.returncode == 0, done.stderr
    assert states(host) == {"dev-sda": "-failfast", "dev-sdb": "failfast", "dev-sdc": "faulty"}
    assert grown(host) == []


def test_a_bitmap_that_went_with_a_superblock_is_made_for_all(host):
    (host / "bitmap").write_text("mdadm: invalid bitmap magic 0x0\n")

    assert write(host).returncode == 0
    assert [line.split()[-1] for line in grown(host)] == ["--bitmap=none", "--bitmap=internal"]


def test_a_kernel_that_writes_none_is_an_error_in_words(host):
    (host / "writes").unlink()

    done = write(host)

    assert done.returncode == 1
    assert "md has not written the superblock of /dev/sda" in done.stderr
