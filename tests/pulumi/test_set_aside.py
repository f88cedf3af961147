"""A state that another version wrote: refused once, moved aside, and its hosts taken over."""

import copy
import json
from typing import Any

import pytest

from rackwright.provider.state_format import PROPERTY
from tests.pulumi.conftest import Boxes, Project, States
from tests.pulumi.test_adopt import ALL, Found, project

__all__ = ["project"]
pytestmark = pytest.mark.pulumi


def exported(stack: Project) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(stack.pulumi("stack", "export", "--stack", "lab").raw)
    return content


def write_old_state(stack: Project) -> dict[str, Any]:
    """Rewrite the state as an older version would have written it, and return it as pulumi exports it."""
    content = exported(stack)
    for resource in content["deployment"]["resources"]:
        for properties in (resource.get("inputs", {}), resource.get("outputs", {})):
            if properties.pop(PROPERTY, None):
                properties["machine"] = properties.pop("host")
    path = stack.directory / "old.json"
    path.write_text(json.dumps(content))
    assert stack.pulumi("stack", "import", "--stack", "lab", "--file", str(path)).status == 0
    return exported(stack)


@pytest.fixture
def old_boxes(boxes: Boxes, states: States) -> Boxes:
    """Two boxes on their hosts, and a state of them that an older version wrote."""

    def make() -> dict[str, Any]:
        assert boxes.pulumi("up", "--yes", "--skip-preview").status == 0
        write_old_state(boxes)
        return copy.deepcopy(boxes.rig.hosts.things)

    boxes.rig.hosts.things = copy.deepcopy(states.give("old-boxes", boxes, make))
    return boxes


@pytest.fixture
def old_project(project: Found, states: States) -> Found:
    """A host that was taken over, and a state of it that an older version wrote."""

    def make() -> None:
        project.rackwright("adopt", "lab")
        write_old_state(project)

    project.discover()
    states.give("old-adopted", project, make)
    return project


@pytest.mark.parametrize(
    "command",
    (["preview"], ["refresh", "--yes", "--skip-preview"], ["destroy", "--yes", "--skip-preview"]),
    ids=lambda argv: argv[0],
)
def test_an_old_state_is_refused_once(old_boxes, command):
    """
    Plain pulumi names the way once for the whole state, and shows no difference; the hosts stay as they are.
    """
    hosts = old_boxes.rig.hosts
    things, done = str(hosts.things), [*hosts.done]

    refused = old_boxes.pulumi(*command)

    assert refused.status != 0
    assert "stack lab: its state has format 1, of another version of rackwright" in refused.text
    assert refused.text.count("help: Run `rackwright adopt lab --set-aside-state`") == 1
    assert "claims" not in refused.text
    assert (str(hosts.things), hosts.done) == (things, done)


def test_an_old_state_is_set_aside_and_its_hosts_are_taken_over(old_project: Found):
    """
    The file has the old state, the preview is clean, nothing is sent to a host, and the command can be repeated.
    """
    project, old = old_project, exported(old_project)
    for command in (["preview"], ["up", "--yes"], ["destroy", "--yes"], ["adopt"]):
        assert "rackwright adopt lab --set-aside-state" in project.errors(*command, "lab", status=2)

    file = project.directory / ".rackwright/states/lab.format-1.json"
    file.parent.mkdir()
    file.write_text("{}")
    assert "is never overwritten" in project.errors("adopt", "lab", "--set-aside-state", status=2)
    assert exported(project) == old
    file.unlink()

    moved = json.loads(project.rackwright("adopt", "lab", "--set-aside-state", "--json"))
    rest = {"already_adopted": [], "not_adopted": {}, "changes": {}, "undeclared": []}
    assert moved == {"schema_version": 1, "adopted": ALL, "set_aside": str(file), **rest}
    assert json.loads(file.read_text()) == old
    assert file.stat().st_mode & 0o777 == 0o600
    project.rackwright("preview", "lab")

    again = json.loads(project.rackwright("adopt", "lab", "--set-aside-state", "--json"))
    assert (again["adopted"], again["already_adopted"], again["set_aside"]) == ([], ALL, None)
    assert project.host.steps == []


def test_an_interrupted_command_is_repeated(old_project: Found):
    """
    The first command ended after it wrote the file; a second one goes on with the same file.
    """
    project = old_project
    text = project.pulumi("stack", "export", "--stack", "lab").raw
    file = project.directory / ".rackwright/states/lab.format-1.json"
    file.parent.mkdir()
    file.write_text(text)

    moved = json.loads(project.rackwright("adopt", "lab", "--set-aside-state", "--json"))

    assert (moved["adopted"], moved["set_aside"]) == (ALL, str(file))
    assert file.read_text() == text
