"""The rule over our source that files below directories of others are reached by `rackwright.tiering.onhost.tree`.

A path that is opened, deleted or renamed as a whole follows links that another account puts into it at any moment.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.support.sources import ROOT

FOLDER = "rackwright/tiering"
WALKER = f"{FOLDER}/onhost/tree.py"
METHODS = frozenset((
    "chmod", "copy", "exists", "glob", "hardlink_to", "is_dir", "is_file", "iterdir", "lchmod", "link_to", "mkdir",
    "open", "open_regular", "read_bytes", "read_text", "rename", "replace", "replacing", "rglob", "rmdir",
    "stat", "symlink_to", "touch", "unlink", "write_atomic", "write_bytes", "write_text", "copy_atomic",
    "copyfile", "copytree", "rmtree", "fsync_directory",
))  # fmt: skip
"""Functions and methods that follow a whole path."""
OF_DESCRIPTORS = frozenset(
    ("chmod", "chown", "link", "listdir", "mkdir", "open", "remove", "rename", "replace", "rmdir", "scandir", "stat",
     "symlink", "truncate", "unlink", "utime", "walk", "fwalk", "makedirs", "removedirs", "listxattr", "setxattr")
)  # fmt: skip
"""Functions of `os` that follow a whole path, unless they get a descriptor."""
EXCEPTIONS = {
    (f"{FOLDER}/remote.py", "resources(PACKAGE).joinpath(f'{name}.py').read_text"): "a module of the package",
    (f"{FOLDER}/page.py", "(FOLDER / 'page.css').read_text"): "a file of the package",
    (f"{FOLDER}/onhost/placing.py", "Path('/proc').glob"): "files of the kernel",
    (f"{FOLDER}/onhost/placing.py", "(process / 'fd').iterdir"): "files of the kernel",
    (f"{FOLDER}/onhost/placing.py", "(process / 'maps').open"): "files of the kernel",
    (f"{FOLDER}/restore_test.py", "(scratch / MODEL).is_file"): "a new directory of this account alone",
    (f"{FOLDER}/restore_test.py", "open_regular"): "a new directory of this account alone",
    (f"{FOLDER}/directory.py", "os.open"): "with O_PATH and O_NOFOLLOW, to read a link of root or of this account",
}
"""Calls that reach no directory of others, by file and name, with the reason."""


def calls(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each call in a program that follows a whole path."""
    tree = ast.parse(source)
    imported = {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
                for alias in node.names if node.module and node.module.endswith("onhost.tree")}  # fmt: skip
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        owner, _, last = name.rpartition(".")
        if owner == "os":
            keywords = {each.arg: each.value for each in node.keywords}
            has_descriptor = bool({"dir_fd", "src_dir_fd"} & keywords.keys()) or (
                bool(node.args) and ast.unparse(node.args[0]) in ("top", "descriptor", "parent")
            )
            if last in OF_DESCRIPTORS and not has_descriptor:
                yield node.lineno, name
        elif (last in METHODS and name not in imported and not _is_text(node, last)) or owner == "shutil":
            yield node.lineno, name


def _is_text(call: ast.Call, name: str) -> bool:
    """Return whether it is ``replace`` of a text, which has two arguments."""
    return name == "replace" and len(call.args) == 2


def found() -> dict[tuple[str, str], int]:
    """Return the calls of the folder by file and name, with a line of each, without those of the walker."""
    return {
        (str(path.relative_to(ROOT)), name): line
        for path in sorted((ROOT / FOLDER).rglob("*.py"))
        if str(path.relative_to(ROOT)) != WALKER
        for line, name in calls(path.read_text())
    }


def test_no_path_below_a_directory_of_others_is_followed_as_a_whole() -> None:
    actual = found()

    assert {each: line for each, line in actual.items() if each not in EXCEPTIONS} == {}
    assert {*EXCEPTIONS} == {*actual}, "an exception has no call"


def test_the_walker_uses_descriptors_alone() -> None:
    root = [(line, name) for line, name in calls((ROOT / WALKER).read_text())]

    assert [name for _, name in root] == ["os.open"], "the one call that opens the root directory"


@pytest.mark.parametrize(
    "line",
    [
        "(directory / name).open('rb')",
        "open(path)",
        "os.open(path, os.O_RDONLY)",
        "os.unlink(path)",
        "place.unlink()",
        "os.rename(one, other)",
        "place.replace(other)",
        "directory.rglob('*')",
        "os.listdir(path)",
        "os.scandir(path)",
        "shutil.rmtree(path)",
        "replacing(path, 0o600)",
        "open_regular(path)",
        "os.stat(path)",
        "io.open(path)",
    ],
)
def test_the_rule_finds(line: str) -> None:
    assert [*calls(f"def f():\n    return {line}\n")]


@pytest.mark.parametrize(
    "line", ["os.open(name, FLAGS, dir_fd=parent)", "text.replace('a', 'b')", "os.listdir(top)", "open_file(top, path)"]
)
def test_the_rule_is_silent_about(line: str) -> None:
    assert not [*calls(f"def f():\n    return {line}\n")]
