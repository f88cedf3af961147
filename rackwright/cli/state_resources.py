"""The resources that a stack's state declares, for an audit of programs that declare more than the fleet."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from rackwright.cli import state
from rackwright.errors import Diagnostic, SetupError
from rackwright.kinds.table import KINDS
from rackwright.provider import state_format
from rackwright.provider.inputs import parse_spec
from rackwright.stack import DeclaredResource


def read(stack: str) -> tuple[DeclaredResource, ...]:
    """Return the resources in the state of *stack*, in the order of the state.

    Raises:
        ChangeRefused: The state has another format.
        SetupError: A resource has another shape.
        StepFailed: Pulumi failed.
    """
    deployment: Mapping[str, Any] = state.parse_state(state.pulumi(stack, "stack", "export")).get("deployment") or {}
    for found in state_format.formats(deployment):
        state_format.check_format(found, stack)
    return tuple(_resource(stack, each) for each in state_format.managed_resources(deployment))


def _resource(stack: str, resource: Mapping[str, Any]) -> DeclaredResource:
    try:
        kind = KINDS[resource["type"]]
        return DeclaredResource(kind, parse_spec(kind, resource.get("inputs", {})))
    except (KeyError, ValidationError):
        name = resource["urn"].rpartition("::")[2]
        problem, expected = "this version cannot read its inputs in the state", "inputs that this version wrote"
        help = state_format.set_aside_help(stack)
        raise SetupError(Diagnostic(name, problem, expected, help, id="state-format")) from None
