"""There is one comparison: without it nothing is ever found, and where it errs all that use it err alike."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.rack import facts, fleet, keep_salt, names
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab, json_lines
from tests.support.log import Log
from tests.support.simulated import SimulatedRack

LENS = Path(__file__).with_name("lens")
TESTS = {
    "preview": "tests/pulumi/test_engine.py::test_drift_is_printed_claim_by_claim_and_mended",
    "refresh": "tests/pulumi/test_engine.py::test_refresh_finds_the_same_drift_without_a_program",
    "audit": "tests/audit/test_report.py::test_a_difference_is_reported_by_its_path",
    "after": "tests/provider/test_changes.py::test_steps_that_do_not_do_what_they_say_are_caught",
}
"""One test of each use of the comparison: it passes, and fails when nothing ever differs."""
[HOST] = names(1)
TIER = f"{HOST}/hot"
PATH = f"md:{HOST}:hot.bitmap"


@line("foundation", "toy", part="blind")
def test_without_the_diff_function_nothing_finds_drift(log: Log) -> str:
    """With the comparison blind, the tests of all four fail; and drift is seen by none of them."""
    for use, test in TESTS.items():
        log(f"the test of {use}, honest and blind")
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
        honest = log.run(argv)
        need(honest.returncode == 0, f"{test} does not pass")
        need(log.run(argv, env=_through("blind")).returncode == 1, f"{test} passes although nothing ever differs")
    with _simulated(log, drifted=True) as lab:
        _reported(lab, {PATH})
        lab.environment |= _through("blind")
        _reported(lab, set())
    return "4 tests fail without the comparison; drift is reported by all four with it, by none without"


@line("foundation", "toy", part="inverted")
def test_an_inverted_diff_function_misleads_all_four_uses_alike(log: Log) -> str:
    """With one property compared the wrong way round, all four report that property of a host that is as declared."""
    with _simulated(log, drifted=False) as lab:
        _reported(lab, set())
        lab.environment |= _through(PATH)
        _reported(lab, {PATH})
    return f"preview, refresh, audit and the check after up all report {PATH}"


def _through(lens: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(LENS), "ACCEPT_LENS": lens}


@contextmanager
def _simulated(log: Log, drifted: bool) -> Iterator[Lab]:
    """A lab over a simulated host that is as declared and whose steps do nothing; the state knows it so."""
    with SimulatedRack({HOST: facts(HOST)}) as rack:
        host = rack[HOST]
        with Lab(log.empty_directory() / "project", fleet(rack, [host]), log, target="rack") as lab:
            lab.pins.write_text(host.pin)
            keep_salt(lab.directory)
            lab.up()
            if drifted:
                host.set_facts(_without_bitmap(facts(HOST)))
            yield lab


def _without_bitmap(raw: dict[str, Any]) -> dict[str, Any]:
    for array in raw["arrays"]:
        if array["md_name"] == f"{HOST}:hot":
            array["bitmap"] = "none"
    return raw


def _reported(lab: Lab, wanted: set[str]) -> None:
    reports = {"preview": _preview, "refresh": _refresh, "audit": _audit, "the check after up": _after}
    for use, report in reports.items():
        found = report(lab)
        lab.log(f"{use} reports {', '.join(found) or 'nothing'}")
        need(found == wanted, f"{use} reports {found or 'nothing'}, wanted {wanted or 'nothing'}")


def _preview(lab: Lab) -> set[str]:
    return _paths([*json_lines(lab.pulumi("preview", "--json").stdout)][-1])


def _refresh(lab: Lab) -> set[str]:
    return _paths([*json_lines(lab.pulumi("refresh", "--preview-only", "--json").stdout)][-1])


def _paths(digest: Mapping[str, Any]) -> set[str]:
    paths = {path for step in digest["steps"] for path in step.get("detailedDiff") or {}}
    return {re.sub(r'^claims\["(.*)"\]', r"\1", path) for path in paths}


def _audit(lab: Lab) -> set[str]:
    resources = lab.audit()["resources"]
    return {f"{item['claim']}.{item['property']}" for resource in resources for item in resource["differences"]}


def _after(lab: Lab) -> set[str]:
    done = lab.up(status=None)
    text = " ".join((done.stdout + done.stderr).split())
    return {*re.findall(r"the host differs: (\S+) is", text)}
