"""The plan that preview prints, from pulumi's event log and the provider's records."""

import json

import pytest

from rackwright.cli import plan
from rackwright.cli.plan import Change, Events
from rackwright.cli.pulumi_records import PulumiRun
from rackwright.cli.removal import Removal
from rackwright.core.contract import Command, Plan
from rackwright.provider.outcomes import PlanRecord
from tests.support.json_documents import checked

HOST, TIER, COMPONENT = "rackwright:host:Host", "rackwright:storage:Tier", "rackwright:index:GpuHost"
STACK = "urn:pulumi:lab::rackwright::pulumi:pulumi:Stack::rackwright-lab"


def event(op, kind, name):
    return {
        "resourcePreEvent": {"metadata": {"op": op, "type": kind, "urn": f"urn:pulumi:lab::rackwright::{kind}::{name}"}}
    }


def message(severity, text, urn):
    return {"diagnosticEvent": {"severity": severity, "message": text, "urn": urn}}


def log(path, *events):
    path.write_text("".join(json.dumps(each) + "\n" for each in [{"preludeEvent": {}}, *events, {"summaryEvent": {}}]))
    return path


@pytest.mark.parametrize(
    ("planned", "unreachable", "expected"),
    [
        ([], set(), []),
        ([("create", HOST, "a")], set(), [("create", HOST, "a")]),
        ([("same", HOST, "a"), ("refresh", HOST, "b")], set(), []),
        ([("update", COMPONENT, "a")], set(), [("update", COMPONENT, "a")]),
        ([("create", COMPONENT, "a"), ("create", HOST, "a"), ("create", TIER, "a/hot")], {"a", "a/hot"}, []),
        ([("create", HOST, "a"), ("update", HOST, "b")], {"a"}, [("update", HOST, "b")]),
    ],
)
def test_plans_for_unreachable_hosts_are_no_known_changes(tmp_path, planned, unreachable, expected):
    events = plan.read_events(log(tmp_path / "events", *(event(*each) for each in planned)))

    assert PulumiRun(0, events, {"unreachable": unreachable}, {}).changes == expected


def test_a_log_that_pulumi_never_began_has_no_changes(tmp_path):
    assert plan.read_events(tmp_path / "absent") == Events()


def test_messages_belong_to_their_resources_and_lose_the_marks_of_colours(tmp_path):
    tier = f"urn:pulumi:lab::rackwright::{COMPONENT}${TIER}::a/hot"
    path = log(
        tmp_path / "events",
        event("same", HOST, "a"),
        message("info", "step 1/1: sleep", tier),
        message("error", "<{%fg 1%}>Preview failed: the drive is mounted<{%reset%}>\n", tier),
        message("error", "preview failed", STACK),
        message("error", "Resource monitor has terminated, shutting down", STACK),
        message("warning", "the program is old", STACK),
    )

    events = plan.read_events(path)

    assert events.messages == {"a/hot": ("the drive is mounted",), "": ("the program is old",)}
    assert events.unchanged == ("a",)


SEVERAL = Events(
    (
        Change("create", COMPONENT, "a"),
        Change("create", TIER, "a/hot"),
        Change("update", TIER, "a/warm"),
    ),
    ("a", "b"),
    {
        "b/hot": ("the drive is mounted\n  help: unmount it",),
        "c": ("c: Connection refused",),
        "c/hot": ("c: Connection refused",),
        "d": ("an old note",),
    },
)
OUTCOMES = {"refused": {"b/hot"}, "unreachable": {"c", "c/hot"}, "unknown": {"a"}}
PLANS = {
    "a/hot": PlanRecord("a/hot", ("wipe", "make xfs"), ("ext4 on S1",), ("S1 carries ext4",), changes="--- /etc/x"),
    "a/warm": PlanRecord("a/warm", ("set bitmap",), differences=tuple(f"d{number}" for number in range(14))),
}


def test_manual_work_after_a_creation_is_one_line_for_all_hosts():
    events = Events((Change("create", TIER, "a/x"), Change("create", TIER, "b/x"), Change("update", TIER, "c/x")))
    plans = {f"{host}/x": PlanRecord(f"{host}/x", ("step",), by_hand=("enrol them",)) for host in "abc"}

    assert plan.format_summary(events, plans, {}).splitlines()[:5] == [
        "a/x: create, 1 step",
        "b/x: create, 1 step",
        "c/x: update, 1 step",
        "  by hand: enrol them",
        "after `up`, by hand on a, b: enrol them",
    ]


def test_the_summary_has_what_is_destroyed_what_differs_and_what_is_refused():
    assert plan.format_summary(SEVERAL, PLANS, OUTCOMES).splitlines() == [
        "a/hot: create, 2 steps",
        "  destroys ext4 on S1",
        "a/warm: update, 1 step",
        *(f"  differs: d{number}" for number in range(12)),
        "  … and 2 more differences",
        "b/hot: refused",
        "  the drive is mounted",
        "    help: unmount it",
        "c: not reached",
        "  c: Connection refused",
        "c/hot: not reached",
        "d: unchanged",
        "  an old note",
        "1 create, 1 update, 1 refused, 2 not reached, 3 unchanged",
        "--steps lists the steps, --diff shows the texts of files",
    ]


def test_steps_and_texts_are_shown_on_demand():
    shown = plan.format_summary(SEVERAL, PLANS, OUTCOMES, steps=True, diff=True).splitlines()

    assert shown[:6] == [
        "a/hot: create, 2 steps",
        "  S1 carries ext4",
        "  step 1/2: wipe",
        "  step 2/2: make xfs",
        "  destroys ext4 on S1",
        "  --- /etc/x",
    ]
    assert "  differs: d13" in shown


def test_the_plan_for_machines_has_everything():
    data = checked("preview", plan.as_data(SEVERAL, PLANS, OUTCOMES))

    assert [(each["name"], each["type"], each["change"]) for each in data["resources"]] == [
        ("a/hot", TIER, "create"),
        ("a/warm", TIER, "update"),
        ("b/hot", None, None),
        ("c", None, None),
        ("c/hot", None, None),
        ("d", None, None),
    ]
    assert data["resources"][0]["steps"] == ["wipe", "make xfs"]
    assert data["resources"][2]["messages"] == ["the drive is mounted\n  help: unmount it"]
    assert data["unchanged"] == ["a", "b"]
    assert {each["name"]: each["outcomes"] for each in data["resources"]}["b/hot"] == ["refused"]
    assert {each["name"]: each["outcomes"] for each in data["resources"]}["c"] == ["unreachable"]


def test_each_resource_is_counted_once_when_it_was_compared():
    """
    A refresh and the comparison after it are one resource; components, providers and half a line are none.
    """
    compared = [
        ("refresh", TIER, "a/hot"),
        ("same", TIER, "a/hot"),
        ("create", HOST, "a"),
        ("create", COMPONENT, "a/x"),
    ]
    lines = [json.dumps({"resOutputsEvent": event(*each)["resourcePreEvent"]}) + "\n" for each in compared]
    begun = json.dumps(event("create", HOST, "b")) + "\n"

    assert plan.compared_resources([*lines, begun, lines[0].replace("a/hot", "c/hot")[:-1]]) == {"a/hot", "a"}


def test_a_removal_is_of_a_resource_that_the_program_has_nowhere_else():
    """
    A resource with another parent has another URN: the engine plans its deletion, and nothing leaves the host.
    """
    changes = (
        Change("delete", COMPONENT, "a"),
        Change("delete", TIER, "a/hot"),
        Change("delete", TIER, "a/warm"),
        Change("delete", HOST, "a"),
        Change("create", TIER, "a/warm"),
    )

    assert PulumiRun(0, Events(changes, ("a",)), {}, {}).removed_names == {"a/hot"}


def test_properties_that_the_steps_make_known_are_counted_once():
    """Unknown is never silently fine."""
    changes = tuple(Change("create", TIER, f"{host}/x") for host in "ab")
    plans = {f"{host}/x": PlanRecord(f"{host}/x", ("step",), known_later=6) for host in "ab"}

    lines = plan.format_summary(Events(changes), plans, {}).splitlines()

    assert lines[2:4] == ["12 properties are known after the steps", "2 create"]
    data = plan.as_data(Events(changes), plans, {})
    assert [each["known_later"] for each in data["resources"]] == [6, 6]


def test_the_plan_of_a_removal_names_its_data_or_its_refusal():
    erase = Command("erase the xfs on hot", ("wipefs",), destroys=("a/hot: everything on it",))
    planned = PulumiRun(0, Events((Change("delete", TIER, "a/hot"), Change("delete", TIER, "b/hot"))), {}, {})

    shown = planned.with_removals(
        [Removal("a/hot", "removed", plan=Plan((erase,))), Removal("b/hot", "refused", "b is not declared any more")]
    )

    assert plan.format_summary(shown.events, shown.plans, shown.resources).splitlines() == [
        "a/hot: delete, 1 step",
        "  destroys a/hot: everything on it",
        "b/hot: refused",
        "  b is not declared any more",
        "1 delete, 1 refused",
        "--steps lists the steps, --diff shows the texts of files",
    ]


def test_outputs_and_messages_of_an_event_log(tmp_path):
    """Outputs are those of the stack alone; a message is printed once, below the name of its first resource."""
    stack = {"type": plan.STACK, "urn": "urn:pulumi:lab::rack::pulumi:pulumi:Stack::rack-lab", "op": "update"}
    events = [
        {"resOutputsEvent": {"metadata": {**stack, "type": "other", "new": {"outputs": {"hidden": 1}}}}},
        {"resOutputsEvent": {"metadata": {**stack, "new": {"outputs": {"mounts": {"gpu-01": "/srv/hot"}, "n": 2}}}}},
    ]
    path = tmp_path / "events"
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events))

    assert plan.format_outputs(path) == 'outputs:\n  mounts: {"gpu-01": "/srv/hot"}\n  n: 2\n'
    assert plan.format_outputs(tmp_path / "none") == ""
    messages = {"a/hot": ("it failed\nhelp", "again"), "b/hot": ("again",), "": ("of the stack",)}
    shown = [*plan.format_messages(plan.Events((), (), messages))]
    assert shown == ["a/hot:", "  it failed", "  help", "  again", "of the stack"]
