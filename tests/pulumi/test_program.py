"""The program: what it declares for the example rack, seen through Pulumi's mocks."""

from typing import Any

import pulumi
import pytest

from rackwright.declaration import declare
from stacks.program import build
from tests.kinds.conftest import STACK


class Recorder(pulumi.runtime.Mocks):
    """Answers every registration and remembers it as name: inputs, by type."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.seen.setdefault(args.typ, {})[args.name] = args.inputs
        return args.name, args.inputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"unexpected call to {args.token}")


@pytest.fixture
def built() -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What was registered, and what is exported."""
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="rackwright", stack="lab")
    exported: dict[str, Any] = {}

    def program() -> pulumi.Output[Any]:
        return pulumi.Output.from_input(build(STACK)).apply(exported.update)

    pulumi.runtime.test(program)()
    return recorder.seen, exported


def test_every_declared_resource_is_registered_as_it_is_declared(built):
    """
    The same names and inputs as the audit and the provider see, and one component per host.
    """
    seen, _ = built

    declared: dict[str, dict[str, Any]] = {}
    for resource in declare(STACK):
        declared.setdefault(resource.token, {})[resource.name] = resource.inputs
    assert {token: seen[token] for token in declared} == declared
    assert seen["rackwright:index:GpuHost"].keys() == set(STACK.fleet.hosts)


def test_the_mounts_are_exported(built):
    _, exported = built

    assert exported["mounts"]["gpu-01"] == {"hot": "/srv/hot", "warm": "/srv/warm"}
