"""Findings of steps and rescues of rackwright, and of files of sudo: which are reported, and the text of each."""

from dataclasses import replace
from typing import Any

import pytest

from rackwright.audit.undeclared.search import apply
from rackwright.audit.undeclared.table import RULES
from rackwright.facts.facts import Facts
from tests.support.converged_host import converged, declared, found, with_more
from tests.support.rule_cases import (
    entry,
    trial,
    unpackaged,
)


def test_the_record_of_a_removal_is_not_left_over():
    """
    The owner file of a tier that `up` removed stays with the phase `removed`.
    """
    raw = converged()
    entry("owners", "tier-hot", {"id": "alpha/hot", "fleet": "software", "phase": "removed"})(raw)
    assert found(RULES["RW-062"], raw) == []

    raw["owners"]["tier-hot"]["phase"] = "removing"
    assert found(RULES["RW-062"], raw) == [("owner:tier-hot", False)]
    # the claim on the owner file reports another id
    assert found(RULES["RW-062"], raw, with_more(declared(), "owner:tier-hot", "id")) == []


def test_a_unit_with_the_name_of_a_step_needs_the_record_of_one():
    name, state = "rackwright-step-x-1.service", {"load": "loaded", "active": "active", "enabled": "transient"}
    raw = converged()
    raw["units"][name] = state

    for steps in ({}, {name: False}, {"rackwright-step-x-2.service": True}):
        assert found(RULES["RW-037"], {**raw, "step_units": steps}) == [(f"unit:{name}", False)]
    assert found(RULES["RW-037"], {**raw, "step_units": {name: {"unknown": "no answer"}}})[0][1]


HOSTILE = {
    "no record": lambda raw: raw["trials"].clear(),
    "the record of another change": lambda raw: raw.update(trials={"role-base": raw["trials"]["role-access"]}),
    "another service": lambda raw: raw["trials"]["role-access"].update(service="[Service]\nExecStart=/bin/evil\n"),
    "another timer": lambda raw: raw["trials"]["role-access"].update(timer="[Timer]\nOnActiveSec=1\n"),
    "another deadline": lambda raw: raw["trials"]["role-access"].update(deadline="[Timer]\nUnit=evil.service\n"),
    "no service": lambda raw: raw["trials"]["role-access"].update(service=None),
    "the earlier files are back": lambda raw: raw["trials"]["role-access"].update(state="left"),
    "facts of an earlier version": lambda raw: raw.pop("trials"),
}
"""Changes after which a unit with the name of a rescue timer is none."""


def every_rule(raw: dict[str, Any]) -> list[str]:
    return [f"{id} {thing}" for id, rule in RULES.items() for thing, unknown in found(rule, raw) if not unknown]


def test_no_rule_reports_a_rescue_timer_that_rackwright_has_armed():
    for state in ("waiting", "undoing"):
        raw = converged()
        trial(state=state)(raw)

        assert every_rule(raw) == ["RW-038 trial:role-access"]


@pytest.mark.parametrize("case", HOSTILE)
def test_a_unit_that_only_has_the_name_of_a_rescue_timer_is_reported(case):
    raw = converged()
    trial()(raw)
    HOSTILE[case](raw)

    assert "RW-031 unit:undo-rackwright-role-access.timer" in every_rule(raw)


EARLIER = "[Timer]\nOnActiveSec=300\nAccuracySec=1s\n[Install]\nWantedBy=timers.target\n"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "role access is on trial until 00:56:40 UTC; the host restores the earlier files then"),
        (
            {"timer": EARLIER, "until": None, "boot": None, "deadline": None},
            "until its timer ends, which version 0.1.0",
        ),
        ({"boot": "earlier"}, "until 60 s after the start of the host; the host restores"),
        ({"state": "undoing"}, "the host is restoring the earlier files"),
        ({"service": "x"}, "its units are not those of rackwright"),
    ],
)
def test_a_pending_rescue_is_described_with_its_deadline(change, text):
    raw = converged()
    trial(**change)(raw)

    [(finding, _)] = apply(RULES["RW-038"], Facts(raw), declared())
    assert text in finding.found
    raw["units"]["undo-rackwright-role-access.timer"]["active"] = "inactive"
    if not change:
        [(finding, _)] = apply(RULES["RW-038"], Facts(raw), declared())
        assert "its timer does not run: nothing restores" in finding.found


@pytest.mark.parametrize(
    ("name", "rules", "file", "rule", "text"),
    [
        ("x", ["eve ALL=(ALL) ALL"], {"ignored": None, "settings": []}, "RW-023", "eve ALL=(ALL) ALL"),
        ("x", [], {"ignored": None, "settings": ["Defaults !authenticate"]}, "RW-023", "Defaults !authenticate"),
        ("x", [], {"ignored": None, "settings": []}, "RW-039", "neither rules nor settings"),
        ("x.conf", None, {"ignored": "a dot in its name", "settings": ["Defaults x"]}, "RW-039", "sudo ignores it for"),
        ("x~", None, {"ignored": "a ~ at the end of its name", "settings": []}, "RW-039", "sudo ignores it for a ~"),
    ],
)
def test_a_file_of_sudo_is_described_by_its_effect(name, rules, file, rule, text):
    raw, path = converged(), f"/etc/sudoers.d/{name}"
    unpackaged(path)(raw)
    if rules is not None:
        raw["sudoers"][path] = rules
    raw["sudo_settings"] = {path: file}

    without_role = replace(declared(), wants={"user:x": {"present": True}})
    all_found = [
        (id, finding.found)
        for id in ("RW-023", "RW-039")
        for finding, _ in apply(RULES[id], Facts(raw), without_role)
        if finding.thing == f"file:{path}"
    ]

    assert [id for id, _ in all_found] == [rule] and text in all_found[0][1]


def test_the_record_of_another_host_is_named_as_one():
    raw = converged()
    raw["owners"]["role-a"] = {"id": "beta/a", "fleet": "software", "phase": "ready"}
    raw["owners"]["role-b"] = {"id": "gone/b", "fleet": "software", "phase": "ready"}

    texts = [finding.found for finding, _ in apply(RULES["RW-062"], Facts(raw), declared())]

    assert texts[0] == "of beta/a, a resource of host beta, whose record or facts this host has"
    assert texts[1] == "of gone/b, which the fleet does not declare on alpha"
