"""The format of the state: each resource in it has the number, and another number is refused by every call."""

from dataclasses import replace

import pytest

from rackwright.provider.state_format import PROPERTY, STATE_FORMAT
from tests.support.provider_rig import RED, failing

REFUSED = "stack lab: its state has format 1, of another version of rackwright"


def test_the_format_is_an_input_and_no_difference(rig):
    state = rig.create(RED)

    assert state.inputs[PROPERTY] == state.outputs[PROPERTY] == STATE_FORMAT
    assert rig.diff(state, RED) == {}
    assert rig.read(state).inputs[PROPERTY] == STATE_FORMAT


def test_an_imported_resource_has_the_format(rig):
    rig.create(RED)
    rig.declared[rig.token, "h1/a.b"] = RED

    inputs, _ = rig.provider._resources.import_resource(_urn(rig), "h1/a.b")

    assert inputs[PROPERTY] == STATE_FORMAT


def _urn(rig):
    from rackwright.provider.subject import Urn

    return Urn("lab", rig.token)


def old(state, number):
    inputs = {**state.inputs, PROPERTY: number, "machine": "h1"}
    return replace(state, inputs={name: value for name, value in inputs.items() if name != "host" and value})


@pytest.mark.parametrize("call", ("read", "diff", "preview", "update", "delete"))
def test_every_call_refuses_an_older_state(rig, call):
    """
    Its inputs have another shape, about which nothing is to be read.
    """
    state = rig.create(RED)
    done = [*rig.hosts.done]
    state = old(state, None)
    calls = {
        "read": lambda: rig.read(replace(state, inputs={**state.inputs, **NAMES})),
        "diff": lambda: rig.diff(state, RED),
        "preview": lambda: rig.update(state, RED, preview=True),
        "update": lambda: rig.update(state, RED),
        "delete": lambda: rig.delete(replace(state, inputs={**state.inputs, **NAMES})),
    }

    with failing("FAILED_PRECONDITION") as failures:
        calls[call]()

    assert REFUSED in failures[0].message
    assert "`rackwright adopt lab --set-aside-state`" in failures[0].message
    assert rig.hosts.done == done


NAMES = {"host": "h1", "name": "a.b"}
"""The inputs of which the name of a resource is made."""


def test_the_way_is_named_once(rig):
    state = old(rig.create(RED), None)

    with failing("FAILED_PRECONDITION") as first:
        rig.diff(state, RED)
    with failing("FAILED_PRECONDITION") as second:
        rig.diff(state, RED)

    assert "--set-aside-state" in first[0].message
    assert second[0].message == f"[state-format] {REFUSED}"


def test_a_newer_state_needs_its_own_version(rig):
    state = old(rig.create(RED), STATE_FORMAT + 1)

    with failing("FAILED_PRECONDITION") as failures:
        rig.diff(state, RED)

    assert "Use the version of rackwright that wrote the state" in failures[0].message
