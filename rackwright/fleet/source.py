"""The reader of YAML 1.2 files, which returns plain data with the line of every value."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.schema.problem import Keys, Problem, excerpt

BYTES_MAX = 8 << 20
"""Largest file in bytes. Parsing takes memory of 20 times the file's size, and 1 s for each MB."""
TAG = "tag:yaml.org,2002:"
SCALARS: dict[str, Callable[[str], Any]] = {
    f"{TAG}null": lambda text: None,
    f"{TAG}bool": lambda text: text.lower() == "true",
    f"{TAG}int": lambda text: int(text, 0 if text[:2] in ("0o", "0x") else 10),
    f"{TAG}float": lambda text: float(re.sub(r"\.(?=[a-z])", "", text.lower())),
    f"{TAG}str": str,
}


NUMBERS = (f"{TAG}int", f"{TAG}float")
NUMBER_MAX = 2**53
"""Largest number that all programs read exactly from JSON."""
NUMBERS_UP_TO = f"numbers up to {NUMBER_MAX}"
A_FILE = "a regular file that this account may read"
DECIMAL = r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]+)?"


class _Loader(yaml.CSafeLoader):
    """libyaml with the scalars of YAML 1.2's core schema: no base-60 MAC addresses, no booleans named ``on``."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 -- PyYAML's name; filled here, for this class alone


_NUMBER = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
for _tag, _pattern, _first in (
    ("null", r"|~|null|Null|NULL", ["", "~", "n", "N"]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", rf"{_NUMBER}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"{TAG}{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


@dataclass(frozen=True)
class Source:
    """The content of one file."""

    path: Path
    data: dict[str, Any]
    """Mappings, lists and scalars. All keys are strings; the first of two equal keys wins."""
    mistakes: tuple[tuple[int, Diagnostic], ...]
    """Errors for keys that appear twice and for numbers in another form than the decimal one, with their lines.

    The loader reports them with all other errors.
    """
    _root: Any
    _entries: dict[int, dict[Any, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Entries of each list and mapping that was walked, by the id of its node: a report asks for thousands of lines."""

    def error(self, problem: Problem, keys: Keys, also: Keys | None = None) -> Diagnostic:
        """Return *problem* with its file, line and path, and the line of the conflicting value at *also*."""
        where = f"{self.path}:{self.line(keys)}"
        place = f"{where}: {format_keys(keys)}" if keys else where
        return problem.at(place, "" if also is None else f"line {self.line(also)}")

    def depth(self, keys: Keys) -> int:
        """Return how many of *keys* the file has, each below the one before."""
        return len(list(self._walk(keys)))

    def line(self, keys: Keys) -> int:
        """Return the line of the last of *keys* that the file has; 1 if it has none."""
        return [1, *(_line(key) for key, _ in self._walk(keys))][-1]

    def text(self, keys: Keys) -> str | None:
        """Return the scalar at *keys* exactly as written; None if there is none."""
        nodes = [value for _, value in self._walk(keys)]
        return nodes[-1].value if len(nodes) == len(keys) and isinstance(nodes[-1], yaml.ScalarNode) else None

    def span(self, keys: Keys) -> tuple[int, int] | None:
        """Return the indexes in the text where the scalar at *keys* begins and ends; None if there is none."""
        nodes = [value for _, value in self._walk(keys)]
        if len(nodes) != len(keys) or not isinstance(nodes[-1], yaml.ScalarNode):
            return None
        return int(nodes[-1].start_mark.index), int(nodes[-1].end_mark.index)

    def mapping(self, keys: Keys) -> tuple[int, int] | None:
        """Return the indexes in the text where the mapping of scalars at *keys* begins and ends; None for others."""
        nodes = [value for _, value in self._walk(keys)]
        node = nodes[-1] if len(nodes) == len(keys) else None
        if not isinstance(node, yaml.MappingNode) or not node.value:
            return None
        if node.flow_style:
            return int(node.start_mark.index), int(node.end_mark.index)
        last = node.value[-1][1]
        if not isinstance(last, yaml.ScalarNode):
            return None
        return int(node.value[0][0].start_mark.index), int(last.end_mark.index)

    def block(self, keys: Keys) -> tuple[int, int] | None:
        """Return the column and the last line of the mapping at *keys*; None if none, empty, or in braces."""
        node = [value for _, value in self._walk(keys)][-1] if self.depth(keys) == len(keys) else None
        if not isinstance(node, yaml.MappingNode) or node.flow_style or not node.value:
            return None
        return node.value[0][0].start_mark.column, _last_line(node)

    def _walk(self, keys: Keys) -> Iterator[tuple[Any, Any]]:
        node = self._root
        for key in keys:
            entries = self._entries.get(id(node))
            if entries is None:
                entries = self._entries[id(node)] = _entries(node)
            if key not in entries:
                return
            key_node, node = entries[key]
            yield key_node, node


def _entries(node: Any) -> dict[Any, tuple[Any, Any]]:
    """Return the nodes of key and value below *node* by key or index; a list's item stands for its key."""
    if isinstance(node, yaml.SequenceNode):
        return {index: (item, item) for index, item in enumerate(node.value)}
    if isinstance(node, yaml.MappingNode):
        return {key_node.value: (key_node, value) for key_node, value in reversed(node.value)}
    return {}


def _last_line(node: Any) -> int:
    """Return the last line of *node*, without the comments and blank lines after it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    # the end mark of a block scalar is at the start of the next line
    return int(node.end_mark.line) + (1 if node.end_mark.column else 0)


def read(path: Path) -> Source:
    """Return the content of the YAML file *path*.

    Raises:
        DeclarationError: the file is missing or not UTF-8, or `parse` refuses it.
    """
    try:
        text = read_bytes(path).decode("utf-8")
    except OSError as error:
        problem = f"the file cannot be read: {error.strerror}"
        raise _only(path, problem, A_FILE, "Correct the name") from None
    except UnicodeDecodeError as error:
        line, byte = error.object[: error.start].count(b"\n") + 1, error.object[error.start]
        raise _only(f"{path}:{line}", f"got the byte 0x{byte:02x}", "the file is UTF-8", "Save it as UTF-8") from None
    return parse(path, text)


def read_bytes(path: Path) -> bytes:
    """Return the bytes of *path*, a regular file of at most `BYTES_MAX` bytes.

    Raises:
        DeclarationError: the file is larger, or not a regular file.
        OSError: the file cannot be read.
    """
    with path.open("rb") if path.is_file() or not path.exists() else _refuse_file(path) as file:
        content = file.read(BYTES_MAX + 1)
    if len(content) > BYTES_MAX:
        size = path.stat().st_size
        problem, expected = f"the file has {size} bytes", f"{BYTES_MAX >> 20} MiB at most, room for 1000 hosts of 8 KiB"
        raise _only(f"{path}:1", problem, expected, "Split the fleet, or correct the name")
    return content


def _refuse_file(path: Path) -> NoReturn:
    raise _only(path, "not a regular file", A_FILE, "Correct the name")


def parse(path: Path, text: str) -> Source:
    """Return the YAML *text* as the present or future content of *path*.

    Raises:
        DeclarationError: the text is not YAML 1.2, has anchors or tags, or is not a mapping.
    """
    try:
        _refuse_extras(path, text)
        root = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(path, error) from None
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        problem = f"got the character U+{error.character:04X}"
        raise _only(f"{path}:{line}", problem, "YAML has printable characters only", "Remove it") from None
    except RecursionError:
        raise _nesting_error(path) from None
    if not isinstance(root, yaml.MappingNode):
        content = (
            "no content" if root is None else "a list" if isinstance(root, yaml.SequenceNode) else f"{root.value!r}"
        )
        help = "Begin with a key and a colon, such as `fleet:`"
        raise _only(f"{path}:1", f"the file has {content}", "a mapping", help)
    mistakes: list[tuple[int, Diagnostic]] = []
    try:
        return Source(path, _to_plain_data(path, root, (), mistakes), tuple(mistakes), root)
    except RecursionError:
        raise _nesting_error(path) from None


def _nesting_error(path: Path) -> DeclarationError:
    problem, expected = "hundreds of lists or mappings are nested", "a dozen levels at most"
    return _only(f"{path}:1", problem, expected, "Look for unclosed brackets")


def _refuse_extras(path: Path, text: str) -> None:
    """Raise DeclarationError for anchors, aliases and tags, which YAML has beyond mappings, lists and scalars."""
    if not any(sign in text for sign in "&*!"):
        return  # the loop below takes as long as the rest of the parsing
    errors = []
    for event in yaml.parse(text, _Loader):
        where = f"{path}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if anchor := getattr(event, "anchor", None):
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            expected, help = "YAML without anchors", "Write the value here; hosts of a fleet share values by a group"
            errors.append(Diagnostic(where, f"got the anchor {sign}{anchor}", expected, help))
        if tag := getattr(event, "tag", None):
            problem = f"got the tag {tag.replace(TAG, '!!')}"
            errors.append(Diagnostic(where, problem, "YAML without tags", "Remove it"))
    if errors:
        raise DeclarationError(*errors)


def _to_plain_data(path: Path, node: Any, keys: Keys, mistakes: list[tuple[int, Diagnostic]]) -> Any:
    if isinstance(node, yaml.ScalarNode):
        try:
            value = SCALARS[node.tag](node.value)
        except ValueError:  # Python refuses a number with more than 4300 digits
            where, problem = f"{path}:{_line(node)}: {format_keys(keys)}", f"got a number of {len(node.value)} digits"
            raise _only(where, problem, NUMBERS_UP_TO, "Write a smaller number") from None
        if node.tag in NUMBERS and (wrong := _number_problem(node.value, value)):
            mistakes.append((_line(node), wrong.at(f"{path}:{_line(node)}: {format_keys(keys)}")))
        return value
    if isinstance(node, yaml.SequenceNode):
        return [_to_plain_data(path, item, (*keys, index), mistakes) for index, item in enumerate(node.value)]
    mapping: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value in node.value:
        key, line = key_node.value, _line(key_node)
        if not isinstance(key_node, yaml.ScalarNode):
            raise _only(f"{path}:{line}", "got a list or mapping as a key", "a key is a text", "Write one word")
        if key in mapping:
            where, note = f"{path}:{line}: {format_keys((*keys, key))}", f"line {lines[key]} has it already"
            error = Diagnostic(where, "got the key twice", "each key once", "Remove one of the two", note)
            mistakes.append((line, error))
            continue
        lines[key] = line
        mapping[key] = _to_plain_data(path, value, (*keys, key), mistakes)
    return mapping


def _number_problem(text: str, value: float) -> Problem | None:
    """Return the problem of the number *text* that is *value*; None if all readers of YAML agree about it."""
    if not re.fullmatch(DECIMAL, text):
        expected = "a decimal number without zeros before it: readers of YAML disagree about other forms"
        help = f"Write {value}, or a text in quotes" if abs(value) < NUMBER_MAX else "Write a finite number"
        return Problem(f"got the number {excerpt(text)}", expected, help)
    if not abs(value) <= NUMBER_MAX:  # infinite, too
        problem, expected = f"got a number of {len(text)} digits", NUMBERS_UP_TO
        return Problem(problem, expected, "Write a smaller number")
    return None


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _syntax_error(path: Path, error: Any) -> DeclarationError:
    mark = error.problem_mark or error.context_mark
    context = f"{error.context} that begins in line {error.context_mark.line + 1}, " if error.context_mark else ""
    problem, help = f"got a syntax error ({context}{error.problem})", "Check this line and the one above"
    return _only(f"{path}:{mark.line + 1}", problem, "YAML 1.2", help)


def _only(where: object, problem: str, expected: str, help: str) -> DeclarationError:
    return DeclarationError(Diagnostic(str(where), problem, expected, help))


def format_keys(keys: Keys) -> str:
    """Return *keys* as a message prints them: ``hosts.node-1.drives[2].size``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
