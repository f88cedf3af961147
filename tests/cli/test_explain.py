"""The explain command and its page: each error with an id has one section there, with causes and cures."""

import ast
import re
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from rackwright.audit.undeclared.table import RULES
from rackwright.cli import explain
from rackwright.cli.app import app
from rackwright.errors import DeclarationError
from tests.support.sources import ROOT

SOURCES = [path for folder in ("rackwright", "workloads") for path in sorted((ROOT / folder).rglob("*.py"))]


def ids(tree: ast.AST) -> Iterator[str]:
    """Yield the id of each diagnostic in *tree*."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Diagnostic":
            for keyword in node.keywords:
                if keyword.arg == "id":
                    assert isinstance(keyword.value, ast.Constant), "an id is a literal"
                    yield keyword.value.value


def test_the_ids_of_errors_are_the_sections_of_the_page() -> None:
    used = {id for path in SOURCES for id in ids(ast.parse(path.read_text()))}

    assert used == explain.sections().keys()


def test_no_id_has_two_sections() -> None:
    headings = explain.HEADING.findall((ROOT / "docs" / explain.PAGE).read_text())

    assert len(headings) == len({*headings})


@pytest.mark.parametrize("id", explain.sections())
def test_each_section_has_a_cause_and_a_cure(id: str) -> None:
    assert re.fullmatch(r"[^*]+\n\n\*\*Cause\.\*\* .+\n\n\*\*Cure\.\*\* .+", explain.sections()[id], re.S)


@pytest.mark.parametrize("id", explain.sections())
def test_each_page_that_a_section_links_to_is_printed_as_a_file_that_exists(id: str) -> None:
    printed = explain.format_section(explain.sections()[id])

    assert "](" not in printed
    for path in re.findall(r"\((/[^#)]+)", printed):
        assert (ROOT / path).is_file()


def test_an_id_prints_its_section() -> None:
    result = CliRunner().invoke(app, ["explain", "host-busy"])

    assert result.exit_code == 0
    assert result.output.startswith("Another run holds the lease of the host")
    assert "\n\nCause. " in result.output and "\n\nCure. " in result.output


def test_a_wrong_id_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(DeclarationError, match="got host-bussy.*Write host-busy"):
        CliRunner().invoke(app, ["explain", "host-bussy"], catch_exceptions=False)


def test_the_id_of_a_rule_prints_its_sentence_why_remedy_and_source() -> None:
    result = CliRunner().invoke(app, ["explain", "RW-014"])

    assert result.exit_code == 0
    assert result.output.startswith("Each mount of an array, a declared drive or another machine is declared.\n")
    assert re.findall(r"^(\w+)\. ", result.output, re.M) == ["Severity", "Why", "Remedy", "Source"]


def test_without_an_id_errors_and_rules_are_listed() -> None:
    output = CliRunner().invoke(app, ["explain"]).output

    assert {line.split()[0] for line in output.splitlines()} == {*explain.sections(), *RULES}
