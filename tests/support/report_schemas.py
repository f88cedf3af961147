"""The required parts of SARIF logs and JUnit reports, as tables, and the check of a document against them.

Sources: SARIF 2.1.0 (OASIS), sections 3.13 to 3.58; junit-10.xsd of the Jenkins plugin xUnit.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

SARIF: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "log": {"version": (str,), "runs": (list,), "$schema": (str,)},
    "run": {"tool": (dict,), "results": (list,)},
    "driver": {"name": (str,), "version": (str,), "rules": (list,)},
    "rule": {"id": (str,), "shortDescription": (dict,)},
    "result": {"message": (dict,), "ruleId": (str,), "ruleIndex": (int,), "level": (str,), "locations": (list,)},
    "invocation": {"executionSuccessful": (bool,)},
    "message": {"text": (str,)},
    "artifactLocation": {"uri": (str,)},
    "region": {"startLine": (int,)},
}
"""Properties that the specification requires, or that code hosts need, with their types."""
SARIF_WORDS: Mapping[str, frozenset[str]] = {
    "level": frozenset(("none", "note", "warning", "error")),
    "kind": frozenset(("notApplicable", "pass", "fail", "review", "open", "informational")),
    "baselineState": frozenset(("new", "unchanged", "updated", "absent")),
}
JUNIT: Mapping[str, tuple[frozenset[str], frozenset[str], frozenset[str]]] = {
    "testsuites": (
        frozenset(),
        frozenset(("name", "time", "tests", "failures", "errors")),
        frozenset(("testsuite",)),
    ),
    "testsuite": (
        frozenset(("name", "tests", "failures", "errors")),
        frozenset(("skipped", "hostname", "time", "timestamp", "id", "package")),
        frozenset(("testsuite", "properties", "testcase", "system-out", "system-err")),
    ),
    "testcase": (
        frozenset(("name",)),
        frozenset(("time", "classname", "group")),
        frozenset(("skipped", "error", "failure", "system-out", "system-err")),
    ),
    "failure": (frozenset(), frozenset(("type", "message")), frozenset()),
    "error": (frozenset(), frozenset(("type", "message")), frozenset()),
    "skipped": (frozenset(), frozenset(("type", "message")), frozenset()),
    "system-out": (frozenset(), frozenset(), frozenset()),
}
"""Required attributes, other attributes, and elements below, of each element."""


def sarif_problems(text: str) -> Iterator[str]:
    """Yield what is wrong with *text* as a SARIF log."""
    log = json.loads(text)
    yield from _missing("log", log)
    if log["version"] != "2.1.0":
        yield f"version {log['version']}"
    for run in log["runs"]:
        driver, results = run["tool"]["driver"], run["results"]
        yield from (*_missing("run", run), *_missing("driver", driver))
        yield from (problem for rule in driver["rules"] for problem in _missing("rule", rule))
        yield from (problem for each in run.get("invocations", ()) for problem in _missing("invocation", each))
        ids = [rule["id"] for rule in driver["rules"]]
        if len({*ids}) != len(ids):
            yield "two rules have one id"
        for result in results:
            yield from (*_missing("result", result), *_missing("message", result["message"]))
            if ids[result["ruleIndex"]] != result["ruleId"]:
                yield f"{result['ruleId']} has the index of {ids[result['ruleIndex']]}"
            yield from (
                f"{key} {result[key]}" for key, words in SARIF_WORDS.items() if result.get(key, "") not in words
            )
            for location in result["locations"]:
                place = location["physicalLocation"]
                yield from _missing("artifactLocation", place["artifactLocation"])
                yield from _missing("region", place["region"])
                if place["region"]["startLine"] < 1:
                    yield "a line before the first"


def _missing(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    for key, types in SARIF[name].items():
        if not isinstance(part.get(key), types):
            yield f"{name} has no {key}"


def junit_problems(text: str) -> Iterator[str]:
    """Yield what is wrong with *text* as a JUnit report.

    Raises:
        ParseError: It is no XML.
    """
    root = ElementTree.fromstring(text)  # noqa: S314 -- our own text
    if root.tag != "testsuites":
        yield f"the root is {root.tag}"
    for element in root.iter():
        if element.tag not in JUNIT:
            yield f"an element {element.tag}"
            continue
        required, others, below = JUNIT[element.tag]
        yield from (f"{element.tag} has no {name}" for name in required - {*element.keys()})
        yield from (f"{element.tag} has {name}" for name in {*element.keys()} - required - others)
        yield from (f"{child.tag} below {element.tag}" for child in element if child.tag not in below)
        if element.tag in ("testsuite", "testsuites"):
            cases = list(element.iter("testcase"))
            counts = {"tests": len(cases)}
            for name, tag in (("failures", "failure"), ("errors", "error")):
                counts[name] = sum(case.find(tag) is not None for case in cases)
            yield from (
                f"{element.tag} counts {name} wrongly" for name in counts if element.get(name) != str(counts[name])
            )
