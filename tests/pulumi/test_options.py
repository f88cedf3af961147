"""Pulumi's options on a rack: what works, and what is refused, as docs/explanation/pulumi.md lists it."""

import json

import pytest

from tests.pulumi.test_plugin import OneHost, made, project
from tests.pulumi.test_rack import steps

__all__ = ["made", "project"]
pytestmark = pytest.mark.pulumi
TIER = "urn:pulumi:lab::rackwright::rackwright:index:Rack$rackwright:index:GpuHost$rackwright:storage:Tier::gpu-01/hot"
TRANSFORMED = """
import pulumi
import rackwright

def change(args):
    if args.type_ != "rackwright:storage:Tier":
        return None
    return pulumi.ResourceTransformResult(
        props={{**args.props, **{props}}}, opts=pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions({opts}))
    )

rackwright.Rack("rack", opts=pulumi.ResourceOptions(transforms=[change]))
"""
MOVED = """
import pulumi
import rackwright

site = pulumi.ComponentResource("mine:index:Site", "site", {})
alias = pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)
rackwright.Rack("rack", opts=pulumi.ResourceOptions(parent=site, aliases=[alias]))
"""
READER = """
import pulumi

mounts = pulumi.StackReference("organization/rackwright/lab").require_output("mounts")
pulumi.export("mount", mounts.apply(lambda hosts: hosts["gpu-01"]["hot"]))
"""


def write(project: OneHost, program: str) -> None:
    (project.directory / "__main__.py").write_text(program)


def test_a_transformation_may_change_options_and_no_inputs(made):
    """
    `protect` stops a destruction; another mount is refused, and so is ignoreChanges of one.
    """
    write(made, TRANSFORMED.format(props={}, opts="protect=True"))
    assert made.pulumi("up", "--yes", "--skip-preview").status == 0
    refused = made.pulumi("destroy", "--yes", "--skip-preview")
    assert refused.status != 0 and "because it is protected" in refused.text

    declared = {"declared": {"level": "raid10", "filesystem": "xfs", "mount": "/srv/other"}}
    write(made, TRANSFORMED.format(props=declared, opts=""))
    assert "the program changes this value of gpu-01/hot" in made.pulumi("preview").text

    write(made, TRANSFORMED.format(props={}, opts="ignore_changes=['declared']"))
    fleet = made.directory / "stacks/fleet.yaml"
    fleet.write_text(fleet.read_text().replace("/srv/hot", "/srv/hot, options: [nodiratime]"))
    assert "the program changes this value of gpu-01/hot" in made.pulumi("preview").text
    assert made.host.steps == []


def test_a_rack_moves_with_its_resources(made):
    """
    With an alias the state follows; without one the resources are created at their new URNs, and stay on the host.
    """
    write(made, MOVED)
    assert steps(made) == {"site": "create"}

    write(made, MOVED.replace(", aliases=[alias]", ""))
    done = made.pulumi("up", "--yes", "--skip-preview")
    assert done.status == 0, done.text
    assert "the program still declares it: only its old entry leaves the state" in done.text
    assert made.host.steps == []


def test_one_resource_can_be_the_target_and_none_is_replaced(made):
    """
    An update of a target reads and changes the target alone; a replacement changes nothing on the host.
    """
    digest = made.pulumi("preview", "--json", "--target", TIER).digest
    assert {step["urn"] for step in digest["steps"] if step["op"] == "refresh"} == {TIER}

    replaced = made.pulumi("up", "--yes", "--skip-preview", "--replace", TIER)
    assert replaced.status == 0, replaced.text
    assert made.host.steps == []
    assert steps(made) == {}


def test_another_project_reads_the_mounts_by_a_stack_reference(made, tmp_path_factory):
    reader = tmp_path_factory.mktemp("reader")
    (reader / "Pulumi.yaml").write_text("{name: reader, runtime: python}")
    (reader / "__main__.py").write_text(READER)
    other = OneHost(reader, made.environment, made.rack, made.host)
    assert other.pulumi("stack", "init", "prod").status == 0

    done = other.pulumi("up", "--yes", "--skip-preview", "--stack", "prod")

    assert done.status == 0, done.text
    exported = json.loads(other.pulumi("stack", "output", "--json", "--stack", "prod").raw)
    assert exported == {"mount": "/srv/hot"}
