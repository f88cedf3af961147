"""The formats of a report: their required parts, and that no text of a host has a meaning in any of them."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from rich.console import Console

from rackwright import html_page
from rackwright.audit import formats
from rackwright.audit.formats import csv_table, html, junit, markdown, metrics, sarif, terminal_report
from rackwright.audit.formats.document import AuditDocument, by_host, mark_known
from rackwright.audit.formats.finding import Selection, collect
from rackwright.audit.formats.json_report import as_data
from rackwright.fleet.resource_place import ResourcePlaces
from tests.support.audit_document import ATTACK, HOSTS, attacked_facts, make_document
from tests.support.inventory import OTHERS, with_nothing_more
from tests.support.json_documents import checked
from tests.support.recorded_hosts import STACK, recorded
from tests.support.report_schemas import junit_problems, sarif_problems

DIFF = f"--- /etc/x\n+++ /etc/x\n@@ -1 +1 @@\n-{ATTACK.splitlines()[0]}\n+good"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.fixture(scope="module")
def document() -> AuditDocument:
    return make_document(diff=DIFF)


def parse_xml(text: str) -> ElementTree.Element:
    """Return the root of *text*; a character that XML forbids is an error."""
    assert "\ufffe" not in text
    return ElementTree.fromstring(text)  # noqa: S314 -- our own text


def test_the_findings_have_each_state_once_with_file_and_line(document):
    found = {(finding.resource, finding.path, finding.state) for finding in document.findings}
    lines = STACK.fleet_file.read_text().splitlines()

    assert {state for _, _, state in found} == {"differs", "undeclared", "unknown", "not reached"}
    assert len(found) == len(document.findings)
    for finding in document.findings:
        assert finding.file == "stacks/lab.yaml"
        name = "bitmap" if finding.path.endswith(".bitmap") else finding.resource.rpartition("/")[2]
        assert name in lines[finding.line - 1] or finding.resource.rpartition("/")[2] in lines[finding.line - 1]


@pytest.mark.parametrize(
    ("type", "resource", "thing", "property", "text"),
    [
        ("rackwright:host:Host", HOSTS[0], "drive:RW01-BOOT", "present", "RW01-BOOT"),
        ("rackwright:host:Host", HOSTS[0], f"host:{HOSTS[0]}", "serial", "serial"),
        ("rackwright:host:Host", HOSTS[0], "unheard:of", "property", f"{HOSTS[0]}:"),
        ("rackwright:storage:Tier", f"{HOSTS[0]}/hot", "md:x", "level", "hot:"),
    ],
)
def test_a_place_is_the_line_that_declares_the_thing(type, resource, thing, property, text):
    line = ResourcePlaces(STACK.fleet_file).line(type, resource, thing, property)

    assert line is not None and text in STACK.fleet_file.read_text().splitlines()[line - 1]


def test_the_json_report_is_of_its_type_and_flat(document):
    data = checked("audit", as_data(document))

    assert [each["fingerprint"] for each in data["findings"]] == [each.fingerprint for each in document.findings]
    assert data["exit_status"] == 1
    assert json.loads(formats.render("json", document)) == {"schema_version": 1, **data}


def test_sarif_has_the_required_parts_and_points_at_lines(document):
    text = sarif.render(document)
    [run] = json.loads(text)["runs"]

    assert list(sarif_problems(text)) == []
    for result, finding in zip(run["results"], document.findings, strict=True):
        place = result["locations"][0]["physicalLocation"]
        assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == (finding.file, finding.line)
    levels = {finding.state: each["level"] for each, finding in zip(run["results"], document.findings, strict=True)}
    assert (levels["differs"], levels["unknown"]) == ("error", "warning")
    assert run["invocations"][0]["executionSuccessful"] is False
    assert [HOSTS[1] in each["message"]["text"] for each in run["invocations"][0]["toolExecutionNotifications"]] == [
        True
    ]


def test_sarif_takes_no_link_and_no_placeholder_from_a_host(document):
    texts = [result["message"]["text"] for result in json.loads(sarif.render(document))["runs"][0]["results"]]

    assert any("javascript:b" in text for text in texts)
    assert not any(re.search(r"(?<!\\)\[[^\]]*\]\(|(?<!\{)\{\d", text) or CONTROL.search(text) for text in texts)


def test_junit_has_a_case_for_each_resource_and_counts_that_agree(document):
    root = parse_xml(junit.render(document))
    cases = {case.get("name"): case for case in root.iter("testcase")}

    undeclared = {name for name in cases if re.match(rf"{HOSTS[0]}: RW-10[123] ", name)}
    assert cases.keys() == {result.name for result in document.report.results} | undeclared
    assert len(undeclared) == 3
    assert list(junit_problems(junit.render(document))) == []
    assert cases[f"{HOSTS[1]}/hot"].find("error") is not None
    assert [case.get("classname") for case in root.iter("testcase") if case.find("failure") is not None] == [
        "rackwright:storage:Tier",
        "rackwright:audit:Undeclared",
    ]


def test_junit_is_xml_whatever_a_host_reports(document):
    text = junit.render(document)
    root = parse_xml(text)

    assert not CONTROL.search(text)
    assert not list(root.iter("script")) and not list(root.iter("img"))
    assert any("</script>" in "".join(element.itertext()) for element in root.iter("failure"))


def test_a_spreadsheet_computes_no_cell(document):
    rows = list(csv.reader(io.StringIO(csv_table.render(document))))

    assert rows[0] == list(csv_table.COLUMNS)
    assert len(rows) == 1 + len(document.findings)
    assert not [cell for row in rows for cell in row if cell.startswith(csv_table.FORMULA)]
    assert any("cmd|" in cell for row in rows for cell in row)
    assert not CONTROL.search("".join(cell for row in rows for cell in row))


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", " =1"])
def test_each_start_of_a_formula_stays_text(text):
    assert not csv_table.cell(text).lstrip(" ").startswith(csv_table.FORMULA)


def test_markdown_has_each_finding_in_one_row(document):
    lines = markdown.render(document).splitlines()
    rows = [line for line in lines if re.match(r"\| (differs|undeclared|unknown|not reached),", line)]

    assert len(rows) == sum(finding.counts for finding in document.findings)
    # a bar without a backslash separates cells: the text of a host adds none
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}


def test_markdown_has_the_text_of_a_host_in_code_only(document):
    text = markdown.render(document)
    outside = re.sub(r"^(`{3,})diff\n.*?^\1$", "", text, flags=re.M | re.S)
    outside = re.sub(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)", "", outside)

    assert "javascript:b" in text
    assert not re.search(r"javascript:b|onerror|@all|# heading", outside)
    assert not CONTROL.search(text)


@pytest.mark.parametrize("text", ["@team look", "a*b_c", "<b>", "[x](y)", "`x`", "| x"])
def test_plain_text_in_markdown_has_no_marks(text):
    escaped = markdown.escape(text)

    assert not re.search(r"(?<!\\)[*_`\[\]|]", escaped) and not re.search(r"(?<![\w])@\w", escaped)


def test_markdown_stays_below_the_limit_of_a_merge_request(document):
    many = replace(document, findings=document.findings * 400)

    text = markdown.render(many)

    assert len(text) < 65_536
    assert "more findings are left out" in text


class _Page(HTMLParser):
    """The tags, the attributes and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_has_no_element_of_a_host(document):
    text = html.render(document)
    page = _Page()
    page.feed(text)

    assert page.tags.count("script") == 1 and "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [value for name, value in page.attributes if name in ("src", "href")]
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert not CONTROL.search(text)


def test_a_page_allows_only_its_own_script_and_style(document):
    text = html.render(document)
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    script, style = (re.search(f"<{tag}>(.*?)</{tag}>", text, re.S)[1] for tag in ("script", "style"))

    assert policy.startswith("default-src 'none'")
    assert html_page._policy_hash(script) in policy and html_page._policy_hash(style) in policy
    assert "url(" not in style and "http" not in script


def test_a_page_has_hosts_kinds_drives_and_diffs(document):
    page = _Page()
    page.feed(html.render(document))
    matrix = html.make_matrix(document)

    assert [host for host, _ in matrix.rows] == list(HOSTS)
    assert dict(matrix.rows[1][1])["tier"].text == "not reached"
    assert {part.state for part in document.drawing[1].drives} == {"not reached"}
    assert {part.state for part in document.drawing[0].gpus} == {"not compared"}, "the twin has no GPUs to look at"
    assert "+good" in page.text
    assert page.tags.count("article") == sum(len(html.make_cards(each)) for each in by_host(document.findings).values())


def test_the_terminal_shows_each_remedy_once_in_80_columns(document):
    console = Console(file=io.StringIO(), width=80, record=True)
    terminal_report.show(document, console)
    text = console.export_text()

    assert not CONTROL.search(text.replace("\n", ""))
    assert max(map(len, text.splitlines()[:-1])) <= 80
    for remedy in {finding.remedy for finding in document.findings if finding.remedy}:
        assert " ".join(text.split()).count(remedy) == 1
    assert text.count("Switch it on") == 1
    assert "+good" not in text
    terminal_report.show(document, console, diff=True)
    assert "+good" in console.export_text()


def test_known_findings_change_no_status_and_stay_in_view(document):
    different = ("differs", "undeclared")
    known = frozenset(finding.fingerprint for finding in document.findings if finding.state in different)
    marked = replace(document, findings=mark_known(document.findings, known))

    assert (document.exit_status, marked.exit_status) == (1, 3)
    assert replace(marked, strict=True).exit_status == 1
    results = json.loads(sarif.render(marked))["runs"][0]["results"]
    assert {result["baselineState"] for result in results} == {"new", "unchanged"}
    assert "failure" not in {element.tag for element in parse_xml(junit.render(marked)).iter()}
    everything = frozenset(finding.fingerprint for finding in document.findings)
    assert replace(document, findings=mark_known(document.findings, everything)).exit_status == 0


def test_what_the_fleet_allows_changes_no_status_and_stays_in_view(document):
    allowed = replace(document, findings=tuple(each for each in document.findings if each.allowed))

    assert len(allowed.findings) == 1
    assert allowed.exit_status == 0
    [result] = json.loads(sarif.render(allowed))["runs"][0]["results"]
    assert result["suppressions"][0]["justification"] == "a guest until June"
    assert "a guest until June" in html.render(allowed)
    text = formats.render("terminal", allowed)
    assert f"allowed: {HOSTS[0]}: RW-102 user:guest: a guest until June" in text and "1 allowed" in text
    assert "a guest until June" in formats.render("markdown", allowed)


def test_another_value_is_not_known(document):
    changed = next(each for each in document.findings if each.state == "differs")
    raw = attacked_facts()
    raw[HOSTS[0]]["arrays"][0]["bitmap"] = "none"
    again = next(each for each in make_document(raw).findings if each.path == changed.path)

    assert again.fingerprint != changed.fingerprint


@pytest.mark.parametrize(
    ("selection", "states"),
    [
        (Selection(only=("host",)), {"not reached"}),
        (Selection(only=("md:*.bitmap",)), {"differs", "unknown", "not reached"}),
        (Selection(only=(f"{HOSTS[0]}/*",)), {"differs", "unknown"}),
        (Selection(only=("tier/md.*",)), {"differs", "unknown"}),
        (Selection(severity="error"), {"differs", "undeclared", "unknown", "not reached"}),
        (Selection(only=("RW-*",)), {"undeclared", "unknown"}),
        (Selection(only=("undeclared",), severity="warning"), {"undeclared"}),
    ],
)
def test_a_selection_takes_kinds_resources_paths_and_rules(document, selection, states):
    shown = collect(document.report, ResourcePlaces(STACK.fleet_file), "stacks/lab.yaml", selection=selection)

    assert {finding.state for finding in shown} == states
    own = {finding.fingerprint for finding in shown}
    others = [finding.fingerprint for finding in document.findings if finding.fingerprint in own]
    assert [finding.fingerprint for finding in shown] == others


def test_resources_that_were_not_reached_share_one_card() -> None:
    page = formats.render("html", make_document())
    cards = re.findall(r"<article data-host=\"gpu-02\".*?</article>", page, re.S)
    away = [finding for finding in make_document().findings if finding.state == "not reached"]

    assert len(away) > 1 and len(cards) == 1
    assert f"{len(away)} resources: {', '.join(finding.resource for finding in away)}" in cards[0]
    assert all(f"|{finding.kind}|" in cards[0].partition(">")[0] for finding in away)
    assert page.count("no answer") == 1


def test_the_total_counts_rows_and_properties_apart() -> None:
    facts = {host: with_nothing_more(recorded(host), OTHERS) for host in HOSTS}
    whole = formats.format_counts(make_document(facts, reached=True))
    facts[HOSTS[0]]["mounts"] = [each for each in facts[HOSTS[0]]["mounts"] if each["target"] != "/srv/hot"]
    document = make_document(facts, reached=True)
    properties = document.counts["differs"]

    assert ", 0 differ, " in whole
    assert properties > 1 and f", 1 differ in {properties} properties, " in formats.format_counts(document)
    shown = formats.render("terminal", document)
    assert len(re.findall(r"^    differs ", shown, re.M)) == 1


def test_a_page_has_hosts_in_the_order_of_the_fleet_and_names_the_commands_that_repair() -> None:
    document = make_document()
    order = [*dict.fromkeys(result.name.partition("/")[0] for result in document.report.results)]
    reverse = replace(document, report=replace(document.report, results=document.report.results[::-1]))
    for one, wanted in ((document, order), (reverse, order[::-1])):
        page = formats.render("html", one)
        assert [*dict.fromkeys(re.findall(r'<article data-host="([^"]+)"', page))] == wanted
        assert [each for each in re.findall(r"<option>([^<]+)</option>", page) if each in order] == wanted
    repair = "<code>rackwright up lab</code> repairs"
    without_remedy = tuple(replace(each, remedy="") for each in document.findings)
    assert repair in formats.render("html", replace(document, findings=without_remedy))
    plain = tuple(each for each in document.findings if each.state == "not reached")
    assert repair not in formats.render("html", replace(document, findings=plain))


def test_the_verdict_of_a_page_says_whether_anything_is_known() -> None:
    document = make_document()
    away = tuple(each for each in document.findings if each.state == "not reached")
    some = replace(document, findings=away)
    results = tuple(replace(result, matches=0) for result in document.report.results)

    assert "<strong>Partly unknown</strong>" in formats.render("html", some)
    nothing = replace(some, report=replace(document.report, results=results))
    assert "<strong>Nothing is known</strong>" in formats.render("html", nothing)


def test_the_metrics_count_findings_and_name_the_first_ones(document, monkeypatch):
    text = metrics.render(document)
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    counting = [finding for finding in document.findings if finding.counts]

    assert int(samples[f'rackwright_audit_exit_status{{stack="{STACK.name}"}}']) == document.exit_status == 1
    for state in {finding.state for finding in counting}:
        number = sum(finding.state == state for finding in counting)
        assert samples[f'rackwright_audit_findings{{stack="{STACK.name}",state="{state}"}}'] == str(number)
    series = [name for name in samples if name.startswith("rackwright_audit_finding{")]
    assert len(series) == len(counting) and len({*series}) == len(series)
    assert not CONTROL.search(text.replace("\n", "")) and max(map(len, text.splitlines())) < 700
    monkeypatch.setattr(metrics, "FINDINGS_MAX", 1)
    cut = metrics.render(document)
    assert cut.count("rackwright_audit_finding{") == 1
    assert f'rackwright_audit_findings_left_out{{stack="{STACK.name}"}} {len(counting) - 1}' in cut


def test_findings_with_equal_beginnings_are_one_series(document):
    long = replace(document.findings[0], path="file:/" + "x" * 200, known=False, allowed="")
    twice = replace(document, findings=(long, replace(long, path=f"{long.path}y")))
    assert metrics.render(twice).count("rackwright_audit_finding{") == 1
