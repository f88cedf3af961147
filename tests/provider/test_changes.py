"""Create and Update, previewed and real: the plan is what runs, and its end is looked at."""

import threading

import pytest

from rackwright.errors import Diagnostic, SetupError, StepFailed
from rackwright.provider.codec import decode
from tests.support.diagnostics import sentences
from tests.support.provider_rig import BOX, RED, State, failing

CODES = {SetupError: "FAILED_PRECONDITION", StepFailed: "ABORTED"}
BLUE = {**RED, "colour": "blue"}


def test_what_is_made_is_stored_as_found(rig):
    """
    Outputs are the inputs, the claims as found, the report and that it was whole.
    """
    state = rig.create(RED)

    assert state.id == "h1/a.b"
    assert state.outputs["claims"][BOX] == {"colour": "red", "kilograms": 9, "lid": "shut", "tags": []}
    assert state.outputs["report"] == {"weighed": 5}
    assert state.outputs["created"] is True
    assert rig.hosts.locked == ["h1/a.b"]


def test_the_preview_names_the_steps_that_run(rig):
    """
    Every line of a step in the preview is printed again, to the letter, when that step runs, and in that order.
    """
    wiped = {**RED, "wipe": {"RW-1": "ext4 3f2a"}}
    rig.create(wiped, preview=True)
    [plan] = rig.messages("INFO")
    assert rig.hosts.things["h1"] == {}
    assert not rig.hosts.locked

    rig.create(wiped)

    steps = [line for line in plan.splitlines() if line.startswith("step ")]
    assert steps[0] == "step 1/5: note that the box a.b is ours"
    assert steps == [line for line in rig.status_lines() if not line.endswith(": half")]
    assert "step 2/5: make the box a.b: half" in rig.status_lines()
    assert "h1 holds 0 things" in plan.splitlines()
    assert "    destroys RW-1: ext4 3f2a" in plan.splitlines()


def test_status_lines_stand_at_their_resource_and_vanish(rig):
    rig.create(RED)

    lines = [message for message in rig.listener.messages if message.text.startswith("step ")]
    assert lines
    assert {(message.about, message.ephemeral, message.severity) for message in lines} == {("h1/a.b", True, "INFO")}


def test_an_update_runs_only_what_differs(rig):
    state = rig.create(RED)
    rig.hosts.done.clear()

    rig.update(state, BLUE, preview=True)
    assert rig.messages("INFO")[-1].splitlines()[-1] == "step 1/1: paint the box a.b blue"
    assert rig.hosts.done == []

    after = rig.update(state, BLUE)
    assert rig.hosts.done == ["h1: paint the box a.b blue"]
    assert rig.diff(after, BLUE) == {}


def test_only_a_consent_is_stored_without_a_step(rig):
    state = rig.create(RED)
    rig.hosts.done.clear()

    after = rig.update(state, {**RED, "destroy": True})

    assert after.outputs["destroy"] is True
    assert rig.hosts.done == []


@pytest.mark.parametrize("preview", [True, False])
def test_a_refusal_stops_everything_before_the_first_step(rig, preview):
    """
    In preview and in the run alike; nothing is kept, for nothing was done.
    """
    state = rig.create(RED)
    rig.hosts.done.clear()

    with failing("FAILED_PRECONDITION") as failures:
        rig.update(state, {**BLUE, "kilograms": 20}, preview)

    assert sentences(failures[0].message) == "h1/a.b: kilograms: got 9; a box does not shrink. Declare less."
    assert not failures[0].kept.id
    assert rig.hosts.done == []


@pytest.mark.parametrize("error", [None, SetupError, StepFailed])
def test_a_refused_preview_lets_the_others_speak_first(rig, monkeypatch, error):
    """
    The engine ends a preview at the first error: the refusals of another host had never been printed, and a bucket
    whose library was missing hid all hosts.
    """
    answers, spoken = threading.Event(), []
    facts = rig.hosts.facts

    def answer(host, fresh=False):
        if host == "h1" and error:
            raise error(Diagnostic(host, "it failed"))
        assert host == "h1" or answers.wait(60)
        return facts(host)

    monkeypatch.setattr(rig.hosts, "facts", answer)

    def other() -> None:
        rig.create({**RED, "host": "h2"}, preview=True)
        spoken.append("planned")

    def refused() -> None:
        with failing("FAILED_PRECONDITION" if error is None else CODES[error]):
            rig.create({**RED, "colour": "invisible"}, preview=True)
        spoken.append("refused")

    threads = [threading.Thread(target=work) for work in (other, refused)]
    for thread in threads:
        thread.start()
    while not rig.provider._refused:
        pass
    answers.set()
    for thread in threads:
        thread.join()

    assert spoken == ["planned", "refused"]


def test_every_refusal_is_reported(rig):
    """
    Whoever mends one thing should not meet the next only then.
    """
    state = rig.create(RED)

    with failing("FAILED_PRECONDITION") as failures:
        rig.update(state, {**RED, "colour": "invisible", "kilograms": 20})

    assert [line.partition(";")[0] for line in sentences(failures[0].message).splitlines()] == [
        "h1/a.b: kilograms: got 9",
        "h1/a.b: colour: got invisible",
    ]


def test_a_complete_resource_is_never_created_again(rig):
    """
    A box that is gone is data that is lost or elsewhere: refused, with the way in two steps, in preview too.
    """
    state = rig.create(RED)
    rig.hosts.things["h1"].clear()
    gone = rig.read(state)

    for preview in (True, False):
        with failing("FAILED_PRECONDITION") as failures:
            rig.update(gone, RED, preview)
        assert "would create it again: note that the box a.b is ours; make the box a.b;" in failures[0].message
        assert "if its data may be lost, set `destroy: allowed`" in failures[0].message
    assert rig.hosts.things["h1"] == {}


def test_a_consent_is_stored_even_where_the_plan_is_refused(rig):
    """
    Else what is lost for good could never be given up: the consent has to stand in the state before the removal.
    """
    state = rig.create(RED)
    rig.hosts.things["h1"].clear()
    given = {**RED, "destroy": True}

    after = rig.update(rig.read(state), given)

    assert rig.hosts.things["h1"] == {}
    assert "Only the consent to its removal is stored" in rig.messages("WARNING")[-1]
    with failing("FAILED_PRECONDITION"):  # it opens no door: the next update is refused as before
        rig.update(after, given)
    rig.delete(after)


def test_what_only_a_person_can_mend_is_a_warning(rig):
    """
    The rest is done, what was found is stored, and the difference stays a difference.
    """
    state = rig.create(RED)
    rig.hosts.things["h1"][BOX]["lid"] = "open"

    after = rig.update(state, BLUE)

    assert "by hand: box:a.b.lid is open, wanted shut; look into the box" in rig.messages("WARNING")
    assert rig.hosts.things["h1"][BOX]["colour"] == "blue"
    assert rig.diff(after, BLUE) == {'claims["box:a.b"].lid': "UPDATE"}


def test_steps_that_do_not_do_what_they_say_are_caught(rig):
    """
    The host is looked at again after the last step; the claims that do not hold are named and kept as found.
    """
    state = rig.create(RED)
    rig.hosts.lies = True

    with failing("ABORTED") as failures:
        rig.update(state, BLUE)

    assert "box:a.b.colour is red, wanted blue" in failures[0].message
    kept = failures[0].kept
    assert (kept.id, kept.refresh_before_update) == ("h1/a.b", True)
    assert decode(kept.properties)["claims"][BOX]["colour"] == "red"


def test_what_cannot_be_known_after_the_steps_does_not_count_as_done(rig):
    state = rig.create(RED)
    rig.hosts.unknown("h1", "file:/etc/box.d/a.b.conf", "mode")

    with failing("ABORTED") as failures:
        rig.update(state, BLUE)

    assert "file:/etc/box.d/a.b.conf.mode is unknown (no permission), wanted 0644" in failures[0].message


def test_a_creation_that_fails_half_way_is_kept_and_resumed(rig):
    """
    From the first step on the state knows the resource, not yet as whole; the next update goes on.
    """
    rig.hosts.fails = "paint"
    with failing("ABORTED") as failures:
        rig.create(RED)
    kept = failures[0].kept
    assert kept.reasons == [failures[0].message]
    outputs = decode(kept.properties)
    assert outputs["claims"][BOX]["colour"] == "raw"
    assert "created" not in outputs

    rig.hosts.fails = None
    del rig.hosts.things["h1"][BOX]  # even from the start, as nothing was ever whole
    after = rig.update(State(kept.id, rig.check(RED), outputs), RED)

    assert after.outputs["created"] is True


def test_a_host_lost_half_way_leaves_what_was_seen_before(rig):
    """
    What it holds now cannot be read; the resource is kept all the same.
    """
    rig.hosts.hangs = hangs = threading.Event()
    rig.hosts.at_step.clear()

    def cut() -> None:
        rig.hosts.at_step.wait()
        rig.hosts.down.add("h1")
        hangs.set()

    threading.Thread(target=cut).start()
    with failing("ABORTED") as failures:
        rig.create(RED)

    assert decode(failures[0].kept.properties)["claims"][BOX]["colour"] == {"absent": True}


def test_an_unreachable_host_is_a_warning_in_preview_and_an_error_in_the_run(rig):
    rig.hosts.down.add("h1")

    rig.create(RED, preview=True)
    assert "h1: no answer" in rig.messages("WARNING")[0]
    with failing("UNAVAILABLE") as failures:
        rig.create(RED)

    assert not failures[0].kept.id


def test_what_is_there_already_is_taken_over(rig):
    """
    A create that finds everything as claimed runs no step: a lost state is found again.
    """
    rig.create(RED)
    rig.hosts.done.clear()

    assert rig.create(RED).outputs["created"] is True
    assert rig.hosts.done == []


def test_changes_of_one_host_do_not_wait_for_another(rig):
    assert rig.create({**RED, "host": "h2"}).id == "h2/a.b"
    assert rig.hosts.things["h1"] == {}
