"""`up --plan`: the steps of a saved plan run, and no others."""

import pytest

from rackwright.core.contract import Claim, Command, Plan
from rackwright.errors import ChangeRefused
from rackwright.provider import saved_plan
from rackwright.provider.saved_plan import (
    SavedPlan,
    SavedResource,
    check,
    check_removal,
    claims_digest,
    load,
    text_digests,
)
from tests.support.diagnostics import sentences

TEXTS = {"/etc/a": "one\n"}
CLAIMS = (Claim("md:hot", {"bitmap": "internal"}),)


def plan(*steps, **texts):
    return Plan(
        tuple(Command(text, ("true",)) for text in steps), texts={f"/etc/{name}": text for name, text in texts.items()}
    )


@pytest.fixture
def saved(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    hot = SavedResource(claims=claims_digest(CLAIMS), steps=("wipe", "mount"), texts=text_digests(TEXTS))
    path.write_text(SavedPlan(stack="lab", resources={"a/hot": hot}, removed=("b/hot",)).model_dump_json())
    monkeypatch.setenv(saved_plan.VARIABLE, str(path))
    return path


def test_without_a_saved_plan_every_plan_may_run(monkeypatch):
    monkeypatch.delenv(saved_plan.VARIABLE, raising=False)

    check("a/hot", CLAIMS, plan("anything"))
    check_removal("a/hot")


@pytest.mark.parametrize(
    "same", [plan("wipe", "mount", a="one\n"), plan("mount"), plan()], ids=["all", "fewer", "none"]
)
def test_the_saved_steps_may_run_also_when_fewer_are_left(saved, same):
    check("a/hot", CLAIMS, same)


@pytest.mark.parametrize(
    ("id", "other", "named"),
    [
        ("a/hot", plan("wipe", "erase"), "erase"),
        ("a/hot", plan("mount", a="two\n"), "another text of /etc/a"),
        ("a/hot", plan("mount", b="one\n"), "another text of /etc/b"),
        ("a/warm", plan("mount"), "mount"),
    ],
)
def test_a_step_or_a_text_that_was_not_saved_is_refused(saved, id, other, named):
    with pytest.raises(ChangeRefused) as refused:
        check(id, CLAIMS, other)

    assert f"{id}: the plan has changed since it was saved: {named}" in sentences(str(refused.value.render()))


def test_the_same_step_of_another_declaration_is_refused(saved):
    with pytest.raises(ChangeRefused, match="another declaration"):
        check("a/hot", (Claim("md:hot", {"bitmap": "none"}),), plan("mount"))


def test_only_a_saved_removal_may_run(saved):
    check_removal("b/hot")
    with pytest.raises(ChangeRefused, match="does not remove"):
        check_removal("a/hot")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": 2, "stack": "lab", "resources": {}, "removed": []}', '{"format": 1, "stack": "lab"}'],
)
def test_another_file_is_no_saved_plan(tmp_path, content):
    path = tmp_path / "plan.json"
    path.write_text(content)

    with pytest.raises(ChangeRefused, match="is no saved plan"):
        load(path, "lab")


def test_the_plan_of_another_stack_is_refused(saved):
    assert load(saved, "lab").removed == ("b/hot",)
    with pytest.raises(ChangeRefused, match="the plan is for stack lab"):
        load(saved, "rack")
