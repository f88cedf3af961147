"""Select acceptance lines by id, and print one line of output for each."""

import inspect
import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support.acceptance import (
    FILE,
    Result,
    duplicates,
    line_of,
    page,
    read_page,
    read_results,
    selects,
    unmatched_names,
)
from tests.support.log import Log

LOG, FIGURE, VERDICT = pytest.StashKey[Log](), pytest.StashKey[str](), pytest.StashKey[tuple[str, str]]()
PHASES = {"setup": "the set-up", "call": "the test itself", "teardown": "the clean-up"}


def pytest_addoption(parser):
    group = parser.getgroup("acceptance")
    group.addoption("--only", default="", metavar="IDS", help="lines to run, separated by blanks: storage-life.2 roles")
    group.addoption("--page", type=Path, metavar="FILE", help="write the list of lines to FILE")
    group.addoption("--results", type=Path, metavar="FILE", help="outcomes of runs, which the list shows")


def pytest_collection_modifyitems(config, items):
    """Sort the lines and keep the selected ones; an unknown id ends the run with status 2."""
    lines = {item: line_of(item) for item in items if item.path.is_relative_to(Path(__file__).parent)}
    ids = [line.id for line in lines.values()]
    if twice := duplicates(ids):
        raise pytest.UsageError(f"several tests check {', '.join(twice)}")
    in_order = sorted(lines, key=lambda item: lines[item].order)
    if config.option.page:
        runs = read_page(FILE) | (read_results(config.option.results) if config.option.results else {})
        config.option.page.write_text(page([lines[item] for item in in_order], runs))
    only = config.option.only.split()
    if wrong := unmatched_names(only, ids):
        print(f"no acceptance line: {', '.join(wrong)}", file=sys.stderr)
        print(f"the lines are {', '.join(lines[item].id for item in in_order)}", file=sys.stderr)
        pytest.exit("unknown acceptance line", returncode=2)
    items[:] = [item for item in in_order if not only or any(selects(each, lines[item].id) for each in only)]


@pytest.fixture
def log(request) -> Log:
    """The log of the line that runs."""
    return request.node.stash[LOG]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    item.stash[LOG] = Log(line_of(item).id)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Call the test, and keep the figure that it returns."""
    names = inspect.signature(pyfuncitem.obj).parameters
    pyfuncitem.stash[FIGURE] = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Judge each phase; the report of the last one has the line of output of all three."""
    report = yield
    log, before = item.stash[LOG], item.stash.get(VERDICT, None)
    verdict = _verdict(call, report, log)
    if verdict and (before is None or before[0] == "skipped"):
        item.stash[VERDICT] = verdict
    report.output = ""
    if call.when == "teardown":
        word, reason = item.stash.get(VERDICT, None) or ("ok", item.stash[FIGURE])
        log.write(f"{word}: {reason}")
        with (log.path.parent / "results.jsonl").open("a") as results:
            results.write(json.dumps(asdict(Result.now(log.id, word, reason, log.seconds))) + "\n")
        where = f"\n{'':38}log: {log.path}" if word == "short" else ""
        report.output = f"{log.id:28} {word:8} {reason} ({log.seconds:.0f} s){where}\n"
    return report


def _verdict(call, report, log: Log) -> tuple[str, str] | None:
    """Return ``skipped`` or ``short`` with the reason, None for a phase that passed."""
    if call.excinfo is None:
        return None
    error = call.excinfo.value
    if isinstance(error, pytest.skip.Exception | pytest.fail.Exception):
        word, reason = "skipped" if report.skipped else "short", str(error)
    else:  # a test that crashes shows nothing
        log.write(report.longreprtext)
        word, reason = "short", f"{PHASES[call.when]} ended with {type(error).__name__}: {error}"
    return word, " / ".join(reason.strip().splitlines())


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report):
    if (output := getattr(report, "output", None)) is None:
        return None
    category = report.outcome if report.when == "call" or not report.passed else ""
    return category, output, output


def pytest_collectreport(report):
    """Print a line for each file that cannot be imported; its lines do not run."""
    if report.failed:
        print(f"{report.nodeid:28} {'short':8} {report.longreprtext.strip().splitlines()[-1]}", flush=True)
