"""docs/explanation/security.md names tests and checks that exist, for every row."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "explanation" / "security.md").read_text()
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not re.match(r"\| (---|party )", line)]
TESTS = sorted(set(re.findall(r"`(tests/[\w/.]+\.py(?:::\w+)?)`", TEXT)))
CHECKS = sorted(set(re.findall(r"`(hardening2?\.[\w\[\].-]+)`", TEXT)))


def functions(path: Path) -> set[str]:
    """Return the names of the functions of a module, those of its classes included."""
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def lines() -> set[str]:
    """Return the ids of all acceptance lines."""
    return set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "acceptance.md").read_text(), re.M))


@pytest.mark.parametrize("name", TESTS)
def test_each_test_that_is_named_exists(name):
    path, _, function = name.partition("::")

    assert (ROOT / path).is_file()
    names = functions(ROOT / path)
    assert function in names if function else any(each.startswith("test_") for each in names)


@pytest.mark.parametrize("id", CHECKS)
def test_each_acceptance_line_that_is_named_exists(id):
    assert any(each == id or each.startswith(f"{id}[") for each in lines())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" | ")[0].strip("| "))
def test_each_row_names_what_shows_it(row):
    party, most, shown = (cell.strip() for cell in row.strip("|").split(" | "))

    assert party and most and re.search(r"`(tests/|hardening\.)", shown)


def test_the_table_is_read():
    assert len(ROWS) > 15 and len(TESTS) > 25 and "tests/test_static.py" not in TESTS
