"""Programs with the component of a rack, under the real pulumi and with a simulated host."""

import json

import pytest

from tests.pulumi.conftest import ROOT
from tests.pulumi.test_plugin import OneHost, made, obey, project

__all__ = ["made", "project"]
pytestmark = pytest.mark.pulumi

EARLIER = """
from pathlib import Path
import pulumi
from rackwright.provider.resources import CLASSES
from rackwright.stack import declare, load_stack

host = pulumi.ComponentResource("rackwright:index:GpuHost", "gpu-01", {})
resources = {}
for each in declare(load_stack(pulumi.get_stack(), Path.cwd())):
    options = pulumi.ResourceOptions(parent=host, depends_on=[resources[name] for name in each.after])
    resources[each.name] = CLASSES[each.token](each.name, each.inputs, options)
"""
"""A program of version 0.0: hosts have no parent."""


def steps(project: OneHost, *arguments: str) -> dict[str, str]:
    """Return the operations that a preview plans, by the name of the resource, without those that change nothing."""
    digest = project.pulumi("preview", "--json", *arguments).digest
    plan = {step["urn"].rpartition("::")[2]: step["op"] for step in digest["steps"]}
    return {name: op for name, op in plan.items() if op not in ("same", "read", "refresh")}


def test_a_state_without_the_component_of_the_rack_is_taken_over(project):
    """
    Hosts get their new parent by aliases: only the component is new, and no resource is replaced or deleted.
    """
    (project.directory / "__main__.py").write_text(EARLIER)
    obey(project.host)
    done = project.pulumi("up", "--yes", "--skip-preview")
    assert done.status == 0, done.text

    (project.directory / "__main__.py").write_text((ROOT / "__main__.py").read_text())
    assert steps(project) == {"rack": "create"}

    done = project.pulumi("up", "--yes", "--skip-preview")
    assert done.status == 0, done.text
    assert project.pulumi("preview", "--expect-no-changes").status == 0
    exported = json.loads(project.pulumi("stack", "export").raw)["deployment"]["resources"]
    tiers = [each["urn"] for each in exported if each["type"] == "rackwright:storage:Tier"]
    [tier] = tiers
    assert "::rackwright:index:Rack$rackwright:index:GpuHost$rackwright:storage:Tier::gpu-01/hot" in tier


def test_a_program_may_name_the_rack(made):
    """
    The name of the component is the program's own; a state that `run` or `adopt` wrote is taken over.
    """
    (made.directory / "__main__.py").write_text("import rackwright\n\nrackwright.Rack('lab')\n")

    assert steps(made) == {}


def test_an_error_in_the_fleet_ends_without_a_traceback(project):
    fleet = project.directory / "stacks/fleet.yaml"
    fleet.write_text(fleet.read_text().replace("raid10", "raid11"))

    refused = project.pulumi("preview")

    assert refused.status != 0
    assert "got 'raid11'" in refused.text
    assert "Traceback" not in refused.text
