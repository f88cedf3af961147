"""The page of the JSON documents that commands print, from their types."""

from collections.abc import Iterator
from typing import Any

from rackwright.cli.json_outputs import OUTPUTS, STREAMS, json_schema
from tests.reference.cli import shortest_usage
from tests.reference.command_tree import commands
from tests.reference.markdown import code, page, table

INTRODUCTION = """\
`--json` prints the result of a command as one JSON object on standard output; progress and errors for people stay on
standard error. `rackwright schema --output COMMAND` prints the JSON Schema of the object.

- Names are in snake case, as in the fleet file. A name ends with its unit: `size_bytes`, `eta_seconds`, `p99_ms`.
- A value that does not exist is `null`. A key that is *optional* below may be absent.
- Times are UTC, as in RFC 3339: `2026-11-28T08:01:02+00:00`.
- `schema_version` is {version}. It grows if a key is removed or renamed, or if the meaning of its value changes. New
  keys may come without another version, so a program ignores keys that it does not know.
- `*` stands for a name, such as that of a host; `[]` for each item of a list.
- A command that an error ends prints [the errors](#errors) instead, in one line. Wrong options and Ctrl-C print no
  object. The [exit status](exit-statuses.md) is the same with and without `--json`.
- The commands {streams} print any number of objects, each in a line of its own.

`rackwright digests` always prints JSON, but an error as text alone. `rackwright inventory` prints an inventory in the
form of Ansible, as YAML, and `rackwright schema` prints a JSON Schema."""
NAMES = {"integer": "integer", "number": "number", "string": "text", "boolean": "boolean", "null": "null"}


def render() -> str:
    """Return docs/reference/json.md."""
    schemas = {command: json_schema(command) for command in OUTPUTS}
    version = _document(schemas["audit"])["properties"]["schema_version"]["const"]
    streams = " and ".join(code(f"rackwright {command}") for command in sorted(STREAMS))
    index = table(
        ("command", "object"),
        (
            (f"[`rackwright {command}`](#{_anchor(command)})", _first_line(_document(schema)))
            for command, schema in schemas.items()
        ),
    )
    errors = schemas["audit"]["$defs"]["Errors"]
    return page(
        "JSON",
        "rackwright/cli/json_outputs.py and the types of the documents",
        INTRODUCTION.format(version=version, streams=streams),
        index,
        _section("Errors", errors, schemas["audit"]),
        *(
            _section(f"rackwright {command}", _document(schema), schema, _example(command))
            for command, schema in schemas.items()
        ),
    )


def _anchor(command: str) -> str:
    return "-".join(["rackwright", *command.split()])


def _document(schema: Any) -> Any:
    """Return the object that a command prints if no error ends it."""
    return _resolved(schema["anyOf"][0], schema)


def _example(name: str) -> str:
    option = "" if name == "digests" else " --json"
    return f"```text\n{shortest_usage(name, dict(commands())[name])}{option}\n```"


def _section(title: str, document: Any, schema: Any, example: str = "") -> str:
    rows = (row for row in _rows(document, schema, "") if row[0] != code("schema_version"))
    keys = table(("key", "type", "meaning"), rows)
    return "\n\n".join([f"## {title}", _first_line(document), *filter(None, [example]), keys])


def _first_line(document: Any) -> str:
    return " ".join(document["description"].partition("\n\n")[0].split())


def _rows(document: Any, schema: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    """Yield the path, the type and the meaning of each key of *document* and of the objects below it."""
    for name, value in document["properties"].items():
        optional = "" if name in document.get("required", ()) else ", optional"
        yield code(f"{prefix}{name}"), _type(value, schema) + optional, _resolved(value, schema)["description"]
        for path, below in _objects(value, schema, f"{prefix}{name}"):
            yield from _rows(below, schema, f"{path}.")


def _objects(value: Any, schema: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield each object with keys of its own in *value*, with its path."""
    value = _resolved(value, schema)
    for choice in value.get("anyOf", ()):
        yield from _objects(choice, schema, path)
    if "properties" in value:
        yield path, value
    elif isinstance(values := value.get("additionalProperties"), dict):
        yield from _objects(values, schema, f"{path}.*")
    elif "items" in value:
        yield from _objects(value["items"], schema, f"{path}[]")


def _type(value: Any, schema: Any) -> str:
    value = _resolved(value, schema)
    if "const" in value:
        return code(value["const"])
    if "enum" in value:
        return " ".join(map(code, value["enum"]))
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_type(choice, schema) for choice in value["anyOf"]))
    if value.get("type") == "array":
        return f"list of {_plural(_type(value['items'], schema))}"
    if isinstance(values := value.get("additionalProperties"), dict):
        return f"mapping to {_plural(_type(values, schema))}"
    if value.get("type") == "object":
        return "object" if "properties" in value else "mapping to any values"
    return "time" if value.get("format") == "date-time" else NAMES.get(str(value.get("type")), "any value")


def _plural(text: str) -> str:
    words = {"integer": "integers", "number": "numbers", "text": "texts", "object": "objects", "boolean": "booleans"}
    return words.get(text, text)


def _resolved(value: Any, schema: Any) -> Any:
    """Return *value*, or the part of *schema* to which it refers, with the description of *value*."""
    if "$ref" not in value:
        return value
    target = schema["$defs"][value["$ref"].rpartition("/")[2]]
    return {**target, **{key: each for key, each in value.items() if key != "$ref"}}
