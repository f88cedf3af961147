"""Check and Diff: what is declared, and what differs from it, without a look at any host."""

from typing import Any

import pytest
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2

from rackwright.provider.codec import decode, encode
from rackwright.provider.subject import COMPUTED
from tests.support.provider_rig import BOX, RED, Rig, failing


def problems(rig: Rig, inputs: dict[str, Any]) -> dict[str, str]:
    answer = rig.stub.Check(provider_pb2.CheckRequest(urn=rig.urn(inputs), news=encode(inputs)))
    return {failure.property: failure.reason for failure in answer.failures}


def test_claims_are_added_to_the_inputs(rig):
    """
    What is claimed stands under `claims`, without what the target cannot show; defaults are written out.
    """
    inputs = rig.check(RED)

    assert inputs["kilograms"] == 5 and isinstance(inputs["kilograms"], int)
    assert inputs["claims"][BOX] == {"colour": "red", "kilograms": {"at_least": 5}, "lid": "shut", "tags": []}
    assert "scale:a.b" not in inputs["claims"]
    assert "scale:a.b" in rig.check({**RED, "not_rehearsable": []})["claims"]


def test_the_claims_of_a_secret_are_secrets_of_pulumi(rig):
    """
    Pulumi encrypts what is claimed of a secret, and prints none of it.
    """
    answer = rig.stub.Check(provider_pb2.CheckRequest(urn=rig.urn(RED), news=encode(RED)))

    digest = decode(answer.inputs)["claims"]["lock:a.b"]["digest"]
    assert digest == {rpc._special_sig_key: rpc._special_secret_sig, "value": "d1"}


def test_checking_again_changes_nothing(rig):
    """
    Inputs that went through Check come out of it as they are, whatever a program writes under `claims`.
    """
    inputs = rig.check({**RED, "tags": ["b", "a"], "wipe": {"RW-1": "ext4"}})

    assert rig.check(inputs) == inputs
    assert rig.check({**inputs, "claims": {"box:a.b": {"colour": "blue"}}}) == inputs


def test_an_input_other_than_in_the_fleet_is_refused(rig):
    """
    A transformation would make the preview and the audit, which compares with the fleet, disagree.
    """
    declared = rig.check(RED)
    token = rig.token, "h1/a.b"
    rig.declared[token] = {**declared, "colour": "blue"}
    assert list(problems(rig, RED)) == ["colour"]
    assert "the fleet's file declares another" in problems(rig, RED)["colour"]

    rig.declared[token] = {name: value for name, value in declared.items() if name not in COMPUTED}
    assert problems(rig, RED) == {}


def test_every_wrong_input_is_named_with_its_path(rig):
    """
    All problems at once, each at its property, with what was got.
    """
    found = problems(rig, {"host": "h1", "name": 5, "colour": "red", "wipe": {"RW-1 x": 7}, "shape": "round"})

    assert found.keys() == {"name", 'wipe["RW-1 x"]', "shape"}
    assert "got 5" in found["name"]


def test_an_output_of_another_resource_is_no_input(rig):
    """
    A declaration is plain data: a value that preview cannot know is refused at once.
    """
    assert problems(rig, {**RED, "tags": ["a", rpc.UNKNOWN]}).keys() == {"tags"}


def test_a_kind_that_is_not_there_is_named(rig):
    """
    A resource type of another version is an error that lists the known ones.
    """
    other = "urn:pulumi:lab::rackwright::rackwright:toy:Crate::x"
    with failing("INVALID_ARGUMENT") as failures:
        rig.stub.Check(provider_pb2.CheckRequest(urn=other, news=encode(RED)))

    assert "one of rackwright:toy:Box" in failures[0].message


def test_neither_check_nor_diff_touches_a_host(rig):
    """
    The engine calls them one after another, so they answer from what is known.
    """
    state = rig.create(RED)
    rig.hosts.down.add("h1")

    assert rig.diff(state, RED) == {}


def test_nothing_differs_after_creation(rig):
    assert rig.diff(rig.create(RED), RED) == {}


def test_a_drifted_property_differs_under_its_claim(rig):
    """
    The path leads to the property in inputs (wanted) and outputs (found) alike.
    """
    state = rig.create(RED)
    rig.hosts.things["h1"][BOX]["colour"] = "blue"
    rig.hosts.things["h1"]["file:/etc/box.d/a.b.conf"]["mode"] = "0666"

    drifted = rig.read(state)

    assert rig.diff(drifted, RED) == {
        'claims["box:a.b"].colour': "UPDATE",
        'claims["file:/etc/box.d/a.b.conf"].mode': "UPDATE",
    }
    assert drifted.outputs["claims"][BOX]["colour"] == "blue"


def test_what_is_gone_is_added_again(rig):
    """
    Absence is a difference of each property, and never makes the resource gone.
    """
    state = rig.create(RED)
    del rig.hosts.things["h1"][BOX]

    gone = rig.read(state)

    assert gone.id == "h1/a.b"
    assert set(rig.diff(gone, RED).values()) == {"ADD"}


def test_the_unknown_is_a_warning_and_no_change(rig):
    """
    Nothing can be done about what cannot be looked at, but it is not passed over in silence.
    """
    state = rig.create(RED)
    rig.hosts.unknown("h1", BOX, "colour")

    assert rig.diff(rig.read(state), RED) == {}
    assert rig.messages("WARNING") == [
        "box:a.b.colour is unknown (no permission), wanted red;"
        " find out why it cannot be read, before anything is changed there",
    ]


def test_a_claim_made_for_the_first_time_is_a_change(rig):
    """
    The last state cannot tell about it; to wait for a look at it would be to wait for ever.
    """
    state = rig.create(RED)

    assert 'claims["scale:a.b"].exact' in rig.diff(state, {**RED, "not_rehearsable": []})


@pytest.mark.parametrize("change", [{"destroy": True}, {"wipe": {"RW-1": "ext4 3f2a"}}], ids=str)
def test_an_input_that_alters_no_claim_is_a_change(rig, change):
    """
    Pulumi would store it silently otherwise, and nobody would see a consent being given.
    """
    assert rig.diff(rig.create(RED), {**RED, **change}) == dict.fromkeys(change, "input")


def test_a_change_pending_for_an_unreachable_host_stays_a_change(rig):
    state = rig.create(RED)
    rig.hosts.down.add("h1")

    blue = rig.diff(rig.read(state), {**RED, "colour": "blue"})

    assert blue == {'claims["box:a.b"].colour': "UPDATE", "colour": "input"}
