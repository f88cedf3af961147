"""`check` names audited stacks that the project does not have."""

import dataclasses

from rackwright.stack import load_stack
from rackwright.stack.missing_stacks import missing_stacks
from tests.support.log import ROOT


def test_an_audit_of_an_unknown_stack_is_named_with_a_near_name() -> None:
    """
    A renamed stack, or a slip, would only be noticed when its alert fires.
    """
    stack = load_stack("hospital", ROOT)
    assert stack.fleet.monitoring
    assert [*missing_stacks(stack)] == []

    monitoring = stack.fleet.monitoring.model_copy(
        update={"audits": {"hospital": 26, "hospital-modls": 26, "another-place": 1}}
    )
    fleet = stack.fleet.model_copy(update={"monitoring": monitoring})
    near, other = missing_stacks(dataclasses.replace(stack, fleet=fleet))

    assert near.startswith("monitoring.audits.hospital-modls: this project has no such stack")
    assert near.endswith("Write hospital-models")
    assert other.endswith("Write the stack's name, or leave it out")
