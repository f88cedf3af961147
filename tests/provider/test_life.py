"""Read and Delete: the state follows the host, and nothing is forgotten that may still be there."""

from pulumi.runtime.proto import provider_pb2

from rackwright.hosts.verdicts import QuarantineLook
from rackwright.provider import lifetime, outcomes
from rackwright.quarantine.hosts import quarantine
from tests.support.diagnostics import sentences
from tests.support.provider_rig import BOX, RED, State, bare, failing
from tests.support.toy_kind import TOKEN, Box
from tests.support.verdicts import began


def test_reading_echoes_the_inputs_and_finds_the_claims(rig):
    state = rig.create(RED)
    rig.hosts.things["h1"][BOX]["colour"] = "blue"

    seen = rig.read(state)

    assert (seen.id, seen.inputs) == (state.id, state.inputs)
    assert seen.outputs["claims"][BOX]["colour"] == "blue"
    assert seen.outputs["created"] is True
    assert seen.outputs["host"] == "h1"


def test_every_call_about_the_same_declaration_shares_its_claims(rig, monkeypatch):
    computed, compute = [], Box.claims
    monkeypatch.setattr(
        Box, "claims", lambda kind, spec, repository: computed.append(spec.colour) or compute(kind, spec, repository)
    )

    state = rig.read(rig.create(RED))
    rig.diff(state, RED)
    rig.update(state, {**RED, "colour": "blue"})

    assert computed == ["red", "blue"]


def test_an_unreachable_host_keeps_its_last_state(rig):
    """
    Reading succeeds, or one dead host would stop the others; it says so, and heals by itself.
    """
    state = rig.create(RED)
    rig.hosts.down.add("h1")

    dark = rig.read(state)

    assert dark.outputs == {**state.outputs, "unreachable": "no answer"}  # the rest names addresses
    assert [*map(sentences, rig.messages("WARNING"))] == [
        "h1: no answer; it answers at its address; the last known state is kept. Switch it on."
    ]
    assert rig.diff(dark, RED) == {}
    rig.hosts.down.clear()
    assert rig.read(dark).outputs == state.outputs


def test_a_host_that_the_fleet_does_not_name_any_more_keeps_its_last_state(rig):
    state = rig.create(RED)
    del rig.hosts.things["h1"]

    assert rig.read(state).id == "h1/a.b"


def test_what_became_whole_by_itself_is_whole(rig):
    """
    A creation that failed at its last look is settled by a read that finds nothing amiss.
    """
    state = rig.create(RED)
    del state.outputs["created"]

    assert rig.read(state).outputs["created"] is True


def imported(rig, id="h1/a.b"):
    answer = rig.stub.Read(provider_pb2.ReadRequest(id=id, urn=rig.urn(RED)))
    return State(answer.id, bare(answer.inputs), bare(answer.properties))


def test_an_import_takes_over_what_is_as_declared(rig):
    """
    Its inputs are those of the declaration, so that the next look finds nothing to do; no step is run for it.
    """
    rig.create(RED)
    rig.hosts.done.clear()
    rig.declared[TOKEN, "h1/a.b"] = RED

    state = imported(rig)

    assert state.inputs == rig.check(RED)
    assert state.outputs["created"] is True
    assert rig.diff(rig.read(state), RED) == {}
    assert rig.hosts.done == []


def test_an_import_of_an_undeclared_resource_is_refused(rig):
    with failing("FAILED_PRECONDITION") as failures:
        imported(rig, "h1/c")

    assert f"h1/c: the fleet declares no {TOKEN} with this id; an import needs a declaration" in sentences(
        failures[0].message
    )


def test_an_import_of_what_is_otherwise_is_refused(rig):
    """
    With all that does not hold; what is not there at all is that, too.
    """
    rig.create(RED)
    rig.hosts.things["h1"][BOX]["colour"] = "blue"
    rig.declared[TOKEN, "h1/a.b"] = RED

    with failing("FAILED_PRECONDITION") as failures:
        imported(rig)
    assert f"{BOX}.colour is blue, wanted red" in failures[0].message

    rig.hosts.things["h1"].clear()
    with failing("FAILED_PRECONDITION") as failures:
        imported(rig)
    assert f"{BOX}.colour is absent, wanted red" in failures[0].message


def test_a_state_of_another_shape_is_refused(rig):
    """
    Nothing is read about it, and nothing is removed on its word; the error names the way.
    """
    state = rig.create({**RED, "destroy": True})
    older = State(state.id, {**state.inputs, "shape": "round"}, state.outputs)

    for call in (rig.read, rig.delete):
        with failing("INVALID_ARGUMENT") as failures:
            call(older)
        assert "shape got 'round'" in failures[0].message
        assert "`rackwright adopt lab --set-aside-state`" in failures[0].message


def test_removal_needs_the_consent_of_the_last_declaration(rig):
    state = rig.create(RED)

    with failing("FAILED_PRECONDITION") as failures:
        rig.delete(state)

    assert sentences(failures[0].message) == "h1/a.b: got destroy: false; consent. Write destroy: true."
    assert BOX in rig.hosts.things["h1"]


def test_removal_with_consent_takes_it_away_and_says_so(rig):
    state = rig.create({**RED, "destroy": True})

    rig.delete(state)

    assert rig.hosts.things["h1"] == {}
    assert rig.status_lines()[-2:] == ["step 1/1: take the box a.b away", "step 1/1: take the box a.b away: half"]
    assert rig.messages("INFO") == ["its content goes with it"]


def test_a_resource_that_the_program_still_declares_is_not_removed(rig):
    """
    After a replacement, or with another parent, the engine deletes the old entry of a resource that is still declared.
    """
    state = rig.create({**RED, "destroy": True})

    rig.delete(state, same_run=True)

    assert BOX in rig.hosts.things["h1"]
    assert "the program still declares it: only its old entry leaves the state" in rig.messages("INFO")


def test_removal_of_what_is_gone_already_is_done(rig):
    state = rig.create(RED)
    rig.hosts.things["h1"].clear()
    rig.hosts.done.clear()

    rig.delete(state)

    assert rig.hosts.done == []


def test_a_removal_that_leaves_something_is_a_failure(rig):
    state = rig.create({**RED, "destroy": True})
    rig.hosts.lies = True

    with failing("ABORTED") as failures:
        rig.delete(state)

    assert "the removal is incomplete: take the box a.b away" in failures[0].message


def test_nothing_is_forgotten_on_an_unreachable_host(rig):
    """
    Pulumi would drop the resource; the way out is named.
    """
    state = rig.create({**RED, "destroy": True})
    rig.hosts.down.add("h1")

    with failing("UNAVAILABLE") as failures:
        rig.delete(state)

    assert "`rackwright host forget lab h1`" in failures[0].message


def test_a_host_that_the_fleet_lost_is_not_changed_and_named(rig):
    """
    Although it answers, as a host of a twin does after its lines are gone, and although its data may be lost.
    """
    state = rig.create({**RED, "destroy": True})
    rig.undeclared.add("h1")

    with failing("FAILED_PRECONDITION") as failures:
        rig.delete(state)

    assert "the fleet does not declare h1 any more; nothing is changed on h1" in sentences(failures[0].message)
    assert "`rackwright host forget lab h1`" in failures[0].message
    assert BOX in rig.hosts.things["h1"]


def test_the_outcome_of_a_change_says_whether_its_host_was_reached(rig, tmp_path, monkeypatch):
    """
    No step has failed on a host that is off. What was unknown of a resource is not unknown after its removal.
    """
    monkeypatch.setenv(lifetime.VARIABLE, str(tmp_path / "records"))
    state = rig.create({**RED, "destroy": True})
    rig.hosts.down.add("h1")
    for change in (lambda: rig.update(state, RED), lambda: rig.delete(state)):
        with failing("UNAVAILABLE"):
            change()
    rig.read(state)
    off = outcomes.read(tmp_path / "records")
    assert off == {"done": {"h1/a.b"}, "unreachable": {"h1/a.b"}}

    rig.hosts.down.clear()
    rig.delete(state)

    assert outcomes.read(tmp_path / "records") == {"done": {"h1/a.b"}, "unreachable": set()}


def test_a_host_in_maintenance_is_left_alone(rig):
    """
    It is not observed, nothing differs, nothing is changed or removed, and the message says so.
    """
    state = rig.create({**RED, "destroy": True})
    rig.hosts.things["h1"][BOX]["colour"] = "blue"
    rig.maintenance["h1"] = "in maintenance until 2099-01-31: a new mainboard"

    assert rig.read(state).outputs == state.outputs
    assert rig.messages("INFO") == ["h1 is in maintenance until 2099-01-31: a new mainboard; its state is not read"]
    assert rig.diff(state, {**RED, "colour": "green"}) == {}
    for change in (lambda: rig.delete(state), lambda: rig.create({**RED, "name": "b"})):
        with failing("FAILED_PRECONDITION") as failures:
            change()
        text = "h1: the host is in maintenance until 2099-01-31: a new mainboard; nothing is changed on it"
        assert text in sentences(failures[0].message)

    rig.maintenance.clear()
    assert rig.diff(rig.read(state), RED)[f'claims["{BOX}"].colour'] == "UPDATE"


def test_no_work_begins_on_a_host_in_quarantine_and_that_which_is_there_stays(rig):
    """
    It is refused where it is new, and left as it is where it runs; its removal, and all else, goes on.
    """
    state = rig.create(RED)
    inside = quarantine([began("h1", detail="GPU 3")], ["h1", "h2"], 50)
    rig.quarantine.append(QuarantineLook(inside, "service-01: no answer"))

    assert rig.diff(state, RED) == {} and not rig.messages("WARNING")
    assert rig.diff(state, {**RED, "colour": "green"}) == {}
    text = "in quarantine since 2026-12-04T04:00:00Z: a GPU is lost (GPU 3)"
    assert f"h1 is {text}; it stays as it is there" in rig.messages("WARNING")
    assert "verdicts of quarantine since the last copy are unknown: service-01: no answer" in rig.messages("WARNING")
    for preview in (True, False):
        with failing("FAILED_PRECONDITION") as failures:
            rig.create({**RED, "name": "b"}, preview=preview)
        assert f"h1: the host is {text}" in sentences(failures[0].message)
    rig.create({**RED, "host": "h2", "destroy": True})
    assert "box:b" not in rig.hosts.things["h1"]

    rig.quarantine.clear()
    assert rig.diff(state, {**RED, "colour": "green"})


def test_what_stands_on_a_retired_host_is_let_go_as_it_is(rig):
    """
    Without consent, and whether or not the host can be reached.
    """
    state = rig.create(RED)
    rig.retired.add("h1")
    rig.hosts.down.add("h1")

    rig.delete(state)

    assert BOX in rig.hosts.things["h1"]
    assert rig.messages("INFO") == ["its host is retired: the resource stays there unchanged"]
