"""The generated reference: it is fresh, and nothing is missing in it."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from rackwright.cli.paragraphs import STATUSES
from rackwright.fleet.json_schema import schema
from rackwright.kinds.role.refusals import refusals
from tests.reference import facts
from tests.reference.cli import render_examples
from tests.reference.command_tree import commands
from tests.reference.pages import EXAMPLES, FOLDER, PAGES
from tests.support.our_roles import ROLES
from tests.test_docs import parse


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_the_code_makes_it(name: str) -> None:
    assert (FOLDER / name).read_text() == PAGES[name](), "make reference writes it again"


def test_the_examples_of_the_help_texts_are_those_of_the_guides() -> None:
    assert EXAMPLES.read_text() == render_examples(), "make reference writes it again"


def test_the_help_of_each_command_has_an_example_and_the_exit_statuses() -> None:
    examples = dict(line.split("\t") for line in EXAMPLES.read_text().splitlines())
    for name, command in commands():
        assert command.epilog.startswith(f"Example: {examples[name]}"), name
        texts = f"{command.help}\n\n{command.epilog}"
        assert len(re.findall(r"Exit status(?:es)?: ", texts)) == 1, name
        if "Exit status" in command.epilog:
            assert command.epilog.endswith(STATUSES)


def keys(value: Any) -> Iterator[str]:
    """Yield each key that a mapping of a fleet may have."""
    if isinstance(value, dict):
        properties = value.get("properties")
        if isinstance(properties, dict):
            yield from properties
        for each in value.values():
            yield from keys(each)
    elif isinstance(value, list):
        for each in value:
            yield from keys(each)


def test_each_key_of_a_fleet_is_described() -> None:
    rows = re.findall(r"^\| <a .*?>`(\w+)`</a> \| (.*?) \| (.*?) \| .*? \|$", (FOLDER / "fleet.md").read_text(), re.M)
    described = {key for key, meaning, kind in rows if kind and meaning}
    variables = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", (FOLDER / "variables.md").read_text(), re.M)

    assert set(keys(schema({}))) - described - {*variables} == set()


def test_each_command_and_option_is_described() -> None:
    text = (FOLDER / "cli.md").read_text()
    for name, command in commands():
        section = text.partition(f"### rackwright {name}\n")[2].partition("\n### ")[0]
        assert section, name
        for option in (each for parameter in command.params for each in parameter.opts if each.startswith("--")):
            assert option == "--help" or re.search(rf"^\| `[^`]*{option}\b", section, re.M), f"{name} {option}"


def test_each_command_has_an_example_that_the_command_line_takes() -> None:
    text = (FOLDER / "cli.md").read_text()
    for name, _ in commands():
        section = text.partition(f"### rackwright {name}\n")[2].partition("\n### ")[0]
        [block] = re.findall(r"```sh\n(.*?)```", section, re.S)
        for line in block.splitlines():
            command = line.removeprefix('eval "$(').removesuffix(')"')
            parse(shlex.split(command.partition(" > ")[0].partition(" < ")[0]))


def test_each_section_of_a_fleet_has_an_example_and_each_key_an_anchor() -> None:
    text = (FOLDER / "fleet.md").read_text()
    sections = text.split("\n## ")[1:]
    anchors = re.findall(r'<a id="([^"]+)" href="#([^"]+)">', text)

    for section in sections:
        assert section.count("```yaml\n") == 1, section.partition("\n")[0]
    assert len(sections) > 50
    assert all(place == target for place, target in anchors)
    assert {"tier.level", "vllm.tensor_parallel", "lora-adapter.sha256"} <= {place for place, _ in anchors}
    assert len({*anchors}) == len(anchors)


@pytest.mark.parametrize("role", ROLES)
def test_each_variable_of_a_role_is_described(role: str) -> None:
    section = (FOLDER / "roles" / f"{role}.md").read_text().partition("\n| --- |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .+? \| .*? \|$", section, re.M)

    assert [name for name, _ in rows] == [name.removeprefix(f"{role}_") for name in ROLES[role].options]


def test_each_fact_is_described() -> None:
    views = [view for module in facts.MODULES.values() for view in facts.views(module)]

    assert [(view.__name__, name) for view in views for name, meaning in facts.names(view) if not meaning] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_variable_without_which_a_role_is_refused_is_marked_so(role: str) -> None:
    """The page of role postgresql showed no default for `databases`, and nothing that it has to be there."""
    source = ROLES[role]
    section = (FOLDER / "roles" / f"{role}.md").read_text()
    refused = {str(each.path[0]) for each in refusals(source, next(iter(source.by_os)), {}) if each.path}
    assert role != "postgresql" or refused >= {"databases", "certificate", "key"}
    for name in refused:
        assert source.defaults.get(f"{role}_{name}") or re.search(rf"(?m)^\| `{name}` \|.*\| required \|$", section)
