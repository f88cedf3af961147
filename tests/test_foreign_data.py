"""The rule over our source that foreign data has one reader.

No `.read()` has no number, and there is no other parser of JSON and no other reader of archives.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.foreign_table import TABLE, exceptions
from tests.support.sources import ROOT

READER = ("workloads/foreign.py", "rackwright/foreign/")
READS = frozenset(("read", "readall", "readlines"))
"""Methods that read to the end unless they are given a number."""
PARSES = frozenset(("json.load", "json.loads", "JSONDecoder", "raw_decode", "model_validate_json", "from_json"))
BODIES = frozenset(("stream", "iter_lines", "iter_content", "json", "text"))
"""Methods of answers that read without a bound, where nothing but an await or a call follows."""
PROGRAM = re.compile(r"^(#!.*python|import \w|from \w[\w.]* import )", re.M)
"""A template with a program in Python."""
IN_TEXTS = re.compile(r"\bjson\.loads?\(|\.read(?:all|lines)?\(\)")
ARCHIVES = frozenset(("tarfile.open", "TarFile", "ZipFile", "PyZipFile", "unpack_archive"))
"""Calls that open an archive: those of `rackwright.foreign.archives` alone bound headers, members and time."""
OF_A_DIGEST = {
    "rackwright/toolchain/release.py": "a release of Pulumi whose digest is pinned",
    "rackwright/toolchain/conformance/pod_images.py": "a layer whose digest is pinned",
}
"""Programs that open other archives, with the reason why their content is known before."""


def uses(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each use in a program."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        last = name.rpartition(".")[2]
        if name in PARSES or last in PARSES:
            yield node.lineno, name
        elif (last in READS and isinstance(node.func, ast.Attribute) and _is_unbounded(node)) or (
            last in BODIES and isinstance(node.func, ast.Attribute) and re.search(r"answer|response|reply", name)
        ):
            yield node.lineno, f"{name}()"


def archives(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each call in a program that opens an archive to read it by Python's own reader."""
    if not re.search("tarfile|TarFile|ZipFile|unpack_archive", source):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            modes = [*node.args[1:2], *(each.value for each in node.keywords if each.arg == "mode")]
            is_write = any(isinstance(mode, ast.Constant) and str(mode.value)[:1] in "wxa" for mode in modes)
            is_known = name.endswith("TarFile.open") or name in ARCHIVES or name.rpartition(".")[2] in ARCHIVES
            if is_known and not is_write:
                yield node.lineno, name


def _is_unbounded(call: ast.Call) -> bool:
    """Return whether a call of read has no number, or one that means everything."""
    if call.keywords or len(call.args) > 1:
        return False
    return not call.args or (ast.unparse(call.args[0]) in ("-1", "None"))


def found() -> dict[str, list[tuple[int, str]]]:
    """Return all uses by file: of programs, and of templates with a program."""
    places: dict[str, list[tuple[int, str]]] = {}
    for folder in ("rackwright", "workloads", "stacks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            places[str(path.relative_to(ROOT))] = [*uses(path.read_text())]
    for folder in ("roles", "templates", "playbooks"):
        for path in sorted((ROOT / folder).rglob("*")):
            text = path.read_text(errors="replace") if path.is_file() and path.suffix != ".pyc" else ""
            if path.suffix in (".py", ".j2", "") and PROGRAM.search(text):
                places[str(path.relative_to(ROOT))] = [
                    (number, match[0])
                    for number, line in enumerate(text.splitlines(), 1)
                    for match in IN_TEXTS.finditer(line)
                ]
    return {path: each for path, each in places.items() if each and not path.startswith(READER)}


def test_foreign_data_has_one_reader() -> None:
    """A new use is read by `workloads.foreign`, or gets its reason in the table."""
    listed = {path: number for path, (number, _) in exceptions().items()}
    actual = found()
    wrong = {
        path: [f"{path}:{line}: {name}" for line, name in each]
        for path, each in actual.items()
        if len(each) != listed.get(path, 0)
    }

    assert wrong == {}
    assert {*listed} == {*actual}, "the table has files without a use"


def test_every_exception_has_a_reason() -> None:
    reasons = exceptions()

    assert [path for path, (_, reason) in reasons.items() if len(reason.split()) < 3] == []
    assert max(Counter(TABLE.read_text().splitlines()).values()) == 1


def test_archives_of_others_have_one_reader() -> None:
    wrong = {
        name: [f"{name}:{line}: {call}" for line, call in calls]
        for folder in ("rackwright", "workloads", "stacks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not (name := str(path.relative_to(ROOT))).startswith(READER) and (calls := [*archives(path.read_text())])
    }

    assert {*wrong} == {*OF_A_DIGEST}, wrong


@pytest.mark.parametrize(
    "line",
    [
        "tarfile.open(path)",
        "tarfile.open(fileobj=body, mode='r|')",
        "tarfile.TarFile(path)",
        "zipfile.ZipFile(path)",
        "ZipFile(path, 'r')",
        "tarfile.TarFile.open(path)",
        "shutil.unpack_archive(path)",
    ],
)
def test_the_rule_of_archives_finds(line: str) -> None:
    assert [*archives(line)]


@pytest.mark.parametrize("line", ["tarfile.open(path, 'w')", "ZipFile(buffer, mode='x')", "open_tar(path)"])
def test_the_rule_of_archives_is_silent_about(line: str) -> None:
    assert not [*archives(line)]


@pytest.mark.parametrize(
    "line",
    [
        "answer.read()",
        "body.read(-1)",
        "client.get_object(Bucket=b, Key=k)['Body'].read()",
        "json.loads(body)",
        "json.load(answer)",
        "urlopen(url).readlines()",
        "file.read(None)",
        "Model.model_validate_json(body)",
        "response.json()",
        "json.JSONDecoder().raw_decode(text)",
    ],
)
def test_the_rule_finds(line: str) -> None:
    assert [*uses(f"def f():\n    return {line}\n")]


@pytest.mark.parametrize("line", ["file.read(10)", "read_bounded(body, 10)", "parse_json(body)", "json.dumps(value)"])
def test_the_rule_is_silent_about(line: str) -> None:
    assert not [*uses(f"def f():\n    return {line}\n")]
