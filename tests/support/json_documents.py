"""A check of each JSON document that commands print under test, against the type of the command's document."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from rackwright import terminal

_show_json = terminal.show_json


def check_all() -> Callable[[], None]:
    """Check each document that this process prints from now on, and return a function that ends the check.

    The types are imported at the first document: they need most of rackwright.
    """

    def show_json(document: object, stream: bool = False) -> None:
        _check_any(_command(), _text(document))
        _show_json(document, stream)

    def end() -> None:
        terminal.show_json = _show_json

    terminal.show_json = show_json
    return end


def check_printed(arguments: Sequence[str], stdout: str) -> None:
    """Check what `rackwright ARGUMENTS` printed as JSON; *stdout* may be empty."""
    from rackwright.cli.json_outputs import OUTPUTS, STREAMS

    command = next((words for words in (" ".join(arguments[:n]) for n in (2, 1)) if words in OUTPUTS), None)
    if command and "--json" in arguments and stdout.strip():
        for text in stdout.splitlines() if command in STREAMS else [stdout]:
            check(command, text)


def checked(command: str, document: object) -> Any:
    """Return *document* as a program reads it from the output of *command*, without its version.

    Raises:
        ValueError: Documents of the command have another form.
    """
    text = _text(document)
    check(command, text)
    return {key: value for key, value in json.loads(text).items() if key != "schema_version"}


def _text(document: object) -> str:
    """Return the text that the command line prints for *document*."""
    texts: list[str] = []
    show = terminal.show
    terminal.show = lambda text="", end="\n", flush=False: texts.append(str(text))
    try:
        _show_json(document)
    finally:
        terminal.show = show
    return texts[0]


def _command() -> str | None:
    """Return the words of the command that runs here; None outside a command, for example for its errors."""
    from typer._click.globals import get_current_context  # the environment of the workloads has no typer

    context: Any = get_current_context(silent=True)
    return context.command_path.partition(" ")[2] if context else None


def check(command: str, text: str) -> None:
    """Check *text* as a document of *command*: each required key is there, and no other one.

    Raises:
        ValueError: It is no such document.
    """
    from rackwright.cli.json_outputs import OUTPUTS, VERSION
    from rackwright.cli.json_types import Errors

    content = json.loads(text)
    if content.pop(VERSION, None) != terminal.JSON_VERSION:
        raise ValueError(f"{command}: the document has no {VERSION} {terminal.JSON_VERSION}")
    document = Errors if content.keys() == {"errors"} else OUTPUTS[command]
    _adapter(document).validate_json(json.dumps(content))


@cache
def _adapter(document: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    # pydantic takes a configuration for a union, and refuses one for a TypedDict or a dataclass by itself
    return TypeAdapter(document | None, config=ConfigDict(extra="forbid", strict=True))


def _check_any(command: str | None, text: str) -> None:
    from rackwright.cli.json_outputs import OUTPUTS

    if command is not None:
        check(command, text)
    elif not any(_is_valid(each, text) for each in OUTPUTS):
        raise ValueError(f"no command prints this document: {text}")


def _is_valid(command: str, text: str) -> bool:
    try:
        check(command, text)
    except ValueError:
        return False
    return True
