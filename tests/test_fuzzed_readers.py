"""The rule that every module which reads foreign data has a fuzzed target, or a reason why it has none."""

import re

from tests.support.foreign_table import exceptions
from tests.support.fuzz.__main__ import TARGETS
from tests.support.fuzz.readers import READERS
from tests.support.sources import ROOT

TABLE = ROOT / "tests/fuzzed_readers.txt"
PARSES = re.compile(r"\b(?:parse_json|parse_object|read_bounded|read_file|check_json)\(|yaml\.parse\(")
"""Calls of the bounded readers, and of that of netplan's files."""
OPEN_MAX = 1
"""Maximum number of modules without a target; it only goes down."""


def rows() -> dict[str, str]:
    lines = (line for line in TABLE.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split(maxsplit=1) for line in lines)  # type: ignore[misc]


def readers() -> set[str]:
    """Return the modules that call a bounded reader."""
    return {
        str(path.relative_to(ROOT))
        for folder in ("rackwright", "workloads", "stacks")
        for path in (ROOT / folder).rglob("*.py")
        if PARSES.search(path.read_text())
    }


def test_every_module_that_reads_foreign_data_is_in_the_table() -> None:
    assert {*rows()} == readers() | {*exceptions()} | {*READERS}


def test_every_row_has_a_target_or_a_reason() -> None:
    for path, rest in rows().items():
        first, *reason = rest.split()
        assert first in TARGETS or (first in ("-", "open:") and len(reason) >= 3), path


def test_the_targets_with_a_function_for_each_module_have_their_rows() -> None:
    # PyTorch, which its module imports, is in the environment of the workloads alone
    text = (ROOT / "tests/support/fuzz/workload_files.py").read_text()
    of_workloads = {*re.findall(r'^    "(workloads/[\w/.]+)": \(', text, re.MULTILINE)}

    assert {path for path, rest in rows().items() if rest == "readers"} == {*READERS}
    assert {path for path, rest in rows().items() if rest == "workload_files"} == of_workloads != set()


def test_the_number_of_modules_without_a_target_only_goes_down() -> None:
    assert sum(rest.startswith("open:") for rest in rows().values()) <= OPEN_MAX
