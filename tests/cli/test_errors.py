"""Errors of the command line: lines on standard error, and an object on standard output for programs."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support import warm_command


def typed(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (directory / "Pulumi.yaml").write_text("name: rackwright\nruntime: python\n")
    return warm_command.run(*arguments, cwd=directory)


@pytest.mark.parametrize("arguments", [("audit", "none", "--json"), ("adopt", "none", "--json")])
def test_a_program_gets_the_errors_as_objects(tmp_path, arguments):
    done = typed(tmp_path, *arguments)

    [error] = json.loads(done.stdout)["errors"]
    assert done.returncode == 2
    assert error.keys() <= {"where", "problem", "expected", "help", "note", "source", "id"}
    assert done.stderr.startswith(f"error: {error['where']}: {error['problem']}\n  expected: {error['expected']}\n")


def test_a_reader_gets_nothing_on_standard_output(tmp_path):
    done = typed(tmp_path, "check", "none")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
