"""The hot tier of gpu-01: its declaration, its recorded facts, and its plan."""

import copy
from dataclasses import replace

import pytest

from rackwright.core import diff as comparison
from rackwright.facts.facts import Facts
from tests.support.mutations import array, drive, without
from tests.support.recorded_hosts import FREE, RESOURCES, STACK, recorded
from tests.support.tier_spec import changed

TIER = RESOURCES["gpu-01/hot"]


SERIALS = [member.serial for member in TIER.spec.members]


@pytest.fixture
def raw():
    return recorded("gpu-01")


@pytest.fixture
def blank(raw):
    """The host before anything was made: the same drives, nothing on them."""
    stop(raw)
    for serial in SERIALS:
        clear(raw, serial)
    raw["owners"] = raw["texts"] = raw["units"] = raw["files"] = {}
    return raw


def clear(raw, serial):
    drive(raw, serial).update(FREE, signatures=[], witnesses=[], superblock=None, sample=[], holders=[])


def stop(raw):
    """Stop the array: what was on it is no longer seen."""
    found = array(raw, TIER.spec.array_key)
    without(raw["filesystems"], device=found["name"])
    without(raw["mounts"], device=found["name"])
    without(raw["arrays"], name=found["name"])
    for serial in SERIALS:
        drive(raw, serial).update(holders=[], sample=["data 5a5a5a5a5a5a5a5a"], **FREE)


def owner(raw, **changes):
    record = {"id": "gpu-01/hot", "fleet": "rack", "serials": SERIALS, **changes}
    raw["owners"] = {**raw["owners"], "tier-hot": record}


def planned(raw, consents=None, **changes):
    """Return the plan of the tier; *consents* are those of the command."""
    spec = changed(TIER.spec, **changes)
    repository = replace(STACK.repository, consents=consents or {})
    claims = TIER.kind.claims(spec, repository)
    facts = Facts(raw)
    return TIER.kind.plan(spec, comparison.diff(claims, TIER.kind.observe(claims, facts)), facts, repository)


def texts(plan):
    return [step.text for step in plan.steps]


def refused(plan):
    assert plan.steps == ()
    return "\n".join(str(refusal) for refusal in plan.refusals)


NEW = "RW01-NVME9"


def arrive(raw, serial=NEW, **carries):
    """Put a new drive into the machine, as large as the others."""
    there = copy.deepcopy(drive(raw, SERIALS[0]))
    blank = {
        **FREE,
        "signatures": [],
        "witnesses": [],
        "superblock": None,
        "sample": [],
        "holders": [],
        "mountpoints": [],
    }
    raw["drives"].append({**there, "serial": serial, "name": f"nvme{serial[-1]}n1", **blank, **carries})


def members(*serials):
    """Return the declaration of other members."""
    first = TIER.spec.members[0]
    return {"members": tuple(first.model_copy(update={"serial": serial}) for serial in serials)}


def member(raw, serial):
    name = drive(raw, serial)["name"]
    return next(each for each in array(raw, "gpu-01:hot")["members"] if each["name"] == name)


def fail(raw, serial):
    member(raw, serial).update(state=["faulty"], slot=None)
    array(raw, "gpu-01:hot")["degraded"] += 1
