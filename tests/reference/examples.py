"""Examples of the reference: parts of fleets and commands that guides, tutorials and deployments have."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from rackwright.fleet.json_schema import schema
from rackwright.fleet.source import parse, read
from tests.reference.command_tree import Command, commands
from tests.support import pages
from tests.support.log import ROOT
from tests.support.yaml_blocks import blocks

LINES, COLUMNS, COMMAND_COLUMNS = 24, 112, 132
"""Size of the longest example of a fleet, and of the longest command."""
Place = tuple[str | int, ...]
"""The keys that lead to a part of a document."""
VARIABLE = re.compile(r"\$(?!\(rackwright env\))|(?<!sha256:)…")
PLACEHOLDER = re.compile(r"[A-Z]+")
ODD = re.compile(r"…|anybody")
"""A part that is no good example: it is cut, or a server without keys."""


@dataclass(frozen=True)
class Example:
    """A part of a fleet, or a command, and the page that has it."""

    text: str
    page: Path

    @property
    def link(self) -> str:
        """The page as a link of a page in docs/reference."""
        if self.page.suffix == ".md" and self.page.is_relative_to(ROOT / "docs"):
            title = self.page.read_text().partition("# ")[2].partition("\n")[0]
            return f"[{title}](../{self.page.relative_to(ROOT / 'docs')})"
        return f"`{self.page.relative_to(ROOT)}`"


def without_required(part: Any) -> Any:
    """Return a schema in which every key may be absent, since a block is a part of a fleet."""
    if isinstance(part, dict):
        kept = {key: value for key, value in part.items() if key != "required" or not isinstance(value, list)}
        return {key: without_required(value) for key, value in kept.items()}
    return [without_required(each) for each in part] if isinstance(part, list) else part


WHOLE: dict[str, Any] = schema({})["$defs"]
WHOLE["Host"]["properties"]["roles"] = {"type": "object"}  # the variables of roles have pages of their own
DEFINITIONS: dict[str, Any] = without_required(WHOLE)
ROOTS = ("FleetFile", "RunsFile")


@cache
def of_fleets() -> dict[str, Example]:
    """Return the example of each definition of the schema that has one."""
    found: dict[str, list[tuple[tuple[int, int, int, int], Example]]] = {}
    for order, (page, document) in enumerate(_documents()):
        for name, path, value in _parts(document):
            text = _render(document, path)
            if (
                len(text.splitlines()) <= LINES
                and max(map(len, text.splitlines())) <= COLUMNS
                and not re.search(ODD, text)
            ):
                required = len(value.keys() & {*WHOLE[name].get("required", ())})
                found.setdefault(name, []).append(((-required, -len(value), len(text), order), Example(text, page)))
    return {name: min(candidates, key=lambda each: each[0])[1] for name, candidates in found.items()}


def _documents() -> Iterator[tuple[Path, Any]]:
    """Yield the declarations of guides and tutorials, then those of the deployments."""
    for page in pages.TAUGHT:
        for block in blocks(page):
            yield page, _in_lines(parse(page, re.sub(r"\{…\}", "{}", block)).data)
    for file in sorted((ROOT / "stacks").glob("**/*.yaml")):
        if not file.name.startswith("Pulumi."):
            yield file, _in_lines(read(file).data)


def _in_lines(part: Any) -> Any:
    """Return *part* without certificates and other texts of several lines."""
    if isinstance(part, dict):
        return {key: _in_lines(each) for key, each in part.items() if not (isinstance(each, str) and "\n" in each)}
    return [_in_lines(each) for each in part] if isinstance(part, list) else part


def _parts(document: Any) -> Iterator[tuple[str, Place, Any]]:
    """Yield each definition that a part of *document* has the form of, with the place of the part and its value."""
    if not isinstance(document, dict):
        return
    for name in (*ROOTS, *DEFINITIONS):
        if document.keys() <= DEFINITIONS[name].get("properties", {}).keys() and _is_valid(
            {"$ref": f"#/$defs/{name}"}, document
        ):
            yield from _below({"$ref": f"#/$defs/{name}"}, (), document)
            return


def _below(part: Any, path: Place, value: Any) -> Iterator[tuple[str, Place, Any]]:
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        if isinstance(value, dict) and value:
            yield name, path, value
        part = DEFINITIONS[name]
    for choices in (part[key] for key in ("anyOf", "oneOf", "allOf") if key in part):
        for choice in choices:
            if _is_valid(choice, value):
                yield from _below(choice, path, value)
    if isinstance(value, dict):
        others = [*part.get("patternProperties", {}).values(), part.get("additionalProperties")]
        for key, each in value.items():
            for below in [part["properties"][key]] if key in part.get("properties", {}) else others:
                if isinstance(below, dict):
                    yield from _below(below, (*path, key), each)
    if isinstance(value, list) and isinstance(part.get("items"), dict):
        for number, each in enumerate(value):
            yield from _below(part["items"], (*path, number), each)


def _is_valid(part: Any, value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator({**part, "$defs": DEFINITIONS}).is_valid(value))


def _render(document: Any, path: Place) -> str:
    """Return the YAML of the part at *path*, below the keys that lead to it."""
    value = document
    for key in path:
        value = value[key]
    lines, indent = [], ""
    for key in path:
        if isinstance(key, int):
            indent += "- "
        else:
            lines.append(f"{indent}{key}:")
            indent = " " * len(indent) + "  "
    is_item = indent.endswith("- ")
    begin = "" if is_item or not lines else f"{lines.pop()} "
    flat = f"{indent if is_item else begin}{_flow(value)}"
    if len(flat) <= COLUMNS:
        return "\n".join([*lines, flat])
    own = _block(value)
    below = [f"{indent}{own[0]}", *(f"{' ' * len(indent)}{line}" for line in own[1:])]
    return "\n".join([*lines, *([begin.rstrip()] if begin else []), *below])


def _block(value: Any) -> list[str]:
    """Return the lines of a mapping: each key with its value in one line, or below it where that is too long."""
    lines = []
    for key, each in value.items() if isinstance(value, dict) else ():
        flat = f"{key}: {_flow(each)}"
        if len(flat) <= COLUMNS - 12 and not (
            isinstance(each, dict) and any(isinstance(one, dict) for one in each.values())
        ):
            lines.append(flat)
        elif isinstance(each, list):
            lines += [f"{key}:", *(f"  - {_flow(one)}" for one in each)]
        else:
            lines += [f"{key}:", *(f"  {line}" for line in _block(each))]
    return lines or [_flow(value)]


def _flow(value: Any) -> str:
    """Return *value* as YAML in one line."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case bool() | None | int() | float():
            return json.dumps(value)
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z0-9/~.][\w ./%@=+~-]*(:[\w./]+)*", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


@cache
def of_commands() -> dict[str, Sequence[Example]]:
    """Return for each command the shortest example that a page has, and the longest if it has more words.

    Raises:
        IndexError: No page has an example of one of them.
    """
    tree = dict(commands())
    found: dict[str, dict[str, Example]] = {name: {} for name in tree}
    for page in (*pages.TAUGHT, *ROOT.glob("docs/runbooks/*.md")):
        mentioned = ((shlex.join(words), words) for words in pages.mentioned(page))
        for text, words in (*pages.pasted_lines(page), *mentioned):
            name = next((name for name in (" ".join(words[1:3]), *words[1:2]) if name in tree), None)
            if name and words[0] == "rackwright" and _is_short(text) and _is_whole(name, tree[name], words):
                found[name].setdefault(text, Example(text, page))
    ordered = {name: sorted(examples.values(), key=lambda each: len(each.text)) for name, examples in found.items()}
    return {
        name: [each[0], *(long for long in each[-1:] if _words(long) > _words(each[0]))]
        for name, each in ordered.items()
    }


def _is_short(text: str) -> bool:
    return len(text) <= COMMAND_COLUMNS and not VARIABLE.search(text)


def _words(example: Example) -> int:
    return len(example.text.split())


def _is_whole(name: str, command: Command, words: Sequence[str]) -> bool:
    """Return whether the command line takes *words*; placeholders such as HOST are no example."""
    try:
        command.make_context(name, list(words[1 + len(name.split()) :]))
    except Exception:  # the classes of typer's errors are private
        return False
    return not any(PLACEHOLDER.fullmatch(word) for word in words)
