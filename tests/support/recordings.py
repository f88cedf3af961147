"""Recorded data: files with one entry a line, and variants that hold their differences from another file alone.

`python -m tests.support.recordings` writes all of them anew, in that form. A variant is
`{"of": NAME, "changes": [...]}`. A change has the path of a value and the value, or the path alone if the value is not
there. A part of a path is the key of an object, or `{key: value}`, which is the element of a list with that value.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.log import ROOT

LONGEST = 700
"""Characters of a line; a longer entry stands on several lines, unless it is one text or number."""
IDENTITIES = ("serial", "name", "path", "device", "mountpoint", "uuid", "unit", "address", "destination")
"""Keys of which the first that all elements of two lists have, each another value, says which elements are the same."""
FOLDERS = ("tests/facts/recorded", "tests/kinds/recorded", "tests/audit/undeclared")
FILES = (
    *("tests/facts/genuine_files.json", "tests/facts/gpus.json", "tests/facts/kubeadm_files.json"),
    *("tests/facts/md_superblocks.json", "tests/facts/netlink.json", "tests/facts/netplan_files.json"),
    "tests/kinds/recorded_nftables.json",
)

Change = list[Any]
"""The path of a value, and the value, if there is one."""


def read(path: Path) -> Any:
    """Return the data of the file *path*, that of a variant with its changes."""
    data = json.loads(path.read_text())
    if isinstance(data, dict) and data.keys() == {"of", "changes"}:
        original = read(path.with_name(f"{data['of']}.json"))
        for change in data["changes"]:
            original = apply(original, *change)
        return original
    return data


def write(path: Path, data: Any, of: str | None = None) -> None:
    """Write *data* to *path*, as a variant if *of* names another file of the folder, without `.json`."""
    if of is not None:
        changes = list(differences(read(path.with_name(f"{of}.json")), data))
        data = {"of": of, "changes": changes}
    path.write_text("\n".join(_lines(data, "")) + "\n")


def origin(path: Path) -> str | None:
    """Return the name of the file of which *path* is a variant."""
    data = json.loads(path.read_text())
    return data["of"] if isinstance(data, dict) and data.keys() == {"of", "changes"} else None


def differences(old: Any, new: Any, path: tuple[Any, ...] = ()) -> Iterator[Change]:
    """Return the changes that make *new* from *old*."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if key not in new:
                yield [[*path, key]]
            elif key in old:
                yield from differences(old[key], new[key], (*path, key))
            else:
                yield [[*path, key], new[key]]
    elif (identity := _identity(old, new)) is not None:
        elements = {each[identity]: each for each in old}
        for element in new:
            name = element[identity]
            yield from differences(elements[name], element, (*path, {identity: name}))
    elif _text(old) != _text(new):  # as values, true and 1 are equal
        yield [list(path), new]


def _identity(old: Any, new: Any) -> str | None:
    """Return the key whose values are texts, the same ones in the lists *old* and *new*, in the same order."""
    if not (isinstance(old, list) and isinstance(new, list) and old):
        return None
    if not all(isinstance(each, dict) for each in (*old, *new)):
        return None
    for key in IDENTITIES:
        names = [each.get(key) for each in old]
        if not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
            continue
        if names == [each.get(key) for each in new]:
            return key
    return None


def apply(data: Any, path: list[Any], *value: Any) -> Any:
    """Return *data* with *value* at *path*, or without what is there if no value is given."""
    if not path:
        return copy.deepcopy(value[0])
    place = data
    for part in path[:-1]:
        place = place[_key(place, part)]
    last = _key(place, path[-1])
    if value:
        place[last] = copy.deepcopy(value[0])
    else:
        del place[last]
    return data


def _key(place: Any, part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    ((key, value),) = part.items()
    (number,) = [number for number, element in enumerate(place) if element[key] == value]
    return number


def _lines(data: Any, before: str) -> Iterator[str]:
    """Return the lines of *data*, the first after the text *before*."""
    line = before + _text(data)
    if (before and len(line) <= LONGEST) or not data or not isinstance(data, dict | list):
        yield line
        return
    opening, closing = "{}" if isinstance(data, dict) else "[]"
    yield before + opening
    if isinstance(data, dict):
        entries = [list(_lines(data[key], f"{json.dumps(key)}: ")) for key in sorted(data)]
    elif any(isinstance(each, dict | list) for each in data):
        entries = [list(_lines(each, " ")) for each in data]
    else:
        entries = [[line] for line in _filled(data)]
    for number, entry in enumerate(entries, start=1):
        yield from entry[:-1]
        yield entry[-1] + ("," if number < len(entries) else "")
    yield closing


def _filled(values: list[Any]) -> Iterator[str]:
    """Return texts and numbers on as few lines as they fill."""
    line = ""
    for text in map(_text, values):
        if line and len(line) + len(text) > LONGEST:
            yield line
            line = ""
        line += f", {text}" if line else f" {text}"
    yield line


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def paths() -> list[Path]:
    """Return the files with recorded data."""
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.json"))] + [
        ROOT / file for file in FILES
    ]


def main() -> None:
    for path in paths():
        write(path, read(path), origin(path))


if __name__ == "__main__":
    main()
