"""The acceptance lines: their ids, their page, and the runner that selects and prints them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.acceptance import Line, Result, duplicates, page, read_page, read_results, selects, unmatched_names

ROOT = Path(__file__).parents[1]
RUNNER = ["--capture=no", "-qq", "--tb=no", "-rN", "-o", "console_output_style=classic"]
"""As in the Makefile."""
IDS = """
    accelerators.1 accelerators.1[debian-13] accelerators.1[module] accelerators.2 accelerators.3 accelerators.4
    accelerators.5 accelerators.6 accelerators.6[containers] foundation.1 foundation.2[rack] foundation.2[seed]
    foundation.3[rack] foundation.3[seed] foundation.4[rack] foundation.4[seed] foundation.5[rack]
    foundation.5[seed] foundation.6[one] foundation.6[seed] foundation.7 foundation.8 foundation.toy[blind]
    foundation.toy[inverted] foundation.toy[rack] foundation.toy[steps] front.1 front.4 hardening.1
    hardening.2 hardening.3[luks] hardening.3[partitions] hardening.4 hardening.5 hardening.6 hardening.7
    hardening.8 hardening.9 hardening.10
    hardening.11 hardening.12 hardening.13 hardening.14 hardening.15 hardening.16 hardening.17 hardening.18
    hardening.19 hardening.fuzz hardening.truth[controller] hardening.truth[declarations]
    hardening.truth[independent] hardening.truth[mended-account] hardening.truth[mended-array]
    hardening.truth[messages] hardening.truth[missed-keys] hardening.truth[missed-member] hardening.truth[missed]
    hardening.truth[remedies] hardening.truth[tools] hardening.units roles.1 roles.2[access] roles.2[base]
    roles.3 roles.4[certificate] roles.4[network] roles.4[sshd] roles.5[batch] roles.5[canary] roles.5[dead]
    roles.6 roles.7 roles.8 serving.1[digits] serving.1[language] serving.1[pasted] serving.2[digits]
    serving.2[disjoint] serving.2[lineage] serving.2[minilm] serving.3[iterate] serving.3[rollout]
    serving.3[watch] serving.4[int8] serving.4[load] serving.4[peers] serving.5[described] serving.5[malformed]
    serving.5[memory] serving.6 serving.6[parser] storage-life.1 storage-life.1[spare] storage-life.2[cut-create]
    storage-life.2[cut-grow] storage-life.2[cut-replace] storage-life.2[enlarge] storage-life.2[grow]
    storage-life.3 storage-life.4 storage-life.4[tpm2] storage-life.5 storage-life.6[drives]
    storage-life.6[probe] storage-life.harness[levels] storage-life.harness[rack-full.yaml]
    storage-life.harness[rack.yaml] storage-life.harness[rack_py.py] storage-life.harness[seed] training.1
    training.1[elastic] training.1[installed] training.2[blocked] training.2[found] training.2[killed]
    training.3[adaptive] training.3[cut] training.3[elastic] training.3[resume] training.4 training.5
    training.6[overhead] training.6[pasted] training.7
"""
"""Each line that a release had: a line may move or be renamed, and does not disappear."""
TOYS = """
import pytest
from tests.support.acceptance import line
from tests.support.expect import need


@line("toy", 10)
def test_a_tenth_line_passes(log) -> str:
    return f"the figure of {log.id}"


@line("toy", 2, part="short")
def test_a_short_line_fails() -> str:
    need(False, "3 of 4")


@line("toy", 2, part="crash")
def test_a_line_crashes() -> str:
    raise KeyError("x")


@line("toy", 3)
def test_a_line_is_skipped() -> str:
    pytest.skip("no GPU")


@pytest.fixture(scope="module")
def host():
    raise RuntimeError("no host")


@line("toy", 4)
def test_a_set_up_fails(host) -> str:
    return "never"


@pytest.fixture
def leftover():
    yield
    raise OSError("busy")


@line("toy", 5)
def test_a_clean_up_fails(leftover) -> str:
    return "never"


@line("toy", "each")
@pytest.mark.parametrize("path", ["one", "two"])
def test_each_path_passes(path) -> str:
    return path
"""


def pytest_run(*arguments: str, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(argv, cwd=directory, text=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with our settings and runner, toy acceptance lines beside another test, and logs of its own."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    folder = tmp_path / "tests" / "acceptance"
    folder.mkdir(parents=True)
    logs = f"import pathlib, sys; sys.path.insert(0, {str(ROOT)!r})\nfrom tests.support import log as logs\n"
    logs += f"logs.KEPT = pathlib.Path({str(tmp_path)!r})\n"
    (folder / "conftest.py").write_text(logs + (ROOT / "tests/acceptance/conftest.py").read_text())
    (folder / "test_toys.py").write_text(TOYS)
    (tmp_path / "tests" / "test_other.py").write_text("def test_other():\n    pass\n")
    return tmp_path


@pytest.fixture
def accept(project: Path):
    """Run the toy lines as `make accept` does, and return the status and each line's outcome by id."""

    def run(only: str = "") -> tuple[int, dict[str, str]]:
        done = pytest_run("tests/acceptance", *RUNNER, "--only", only, directory=project)
        lines = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("toy.")]
        return done.returncode, {id: " ".join(text.split()).rpartition(" (")[0] for id, text in lines}

    return run


def test_the_page_is_fresh_ids_are_unique_and_none_is_lost(tmp_path):
    page = tmp_path / "acceptance.md"
    done = pytest_run("tests/acceptance", "--collect-only", "-qq", "--page", str(page))

    assert done.returncode == 0, done.stdout + done.stderr
    assert page.read_text() == (ROOT / "docs/acceptance.md").read_text(), "docs/acceptance.md says how to write it"
    assert [id for id in IDS.split() if f"| `{id}` |" not in page.read_text()] == []


def test_each_line_prints_its_outcome_in_order(accept):
    status, lines = accept()

    assert status == 1
    assert list(lines.items()) == [
        ("toy.2[short]", "short 3 of 4"),
        ("toy.2[crash]", "short the test itself ended with KeyError: 'x'"),
        ("toy.3", "skipped no GPU"),
        ("toy.4", "short the set-up ended with RuntimeError: no host"),
        ("toy.5", "short the clean-up ended with OSError: busy"),
        ("toy.10", "ok the figure of toy.10"),
        ("toy.each[one]", "ok one"),
        ("toy.each[two]", "ok two"),
    ]


def test_the_page_shows_the_last_outcome_of_each_line(accept, project, tmp_path):
    accept("toy.10 toy.2")
    accept("toy.2[short]")
    results = project / "results.jsonl"
    assert len(results.read_text().splitlines()) == 4
    lines = [Line("toy", number, part, "A toy") for number, part in ((2, "short"), (2, "crash"), (10, ""), (11, ""))]
    written = project / "page.md"
    written.write_text(page(lines, {"toy.11": "ok, 2026-11-30, 20da19cc: 3 of 3 (5 s)"} | read_results(results)))

    cells = read_page(written)
    assert re.fullmatch(r"short, \d{4}-\d\d-\d\d, \w+\+?: 3 of 4 \(\d+ s\)", cells["toy.2[short]"])
    assert cells["toy.2[crash]"].startswith("short, ") and "KeyError: 'x'" in cells["toy.2[crash]"]
    assert "the figure of toy.10" in cells["toy.10"]
    assert cells["toy.11"] == "ok, 2026-11-30, 20da19cc: 3 of 3 (5 s)"


def test_an_outcome_on_the_page_has_no_path_and_no_markup():
    result = Result(
        "a.1", "short", "3 | 4\n`x` in /tmp/pytest-1/y and /etc/fstab " + "z" * 400, 1.4, "2026-12-01", "abc"
    )
    assert result.cell.startswith("short, 2026-12-01, abc: 3 / 4 x in … and /etc/fstab zzz")
    assert len(result.cell) < 400


def test_selected_lines_run_alone(accept):
    assert accept("toy.3 toy.each[two]") == (0, {"toy.3": "skipped no GPU", "toy.each[two]": "ok two"})


def test_an_unknown_id_runs_nothing_and_lists_the_lines(project):
    done = pytest_run("tests/acceptance", *RUNNER, "--only", "toy.10 toy.11", directory=project)

    assert done.returncode == 2
    assert "no acceptance line: toy.11" in done.stderr and "toy.2[short], toy.2[crash], toy.3" in done.stderr
    assert "toy.10  " not in done.stdout


def test_a_file_that_cannot_be_imported_stops_no_other_one(project):
    (project / "tests/acceptance/test_broken.py").write_text("import nothing_of_this_name\n")
    argv = ("tests/acceptance", *RUNNER, "--continue-on-collection-errors", "--only", "toy.10")
    done = pytest_run(*argv, directory=project)

    assert done.returncode == 1
    assert "test_broken.py short" in " ".join(done.stdout.split()) and "nothing_of_this_name" in done.stdout
    assert "the figure of toy.10" in done.stdout


def test_acceptance_lines_are_collected_by_their_own_path_only(project):
    collected = pytest_run("--collect-only", "-q", directory=project).stdout

    assert "test_other" in collected and "toys" not in collected


def test_the_makefile_runs_the_lines_as_these_tests_do():
    text = " ".join((ROOT / "Makefile").read_text().replace("\\\n", " ").split())

    assert f"pytest tests/acceptance {' '.join(RUNNER)} --continue-on-collection-errors" in text


@pytest.mark.parametrize(
    ("only", "selected"),
    [("a", True), ("a.1", True), ("a.1[x]", True), ("a.1[y]", False), ("a.11", False), ("a.1[", False), ("", False)],
)
def test_an_id_selects_itself_and_its_parts(only, selected):
    assert selects(only, "a.1[x]") is selected


def test_unknown_and_duplicate_ids_are_named():
    assert unmatched_names(["a", "b.1"], ["a.1", "b.2"]) == ["b.1"]
    assert duplicates(["a.1", "b.2", "a.1"]) == ["a.1"]
