"""The format of a stack's state, and the refusal of a state in another format.

The inputs of every resource in the state hold the format: every call of the engine has them, and an import makes them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.core.wire import JSON
from rackwright.errors import ChangeRefused, Diagnostic, command

STATE_FORMAT = 3
"""The format that this version reads and writes. A change that an older state does not survive adds 1: another shape
of a spec, other names of claimed properties, another JSON form of values."""
FIRST_FORMAT = 1
"""The format of resources without a number."""
PROPERTY = "state_format"
"""The input with the format."""
OURS = "rackwright:"
"""The start of the types of rackwright's resources."""
RACK, HOST = f"{OURS}index:Rack", f"{OURS}index:GpuHost"
"""Types of the components: of the rack, and below it of each host, which is the parent of the host's resources."""
RACK_NAME = "rack"
"""The name of the rack's component in a state that `adopt` writes; a program with another name takes it over."""


def managed_resources(deployment: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the resources of the provider in *deployment*, of `pulumi stack export`: no components."""
    resources = deployment.get("resources") or ()
    return [each for each in resources if each.get("custom") and each["type"].startswith(OURS)]


def formats(deployment: Mapping[str, Any]) -> Iterator[JSON]:
    """Yield the format of each of the provider's resources in *deployment*."""
    return (format_of(resource.get("inputs", {})) for resource in managed_resources(deployment))


def format_of(inputs: Mapping[str, JSON]) -> JSON:
    """Return the format that *inputs* of a resource in the state name."""
    return inputs.get(PROPERTY, FIRST_FORMAT)


def check_format(found: JSON, stack: str) -> None:
    """Return if *found* is the format of this version.

    Raises:
        ChangeRefused: The state of *stack* has another format.
    """
    if found == STATE_FORMAT:
        return
    problem = f"its state has format {found}, of another version of rackwright"
    if isinstance(found, int) and found > STATE_FORMAT:
        help = "Use the version of rackwright that wrote the state"
    else:
        help = set_aside_help(stack)
    raise ChangeRefused(Diagnostic(f"stack {stack}", problem, f"format {STATE_FORMAT}", help, id="state-format"))


def set_aside_help(stack: str) -> str:
    """Return the way from a state that this version cannot read."""
    adopt = command("rackwright adopt {} --set-aside-state", stack)
    return f"Run {adopt}: it keeps the old state in a file, and takes the hosts over as they are"
