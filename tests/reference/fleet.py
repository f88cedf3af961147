"""The page of a fleet's keys, from the JSON Schema that `rackwright schema` prints."""

import json
import re
from collections.abc import Iterator
from typing import Any

from rackwright.fleet.json_schema import schema
from tests.reference import examples
from tests.reference.markdown import code, page, table

Schema = dict[str, Any]
ROOTS = {"FleetFile": "A fleet of hosts", "RunsFile": "A fleet of runs and servers"}
NAMES = {
    "Api": "API",
    "Dns": "DNS",
    "Nic": "NIC",
    "Lora": "LoRA",
    "Ssh": "SSH",
    "Tls": "TLS",
    "Vlan": "VLAN",
    "Vllm": "vLLM",
}
"""Words of definitions as their owners write them."""
UNITS = ("PiB", "TiB", "GiB", "MiB", "KiB")
INTRODUCTION = """\
A fleet file is YAML 1.2. A file with `uses` declares runs and servers on the hosts of another fleet; a file without it
declares hosts. `stacks/FLEET.py` with `fleet() -> Fleet` is a fleet in Python: see `stacks/rack_py.py`.

A [role](roles.md) has its own variables. `rackwright schema` prints this schema for editors, and `rackwright check
STACK` also finds contradictions between values. In groups and hosts, null removes the value of the level above.

A number is decimal, without zeros before it. A text is one line of printable characters; only certificates, keys and
the files of images have several lines.

A size is a number with a unit: B, kB, MB, GB, TB, PB are powers of 1000, and KiB, MiB, GiB, TiB, PiB are powers of
1024.

Each section begins with an example from a guide or a deployment. The name of a key leads to itself, so that a message
or a page can link to it: `fleet.md#tier.level`."""


def render() -> str:
    """Return docs/reference/fleet.md."""
    definitions: dict[str, Schema] = schema({})["$defs"]
    order = list(dict.fromkeys(name for root in ROOTS for name in _reachable(root, definitions)))
    sections = [_section(name, definitions[name]) for name in order]
    return page("Fleet file", "the JSON Schema in rackwright/fleet/json_schema.py", INTRODUCTION, *sections)


def _reachable(name: str, definitions: dict[str, Schema], seen: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield *name* and the definitions below it, each before those that it refers to."""
    yield name
    for other in _references(definitions[name]):
        if other not in seen and other != name:
            yield from _reachable(other, definitions, (*seen, name))


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _section(name: str, definition: Schema) -> str:
    title = ROOTS.get(name, _heading(name))
    required = definition.get("required", ())
    rows = [
        (
            _anchored(title, key), value.get("description", ""), kind(value),
            "required" if key in required else default(value),
        )
        for key, value in definition.get("properties", {}).items()
    ]  # fmt: skip
    text = " ".join(definition.get("description", "").split())
    example = examples.of_fleets()[name]
    parts = [f"## {title}", text, f"```yaml\n{example.text}\n```", f"From {example.link}."]
    keys = table(("key", "meaning", "value", "default"), rows)
    parts += [f'<div class="keys" markdown="1">\n\n{keys}\n\n</div>']
    return "\n\n".join(filter(None, parts))


def _heading(name: str) -> str:
    """Return the words of a definition's name: CheckpointPolicy is "Checkpoint policy"."""
    words = [NAMES.get(word, word.lower()) for word in re.findall(r"[A-Z][a-z]+", name)]
    first = words[0] if words[0] in NAMES.values() else words[0].capitalize()
    return " ".join([first, *words[1:]])


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def _anchored(heading: str, key: str) -> str:
    """Return a key with an anchor that others can link to, such as `tier.level`."""
    place = f"{_anchor(heading)}.{key}"
    return f'<a id="{place}" href="#{place}">{code(key)}</a>'


def kind(value: Schema) -> str:
    """Return what a value may be, in words, with a link to the section of a mapping."""
    if "$ref" in value:
        heading = _heading(value["$ref"].rpartition("/")[2])
        first = heading.partition(" ")[0]
        text = heading if first in NAMES.values() else heading[:1].lower() + heading[1:]
        return f"[{text}](#{_anchor(heading)})"
    for together in ("anyOf", "oneOf", "allOf"):
        if together in value:
            return " or ".join(dict.fromkeys(kind(each) for each in value[together] if each.get("type") != "null"))
    if "enum" in value or "const" in value:
        return " ".join(code(each) for each in value.get("enum", [value.get("const")]))
    return _typed(value)


def _typed(value: Schema) -> str:
    match value.get("type"):
        case "array":
            return f"list of {kind(value['items'])}" if value.get("items") else "list"
        case "object":
            below = [*value.get("patternProperties", {}).values(), value.get("additionalProperties")]
            named = [kind(each) for each in below if isinstance(each, dict) and each]
            return f"by name: {named[0]}" if named else "mapping"
        case "integer" | "number" as name:
            return " ".join([name, *_bounds(value)])
        case "string" if "KiB" in value.get("pattern", ""):
            return "size"
        case name:
            return str(name or "any value")


def _bounds(value: Schema) -> Iterator[str]:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "more than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    for key, word in words.items():
        if key in value:
            yield f"{word} {value[key]}"


def default(value: Schema) -> str:
    """Return the default as a user writes it; empty if there is none or if it is a section of its own."""
    found = value.get("default")
    if found is None or "$ref" in value:
        return ""
    if isinstance(found, int) and not isinstance(found, bool) and kind(value) == "size":
        return code(_size(found))
    return code(found if isinstance(found, str) else json.dumps(found))


def _size(number: int) -> str:
    for power, unit in zip(range(5, 0, -1), UNITS, strict=True):
        if number and number % 1024**power == 0:
            return f"{number // 1024**power}{unit}"
    return f"{number}B"
