"""The component of a rack: its resources for the recorded fleets, and its handles, with Pulumi's mocks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
import pytest

from rackwright import Rack
from rackwright.program import rack as module
from rackwright.stack import Stack, declare
from tests.support.diagnostics import sentences
from tests.support.recorded_hosts import ALSO, HERE, STACK

SERVED = next(stack for stack in ALSO if stack.fleet.servers)
Read = Callable[[Rack], Any]


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
def declared(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, dict[str, Any]], Any]]:
    """A function that declares the rack of a stack, and returns the registrations and the values of outputs."""

    def run(stack: Stack, read: Read = lambda rack: rack.mounts) -> tuple[dict[str, dict[str, Any]], Any]:
        recorder = Recorder()
        pulumi.runtime.set_mocks(recorder, project="rackwright", stack="lab")
        monkeypatch.setattr(module, "load_stack", lambda name, project: stack)
        values: list[Any] = []

        def program() -> pulumi.Output[Any]:
            return pulumi.Output.from_input(read(Rack("rack"))).apply(values.append)

        pulumi.runtime.test(program)()
        return recorder.seen, values[0]

    return run


@pytest.mark.parametrize("stack", (STACK, *ALSO), ids=lambda stack: stack.fleet.fleet)
def test_every_declared_resource_is_registered_as_it_is_declared(stack, declared):
    """
    The same names and inputs as the audit and the provider see, and one component per host.
    """
    seen, _ = declared(stack)

    expected: dict[str, dict[str, Any]] = {}
    for resource in declare(stack):
        expected.setdefault(resource.token, {})[resource.name] = resource.inputs
    assert {token: seen[token] for token in expected} == expected
    assert seen["rackwright:index:GpuHost"].keys() == set(stack.fleet.hosts)
    assert seen["rackwright:index:Rack"].keys() == {"rack"}


def test_the_mounts_include_provided_tiers(declared):
    fleet = STACK.fleet
    tier = (
        fleet.hosts["gpu-01"]
        .tiers["hot"]
        .model_copy(update={"level": None, "filesystem": None, "provided": True, "mount": "/mnt/theirs"})
    )
    host = fleet.hosts["gpu-01"].model_copy(update={"tiers": {"theirs": tier}})
    stack = replace(STACK, fleet=fleet.model_copy(update={"hosts": {"gpu-01": host}}))

    _, mounts = declared(stack)

    assert mounts == {"gpu-01": {"theirs": "/mnt/theirs"}}


def test_a_tier_has_its_mount_as_an_output(declared):
    _, mount = declared(STACK, lambda rack: rack.hosts["gpu-01"].tiers["hot"].mount)

    assert mount == "/srv/hot"


def test_a_server_has_a_url_on_each_host(declared):
    _, urls = declared(SERVED, lambda rack: rack.servers["digits"].urls)
    _, url = declared(SERVED, lambda rack: rack.servers["digits"].url)

    hosts = SERVED.fleet.servers["digits"].members(SERVED.fleet.hosts)
    assert list(urls) == list(hosts)
    assert url == urls[hosts[0]]


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda rack: rack.hosts["gpu-9"], "stacks/rack.yaml: the program uses the host gpu-9"),
        (lambda rack: rack.hosts["gpu-01"].tiers["hott"], "hosts.gpu-01: the program uses the tier hott"),
        (lambda rack: rack.hosts["gpu-01"].roles["x"], "hosts.gpu-01: the program uses the role x"),
        (lambda rack: rack.servers["x"], "stacks/rack.yaml: the program uses the server x"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_names_there(declared, read, message):
    with pytest.raises(pulumi.RunError) as error:
        declared(STACK, read)

    assert message in str(error.value)
    assert "expected: " in str(error.value)


def test_a_program_for_another_fleet_is_refused(monkeypatch):
    pulumi.runtime.set_mocks(Recorder(), project="rackwright", stack="lab")
    monkeypatch.chdir(HERE.parents[1])

    with pytest.raises(pulumi.RunError) as error:
        Rack("lab", fleet="stacks/rack-full.yaml")

    wanted = "stack lab: got the fleet stacks/rack.yaml; the program is for stacks/rack-full.yaml"
    assert sentences(str(error.value)).startswith(wanted)


@pytest.mark.parametrize("on", ["rack", "parent"])
def test_a_provider_of_the_program_is_refused(monkeypatch, on):
    """
    Pulumi would replace every resource of a state with the default provider.
    """
    pulumi.runtime.set_mocks(Recorder(), project="rackwright", stack="lab")
    monkeypatch.setattr(module, "load_stack", lambda name, project: STACK)
    options = pulumi.ResourceOptions(providers=[pulumi.ProviderResource("rackwright", "mine", {})])
    if on == "parent":
        options = pulumi.ResourceOptions(parent=pulumi.ComponentResource("mine:index:Site", "site", {}, options))

    with pytest.raises(pulumi.RunError) as error:
        Rack("rack", opts=options)

    assert "the program passes a provider of rackwright" in str(error.value)


def test_an_invalid_stack_is_an_error_for_pulumi(monkeypatch, tmp_path: Path):
    pulumi.runtime.set_mocks(Recorder(), project="rackwright", stack="absent")
    (tmp_path / "Pulumi.yaml").write_text("name: mine")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(pulumi.RunError) as error:
        Rack("rack")

    assert "stack absent: got no stacks/Pulumi.absent.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("role", "variables", "url"),
    [
        ("mlflow", {}, "https://127.0.0.1:5000"),
        ("mlflow", {"address": "fd00::1", "port": 5001}, "https://[fd00::1]:5001"),
        ("node_exporter", {"address": "192.0.2.7"}, "http://192.0.2.7:9100/metrics"),
        ("base", {}, None),
    ],
)
def test_a_role_with_a_service_has_its_url(role, variables, url):
    assert STACK.repository.roles[role].url("debian-12", variables) == url
