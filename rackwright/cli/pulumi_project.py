"""The Pulumi.yaml of an existing project: the text with what rackwright needs. Comments stay."""

from typing import Any

from rackwright.errors import ChangeRefused, Diagnostic
from rackwright.fleet.upgrade import edit

STACKS = "stacks"
"""The directory of the stacks' settings, below the project."""
PROVIDER = {"name": "rackwright", "path": ".rackwright/bin"}


def add_rackwright(text: str, where: str) -> str:
    """Return *text* of a Pulumi.yaml with the stacks' directory and the provider; the same text if it has both.

    Args:
        where: The path of the file.

    Raises:
        ChangeRefused: The text is no project of Pulumi, or has another value in the place of one of them.
    """
    from ruamel.yaml.error import YAMLError

    try:
        return edit(text, lambda content: _add(content, where))
    except YAMLError as error:
        problem = f"it cannot be read: {' '.join(str(error).split())}"
        raise ChangeRefused(Diagnostic(where, problem, "a project file of Pulumi", "Correct the file")) from None


def _add(content: Any, where: str) -> None:
    if not isinstance(content, dict):
        raise ChangeRefused(Diagnostic(where, "it has no keys", "a project file of Pulumi", "Correct the file"))
    if (directory := content.setdefault("stackConfigDir", STACKS)) != STACKS:
        help = "Move the settings of the stacks there, or write the project of rackwright to another directory"
        raise ChangeRefused(Diagnostic(where, f"got stackConfigDir {directory!r}", f"stackConfigDir {STACKS!r}", help))
    providers = _below(_below(content, "plugins", {}, where), "providers", [], where)
    ours = [each for each in providers if isinstance(each, dict) and each.get("name") == PROVIDER["name"]]
    if not ours:
        providers.append(_in_one_line(PROVIDER))
    elif dict(ours[0]) != PROVIDER:
        help = "Remove the entry, and run the command again"
        raise ChangeRefused(Diagnostic(where, f"got the provider {dict(ours[0])}", f"the provider {PROVIDER}", help))


def _below(content: Any, key: str, default: Any, where: str) -> Any:
    """Return the value of *key*, or a new one like *default*."""
    if content.get(key) is None:
        content[key] = default
    if not isinstance(content[key], type(default)):
        sort = "a mapping" if isinstance(default, dict) else "a list"
        raise ChangeRefused(Diagnostic(where, f"got {key} {content[key]!r}", sort, "Correct the file"))
    return content[key]


def _in_one_line(values: dict[str, str]) -> Any:
    from ruamel.yaml.comments import CommentedMap

    entry = CommentedMap(values)
    entry.fa.set_flow_style()
    return entry
