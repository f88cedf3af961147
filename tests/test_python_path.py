"""Python of units and steps imports nothing from the directory in which it starts: an account may write there."""

import ast
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.log import ROOT

UNITS = sorted(ROOT.glob("templates/**/*.service.j2")) + sorted(ROOT.glob("roles/*/templates/**/*.service.j2"))
STARTS = re.compile(r"^ExecStart\w*=.*?(?:/bin/python3?|\.python \}\}) +(.*)$", re.MULTILINE)
ISOLATED = re.compile(r"-[A-Za-z]*[IP]\b")
STEP = re.compile(r"""["' ](?:f["'])?PYTHONPATH(?:=|":)""")


def environment(unit: Path) -> str:
    """Return the variables of a unit, and those of the files that it names and that a role writes."""
    text = unit.read_text()
    roots = [parent for parent in unit.parents if parent.name == "templates"]
    files = [roots[0] / f"{path[1:]}.j2" for path in re.findall("^EnvironmentFile=(/.*)$", text, re.MULTILINE)]
    return "\n".join([text, *(file.read_text() for file in files if file.exists())])


def test_each_unit_with_python_leaves_its_directory_out() -> None:
    """
    Runs and the MLflow server start in a directory of their account, whose modules came before all others.
    """
    started = {unit: STARTS.findall(unit.read_text()) for unit in UNITS}
    with_python = {unit for unit, starts in started.items() if starts}
    assert {unit.name.removesuffix(".service.j2") for unit in with_python} >= {"run", "server", "watch", "mlflow"}
    bad = [
        f"{unit.relative_to(ROOT)}: {arguments}"
        for unit, starts in started.items()
        for arguments in starts
        if not ISOLATED.match(arguments) and "PYTHONSAFEPATH=1" not in environment(unit)
    ]
    assert bad == []


@pytest.mark.parametrize("place", ["rackwright/kinds", "workloads/training/hosts.py"])
def test_each_step_that_sets_the_path_of_python_leaves_its_directory_out(place: str) -> None:
    files = [ROOT / place] if place.endswith(".py") else [*(ROOT / place).rglob("*.py")]
    lines = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in files
        for line, following in pairwise([*file.read_text().splitlines(), ""])
        if STEP.search(line) and not re.search(r"PYTHONSAFEPATH|\*PYTHON\b", line + following)
    ]
    assert lines == []


def starts_of_python(tree: ast.AST) -> list[int]:
    """Return the lines of argument lists in which a Python begins with a module or a text, without an isolation."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple):
            for program, following in pairwise(node.elts):
                text = ast.unparse(program)
                is_python = re.search(r"(^|[.(])(sys\.executable|python|interpreter|PYTHON|INTERPRETER)\)?$", text)
                if is_python and isinstance(following, ast.Constant) and following.value in ("-m", "-c", "-"):
                    found.append(following.lineno)
    return found


def test_each_python_that_a_command_starts_leaves_the_present_directory_out() -> None:
    """
    `rackwright privacy receipt .`, typed in the directory of a run, imported modules of the run's account.
    """
    bad = {
        str(path.relative_to(ROOT)): lines
        for folder in ("rackwright", "workloads")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "PYTHONSAFEPATH" not in (text := path.read_text()) and (lines := starts_of_python(ast.parse(text)))
    }
    assert bad == {}
    assert starts_of_python(ast.parse('run([sys.executable, "-m", "pip"])')) == [1]
    assert starts_of_python(ast.parse('run((str(python), "-P", "-m", "pip"))')) == []


def test_a_module_in_the_directory_of_a_run_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported')")
    argv = [sys.executable, "-m", "workloads.training.hosts", "--help"]
    variables = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = [
        subprocess.run(argv, cwd=tmp_path, env={**variables, **more}, capture_output=True, text=True)
        for more in ({}, {"PYTHONSAFEPATH": "1"})
    ]
    assert "imported" in done[0].stderr and "imported" not in done[1].stderr
