"""The part of the application that a command line needs: the same command as in the whole application, and no other."""

import pytest
import typer
from typer.main import get_command

from rackwright.cli.app import app
from rackwright.cli.narrow import narrow

WHOLE = get_command(app)


@pytest.mark.parametrize("name", sorted(WHOLE.commands))
def test_a_command_is_the_same_alone(name):
    alone = get_command(narrow(app, [name, "--help"]))
    context = typer.Context(WHOLE, info_name="rackwright")

    assert [*alone.commands] == [name]
    assert [each.name for each in alone.params] == [each.name for each in WHOLE.params]
    assert alone.commands[name].get_help(context) == WHOLE.commands[name].get_help(context)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["chekc", "lab"], [""]])
def test_the_application_is_whole_without_the_name_of_a_command(arguments):
    assert narrow(app, arguments) is app


def test_the_application_keeps_its_commands():
    narrow(app, ["check"])

    assert get_command(app).commands.keys() == WHOLE.commands.keys()
