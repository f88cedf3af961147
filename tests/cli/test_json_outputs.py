"""The JSON documents of commands: one table of their types, one form, and a schema for each."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from rackwright import terminal
from rackwright.cli import json_outputs
from rackwright.cli.app import app
from rackwright.cli.json_outputs import OUTPUTS, json_schema
from rackwright.errors import DeclarationError
from tests.support import json_documents, warm_command
from tests.support.json_documents import check

WITHOUT = {
    "cluster exec": "it prints what its command prints",
    "destroy": "it changes hosts, and shows what it is going to do to a person",
    "dashboards": "it writes files, and prints their paths",
    "drive replace": "it edits the fleet's file, and prints nothing",
    "enrol": "it shows a secret once, to a person",
    "env": "it prints lines for a shell",
    "explain": "it prints a part of the documentation",
    "host forget": "it edits the state, and prints nothing",
    "init": "it writes files, and prints the next steps for a person",
    "inventory": "it prints an inventory in the form of Ansible",
    "log add-key": "it changes the log, and prints a line for a person",
    "log restart": "it changes the log, and prints a line for a person",
    "log accept": "it changes the log, and prints a line for a person",
    "log revoke-key": "it changes the log, and prints a line for a person",
    "secret generate": "it edits the settings of a stack, and prints names for a person",
    "secret set": "it edits the settings of a stack, and prints nothing",
    "schema": "it prints a JSON Schema",
    "toolchain": "it prints a path for a shell",
    "twin console": "it prints what a machine wrote",
    "twin fault": "it changes a machine, and prints nothing",
    "twin reset": "it changes machines, and prints nothing",
    "twin ssh": "it prints what a command on a host prints",
    "twin start": "it changes machines, and prints nothing",
    "twin stop": "it changes machines, and prints nothing",
    "up": "it changes hosts, and prints pulumi's progress; `preview --json` has its plan",
}
"""The commands without --json, with the reason."""
STACKS = {
    "schema_version": 1,
    "stacks": [{"stack": "a", "target": "rack", "fleet": "a.yaml", "hosts": 2, "problem": ""}],
}


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield each command that does something by itself, by its words after ``rackwright``."""
    if subcommands := getattr(command, "commands", None):
        for name, child in subcommands.items():
            yield from commands(child, (*words, name))
    else:
        yield " ".join(words), command


def test_each_command_has_a_type_or_a_reason() -> None:
    all_commands = dict(commands(typer.main.get_command(app)))
    with_option = {name for name, each in all_commands.items() if any("--json" in one.opts for one in each.params)}

    assert with_option | {"digests"} == OUTPUTS.keys()
    assert all_commands.keys() - OUTPUTS.keys() == WITHOUT.keys()


def keys(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield each key of the objects in *schema*, with its own schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
        for each in schema.values():
            yield from keys(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from keys(each)


@pytest.mark.parametrize("command", OUTPUTS)
def test_each_key_is_in_snake_case_and_has_a_meaning(command: str) -> None:
    schema = json_schema(command)
    wrong = []
    for name, value in keys(schema):
        target = schema["$defs"].get(value.get("$ref", "").rpartition("/")[2], {})
        meaning = value.get("description") or target.get("description")
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or not meaning:
            wrong.append(name)

    assert wrong == []


@pytest.mark.parametrize("command", OUTPUTS)
def test_each_schema_is_one_of_an_object_with_a_version(command: str) -> None:
    schema = json_schema(command)
    Draft202012Validator.check_schema(schema)

    for choice in schema["anyOf"]:
        document = schema["$defs"][choice["$ref"].rpartition("/")[2]]
        assert (document["type"], document["required"][0]) == ("object", "schema_version")


def test_the_schema_of_a_command_accepts_its_document_and_its_errors() -> None:
    shown = CliRunner().invoke(app, ["schema", "--output", "stacks"])
    validator = Draft202012Validator(json.loads(shown.stdout))

    assert validator.is_valid(STACKS)
    assert validator.is_valid({"schema_version": 1, "errors": [{"problem": "no answer", "id": "host-busy"}]})
    assert not validator.is_valid({**STACKS, "stacks": [{"stack": "a"}]})
    assert not validator.is_valid({"stacks": []})
    assert validator.is_valid({**STACKS, "later": 1}), "a later version may add keys"


def test_a_command_without_json_has_no_schema() -> None:
    with pytest.raises(DeclarationError, match="no command 'gpu tops' prints JSON.*Write gpu top"):
        json_schema("gpu tops")


@pytest.mark.parametrize(
    "document",
    [
        {**STACKS, "more": 1},
        {**STACKS, "stacks": [{**STACKS["stacks"][0], "more": 1}]},
        {**STACKS, "stacks": [{**STACKS["stacks"][0], "hosts": "2"}]},
        {"schema_version": 1},
        {"stacks": []},
        {**STACKS, "schema_version": 2},
        {"schema_version": 1, "errors": [{"where": "a"}]},
    ],
)
def test_another_form_is_found(document: Any) -> None:
    check("stacks", json.dumps(STACKS))

    with pytest.raises(ValueError, match=r"stacks|errors|version|problem"):
        check("stacks", json.dumps(document))


def test_the_documents_of_all_tests_are_checked(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """
    A command that prints another form ends with an error in the test that runs it.
    """
    from rackwright.cli import doctor

    monkeypatch.setattr(doctor, "checks", lambda: [doctor.Check("twin", "broken", "")])  # type: ignore[arg-type]
    ended = CliRunner().invoke(app, ["doctor", "--json"])

    assert isinstance(ended.exception, ValueError)
    assert "checks.0.state" in str(ended.exception)
    with pytest.raises(ValueError, match="no command prints this document"):
        terminal.show_json({"a": 1})
    with pytest.raises(ValueError, match="stacks"):
        json_documents.check_printed(("stacks", "--json"), '{"schema_version": 1}')
    assert capsys.readouterr().out == ""


def test_a_document_of_a_stream_is_one_line(capsys: Any) -> None:
    terminal.show_json({"host": "a", "line": "b\nc"}, stream=True)
    terminal.show_json({"errors": [{"problem": "no log"}]}, stream=True)

    first, second = capsys.readouterr().out.splitlines()
    assert (json.loads(first)["line"], json.loads(second)["schema_version"]) == ("b\nc", 1)


@pytest.mark.parametrize("line", ["\x7f", "\x1b[2J", "\x9b2J", "\u202e", "°C"])
def test_a_text_from_a_host_is_the_same_in_json_and_moves_no_cursor(line: str, capsys: Any) -> None:
    terminal.show_json({"host": "a", "line": line}, stream=True)
    shown = capsys.readouterr().out

    assert json.loads(shown)["line"] == line
    assert shown.strip().isprintable() and shown.isascii()


def test_a_check_of_a_declaration_counts_or_lists_errors(tmp_path: Any) -> None:
    done: subprocess.CompletedProcess[str] = warm_command.run("check", "lab", "--json", cwd=warm_command.ROOT)
    assert json.loads(done.stdout)["hosts"] == 2

    (tmp_path / "Pulumi.yaml").write_text("name: rackwright\nruntime: python\n")
    done = warm_command.run("check", "lab", "--json", cwd=tmp_path)
    assert (done.returncode, len(json.loads(done.stdout)["errors"])) == (2, 1)


def test_the_table_and_the_page_have_the_same_commands() -> None:
    assert sorted(OUTPUTS) == [*OUTPUTS], "in the order of the alphabet"
    assert OUTPUTS.keys() >= json_outputs.STREAMS
