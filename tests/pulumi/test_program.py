"""The program: what it declares for the example rack, seen through Pulumi's mocks."""

from typing import Any

import pulumi
import pytest

from rackwright.stack import Stack, declare
from stacks.program import build
from tests.support.recorded_hosts import ALSO, STACK


class Recorder(pulumi.runtime.Mocks):
    """Answers every registration and remembers it as name: inputs, by type."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.seen.setdefault(args.typ, {})[args.name] = args.inputs
        return args.name, args.inputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"unexpected call to {args.token}")


def built(stack: Stack) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return what is registered for *stack*, and what is exported."""
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="rackwright", stack="lab")
    exported: dict[str, Any] = {}

    def program() -> pulumi.Output[Any]:
        return pulumi.Output.from_input(build(stack)).apply(exported.update)

    pulumi.runtime.test(program)()
    return recorder.seen, exported


@pytest.mark.parametrize("stack", (STACK, *ALSO), ids=lambda stack: stack.fleet.fleet)
def test_every_declared_resource_is_registered_as_it_is_declared(stack):
    """
    The same names and inputs as the audit and the provider see, and one component per host.
    """
    seen, _ = built(stack)

    declared: dict[str, dict[str, Any]] = {}
    for resource in declare(stack):
        declared.setdefault(resource.token, {})[resource.name] = resource.inputs
    assert {token: seen[token] for token in declared} == declared
    assert seen["rackwright:index:GpuHost"].keys() == set(stack.fleet.hosts)


def test_the_mounts_are_exported():
    _, exported = built(STACK)

    assert exported["mounts"]["gpu-01"] == {"hot": "/srv/hot", "warm": "/srv/warm"}
