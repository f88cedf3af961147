"""Messages: each names file and line where it comes from a file, and a command in it can be pasted as it is."""

import ast
import re
from pathlib import Path

import pytest

from rackwright.errors import Diagnostic
from rackwright.fleet.place import locate_errors
from tests.support.sources import ROOT, found_in, shown

GOLDEN = sorted((ROOT / "tests/fleet").glob("wrong*/*.expected"))
assert GOLDEN, "the golden messages have moved"
NO_COMMANDS = re.compile(
    r"\0?(tier|fabric)?: ?\0?|\0: \0|factor: \"\0\"|nvidia_driver: {source: vendor, version: \"\0\"}"
)
"""Lines of a fleet and of a template, which are written in backticks as well."""
QUOTED_ELSEWHERE = {
    "rackwright/hosts/login.py": "ssh_command quotes by shlex.join",
    "rackwright/hosts/transport.py": "ssh_command quotes by shlex.join; the rest are words of ours",
    "rackwright/kinds/tier/drives.py": "consent_option quotes the content",
    "rackwright/toolchain/kubernetes/packages.py": "names of packages, several words",
    "rackwright/twin/image.py": "names of packages, several words",
}
FILES = [path for path in sorted((ROOT / "rackwright").rglob("*.py")) if shown(path) not in QUOTED_ELSEWHERE]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_golden_message_names_file_and_line(path):
    for line in path.read_text().splitlines():
        assert re.match(r"error: [\w.-]+\.(yaml|py):[1-9][0-9]*: |  (expected|help|note): ", line), line


def commands_by_hand(tree: ast.AST) -> list[str]:
    """Return the commands in backticks into which values are put without a quote."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
            commands = [each for each in text.split("`")[1::2] if "\0" in each and " " in each]
            found += [each for each in commands if not NO_COMMANDS.fullmatch(each)]
    return found


def test_every_value_in_a_command_is_quoted():
    paths = [path for path in FILES if "`" in path.read_text()]
    assert found_in(paths, lambda path: commands_by_hand(ast.parse(path.read_text()))) == {}


def test_the_lint_finds_a_value_without_quotes():
    assert commands_by_hand(ast.parse("f'Run `rackwright up {stack}`'")) == ["rackwright up \0"]
    assert commands_by_hand(ast.parse("f'Write `tier: {name}`'")) == []


def test_what_is_found_after_a_fleet_was_read_gets_its_line(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text("fleet: a\nservers:\n  digits:\n    model: {path: x}\nhosts:\n  alpha:\n    nics: [{name: b}]\n")
    errors = [
        Diagnostic(where, "got a", "b", "C")
        for where in ("servers.digits.model.path", "hosts.alpha.nics[0].name", "stack lab", "stacks/rack.lock.yaml")
    ]

    places = [error.where for error in locate_errors(path, errors).diagnostics]

    assert places == [
        f"{path}:4: servers.digits.model.path",
        f"{path}:7: hosts.alpha.nics[0].name",
        "stack lab",
        "stacks/rack.lock.yaml",
    ]
    assert [error.where for error in locate_errors(Path(), errors).diagnostics] == [error.where for error in errors]
