"""The operations log of the provider: entries before and after each change, and no change without them."""

import threading

import pytest

from rackwright.errors import Diagnostic
from rackwright.log.operation import record
from rackwright.log.writer import LogNotWritten
from tests.support.provider_rig import RED, Rig, failing

STEPS = ["note that the box a.b is ours", "make the box a.b", "paint the box a.b red"]


def summary(rig: Rig) -> list[tuple[str, str, str]]:
    return [(entry["event"], entry["command"], entry.get("outcome", "")) for entry in rig.entries]


def test_a_creation_has_its_steps_before_and_their_number_after(rig: Rig) -> None:
    rig.create({**RED, "wipe": {"RW-1": "ext4 3f2a"}})

    began, ended = rig.entries
    assert (began["event"], ended["event"], ended["outcome"]) == ("began", "ended", "done")
    assert began["operation"] == ended["operation"]
    assert (began["hosts"], began["resource"], began["command"]) == (["h1"], "h1/a.b", "create")
    [planned] = began["planned"]
    assert (planned["host"], planned["resource"], planned["change"]) == ("h1", "h1/a.b", "create")
    assert planned["steps"][:3] == STEPS and planned["destroys"] == ["RW-1: ext4 3f2a"]
    count = len(planned["steps"])
    assert ended["completed"] == [{"host": "h1", "resource": "h1/a.b", "outcome": "done", "steps_done": count}]


def test_a_preview_has_no_entry(rig: Rig) -> None:
    rig.create(RED, preview=True)

    assert rig.entries == []


def test_an_update_a_change_of_the_state_alone_and_a_deletion_have_entries(rig: Rig) -> None:
    state = rig.create({**RED, "destroy": True})
    rig.entries.clear()
    state = rig.update(state, {**RED, "colour": "blue", "destroy": True})
    state = rig.update(state, {**RED, "colour": "blue", "destroy": True, "tags": []})
    rig.delete(state)

    assert summary(rig) == [
        ("began", "update", ""),
        ("ended", "update", "done"),
        ("ended", "update", "unchanged"),
        ("began", "delete", ""),
        ("ended", "delete", "done"),
    ]
    assert rig.entries[3]["planned"][0]["steps"] == ["take the box a.b away"]


def test_a_step_that_fails_leaves_the_number_of_those_before(rig: Rig) -> None:
    rig.hosts.fails = "paint"
    with failing("ABORTED"):
        rig.create(RED)

    assert summary(rig) == [("began", "create", ""), ("ended", "create", "failed")]
    assert rig.entries[1]["completed"][0]["steps_done"] == 2
    assert "paint the box a.b red ended with 1" in rig.entries[1]["error"]


def test_a_refused_change_has_one_entry_with_the_reason(rig: Rig) -> None:
    with failing("FAILED_PRECONDITION"):
        rig.create({**RED, "colour": "invisible"})

    assert summary(rig) == [("ended", "create", "refused")]
    assert "paint can be seen" in rig.entries[0]["error"]


def test_an_unreachable_host_has_one_entry(rig: Rig) -> None:
    rig.hosts.down.add("h1")
    with failing("UNAVAILABLE"):
        rig.create(RED)

    assert summary(rig) == [("ended", "create", "unreachable")]


def test_a_resource_that_leaves_the_state_alone_has_an_entry(rig: Rig) -> None:
    state = rig.create(RED)
    rig.entries.clear()
    rig.delete(state, same_run=True)
    rig.retired.add("h1")
    rig.delete(state)

    assert summary(rig) == [("ended", "delete", "unchanged")] * 2
    assert rig.hosts.things["h1"]


def test_a_process_that_dies_in_a_step_leaves_no_end(rig: Rig) -> None:
    rig.hosts.hangs = threading.Event()
    call = threading.Thread(target=rig.create, args=(RED,))
    call.start()
    rig.hosts.at_step.wait()

    assert summary(rig) == [("began", "create", "")]
    rig.hosts.hangs.set()
    call.join()
    assert summary(rig)[1:] == [("ended", "create", "done")]


@pytest.mark.parametrize("room", [0, 1])
def test_nothing_changes_if_the_log_cannot_be_written(rig: Rig, room: int) -> None:
    """With room for one entry, the creation begins and its end is missing: it has failed, with the reason."""

    def append(event: str, fields: object) -> None:
        if len(rig.entries) >= room:
            raise LogNotWritten(Diagnostic("log", "the log cannot be written: No space left on device"))
        rig.entries.append({"event": event, **fields})  # type: ignore[dict-item]

    def recorder(change: str, host: str, resource: str, redact: object) -> object:
        return record(append, change, hosts=[host], resource=resource, every_attempt=True)

    site = rig.provider._sites["lab"]
    object.__setattr__(site, "record", recorder)
    with failing("ABORTED" if room else "FAILED_PRECONDITION") as failures:
        rig.create(RED)

    assert "the log cannot be written: No space left on device" in failures[0].message
    assert bool(rig.hosts.done) == bool(room)
    assert bool(rig.hosts.things["h1"]) == bool(room)
