"""The formats of a report, from the command as an auditor types it, with a host that attacks each of them."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from benchmarks.rack import facts, fleet, keep_salt, names
from tests.support import browser
from tests.support.acceptance import line
from tests.support.audit_document import ATTACK
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.report_schemas import junit_problems, sarif_problems
from tests.support.simulated import SimulatedRack

DRIFTED, SOUND, AWAY = HOSTS = names(3)
FORMATS = ("json", "sarif", "junit", "markdown", "html", "csv")
WIDTHS = (1280, 420)
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a report in each format: one host attacks, one is as declared, one is off."""
    log, directory = Log("audit.4"), tmp_path_factory.mktemp("reports")
    with SimulatedRack({name: facts(name) for name in HOSTS}) as rack:
        text = fleet(rack, [rack[name] for name in HOSTS])
        with Lab(log.empty_directory() / "project", text, log, target="rack") as lab:
            keep_salt(lab.directory)
            lab.pins.write_text("".join(rack[name].pin for name in HOSTS))
            raw = facts(DRIFTED)
            raw["arrays"][0]["bitmap"] = ATTACK
            rack[DRIFTED].set_facts(raw)
            rack.switch_off(AWAY)
            for format in FORMATS:
                output = str(directory / f"audit.{format}")
                lab.rackwright("audit", lab.stack, "--format", format, "--output", output, status=1)
            (directory / "schema.json").write_text(lab.rackwright("schema", "--output", "audit", status=0).stdout)
            (directory / "audit.txt").write_text(lab.rackwright("audit", lab.stack, status=1).stdout)
            (directory / "fleet.yaml").write_text(text)
            baseline = str(directory / "audit.json")
            known = lab.rackwright("audit", lab.stack, "--baseline", baseline, status=0).stdout
            need("known from the baseline" in known, "the baseline is not named")
        yield directory


@line("audit", 4, part="schemas")
def test_each_format_is_valid_whatever_a_host_reports(log: Log, reports: Path) -> str:
    """JSON by its published schema; SARIF and JUnit by the required parts of their specifications."""
    document = json.loads((reports / "audit.json").read_text())
    schema = json.loads((reports / "schema.json").read_text())
    problems = [error.message for error in Draft202012Validator(schema).iter_errors(document)]
    problems += sarif_problems((reports / "audit.sarif").read_text())
    problems += junit_problems((reports / "audit.junit").read_text())
    need(not problems, "; ".join(problems)[:500])
    rows = list(csv.DictReader(io.StringIO((reports / "audit.csv").read_text())))
    need(len(rows) == len(document["findings"]), "the table has other findings than the JSON document")
    formulas = [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    need(not formulas, f"a spreadsheet would compute {formulas}")
    for path in (*reports.glob("audit.*"),):
        if path.suffix != ".json":
            need(not CONTROL.search(path.read_text()), f"{path.name} has control characters")
    log(f"{len(rows)} findings in {len(FORMATS)} formats")
    return f"{len(FORMATS)} formats with {len(rows)} findings"


@line("audit", 4, part="places")
def test_each_finding_is_at_the_line_that_declares_the_thing(log: Log, reports: Path) -> str:
    """A code host shows a finding at the line that its SARIF location names."""
    [run] = json.loads((reports / "audit.sarif").read_text())["runs"]
    lines = (reports / "fleet.yaml").read_text().splitlines()
    for result in run["results"]:
        place = result["locations"][0]["physicalLocation"]
        text = lines[place["region"]["startLine"] - 1].strip()
        name = result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]
        host, _, rest = name.partition("/")
        log(f"{name.splitlines()[0][:60]}: {text[:60]}")
        need(place["artifactLocation"]["uri"] == "stacks/fleet.yaml", "the finding is in another file")
        need(text.startswith((f"{host}:", f"{rest.partition('/')[0]}:")), f"{name} is at {text!r}")
    return f"{len(run['results'])} places"


@line("audit", 4, part="terminal")
def test_the_terminal_has_80_columns_and_each_remedy_once(log: Log, reports: Path) -> str:
    text = (reports / "audit.txt").read_text()
    remedies = {each["remedy"] for each in json.loads((reports / "audit.json").read_text())["findings"]} - {""}
    words = " ".join(text.split())
    remedies_part = "[1] " + words.rpartition("[1] ")[2]
    listed = re.findall(r"\[\d+\] (.*?)(?= \[\d+\] | \w+: \d+ resources)", remedies_part)
    need(sorted(listed) == sorted(remedies), "a remedy is missing or repeated")
    longest = max(map(len, text.splitlines()[:-1]))
    need(longest <= 80, f"a line has {longest} columns")
    return f"{len(remedies)} remedies, {longest} columns"


@line("audit", 4, part="page")
def test_the_page_works_in_a_browser_and_obeys_no_host(log: Log, reports: Path) -> str:
    """Its script runs under its policy, that of the host does not, and nothing is wider than the window."""
    chromium = browser.find()
    if chromium is None:
        pytest.skip("this computer has no chromium")
    page = log.empty_directory() / "audit.html"
    page.write_text((reports / "audit.html").read_text())
    text = browser.document(chromium, page)
    findings = json.loads((reports / "audit.json").read_text())["findings"]
    away = [each["host"] for each in findings if each["state"] == "not reached"]
    count = len(findings) - len(away) + len({*away})  # the page has one card for a host that is not reached
    need(f"{count} of {count} findings" in text, "the script of the page did not run")
    need(not re.search(r"<img|<script>alert", text), "the page has elements of a host")
    for width in WIDTHS:
        browser.screenshot(chromium, page, width, page.with_name(f"{width}.png"))
        taken = browser.content_width(chromium, page, width)
        need(taken <= width, f"the content takes {taken} of {width} pixels")
    return f"{count} findings shown, nothing wider than {' and '.join(map(str, WIDTHS))} pixels"
