"""The page of `status`: its texts are data, its policy allows no script, and unknown states are shown as unknown."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rackwright import html_page
from rackwright.audit.formats.drawing import draw_stack
from rackwright.status import page
from rackwright.status.page import Change, Sight
from tests.support import rack_page
from tests.support.audit_document import ATTACK

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]")
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "article", "div", "span"),
    *("h1", "h2", "h3", "h4", "p", "ul", "ol", "li", "dl", "dt", "dd", "a", "br", "code", "strong", "small", "time"),
    *("details", "summary", "pre"),
}
"""Elements of the page. None of them runs a program or loads a file."""


class _Page(HTMLParser):
    """The elements, the attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a rack in which every text that is no declaration attacks it."""
    return rack_page.hostile(tmp_path_factory.mktemp("hostile"), 3)


def test_the_page_has_no_element_and_no_attribute_of_a_host(hostile: str) -> None:
    read = _Page(hostile)

    assert {*read.tags} <= ELEMENTS
    names = {name for name, _ in read.attributes}
    assert not {name for name in names if name.startswith("on")} and not names & {"src", "style", "srcset", "action"}
    assert {value[0] for name, value in read.attributes if name == "href" and value} == {"#"}
    assert "<script>alert(1)</script>" in read.text and "{{ 7 * 7 }}" in read.text
    assert not CONTROL.search(hostile)


def test_the_policy_allows_the_style_of_the_page_and_nothing_else(hostile: str) -> None:
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', hostile)
    [style] = re.findall(r"<style>(.*?)</style>", hostile, re.S)

    digest = html_page._policy_hash(style)
    assert policy == f"default-src 'none'; style-src '{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in style and "@import" not in style


def test_each_link_ends_at_an_element_of_the_page(hostile: str) -> None:
    read = _Page(hostile)
    ids = [value for name, value in read.attributes if name == "id"]

    assert len(ids) == len({*ids})
    assert {value[1:] for name, value in read.attributes if name == "href" and value} <= {*ids}


def test_a_host_cannot_make_the_page_large(tmp_path: Path) -> None:
    long = len(rack_page.render(tmp_path, 3, faulty=True, text=ATTACK * 10_000))
    many = rack_page.make_sight(of := rack_page.stack(tmp_path, 3), faulty=True)
    findings = many.document.findings * 100
    line = Change("x" * 1_000_000, ("x" * 1_000_000,) * 1000, frozenset(of.fleet.hosts))
    alert, *_ = many.alerts
    flood = replace(
        many,
        document=replace(many.document, findings=findings, drawing=draw_stack(of, many.document.report, findings)),
        changes=(line,) * 1000,
        alerts=(alert,) * 10_000,
    )
    text = page.render(of, flood, "none")

    assert long < 300_000 and len(text) < 1_000_000
    assert "findings more: <code>rackwright audit rack</code>" in text
    assert "9900 alerts more" in text


def test_each_cell_has_a_sign_and_a_text_beside_its_colour(tmp_path: Path) -> None:
    text = rack_page.render(tmp_path, 6, faulty=True)
    cells = re.findall(r'class="part ([a-z-]+)"[^>]*title="[^"]+: ([a-z ]+)">(.)<span class="away">', text)

    assert {label for label, _, _ in cells} == {"ok", "differs", "unknown", "not-reached"}
    assert {(label, sign) for label, _, sign in cells} <= {*page.html.SIGNS.items()}
    assert all(label == state.replace(" ", "-") for label, state, _ in cells)


def test_hosts_stand_at_their_units_and_the_others_below(tmp_path: Path) -> None:
    text = rack_page.render(tmp_path, 9)
    placed = re.findall(r'<li class="box ok unit-(\d+) high-(\d+)">.*?<a href="#h\d+">(node-\d+)</a>', text, re.S)

    assert placed[-3:] == [("9", "2", "node-003"), ("5", "4", "node-002"), ("1", "4", "node-001")]
    assert ".unit-9 { grid-row-end: -9; }" in text and ".high-4 { grid-row-start: span 4; }" in text
    without = text[text.index("Without a rack") : text.index("</section>", text.index("Without a rack"))]
    assert {*re.findall(r"node-\d+", without)} == {"node-008"}


def sight(of: object, **changes: object) -> Sight:
    return replace(rack_page.make_sight(of), **changes)  # type: ignore[arg-type]


def test_what_is_unknown_is_never_shown_as_fine(tmp_path: Path) -> None:
    of = rack_page.stack(tmp_path, 2)
    fine = page.render(of, sight(of), "none")
    unread = page.render(of, sight(of, alerts=page.NO_MONITORING, changes="the log is broken"), "none")
    resting = replace(of, maintenance={"node-001": "in maintenance until tomorrow"})
    asleep = page.render(resting, rack_page.make_sight(resting), "none")

    assert "✓ <strong>As declared" in fine and "No alert fires" in fine
    assert "No alert fires" not in unread
    assert "Alerts are unknown: the fleet declares no monitoring" in unread
    assert "Changes are unknown: the log is broken" in unread
    assert "in maintenance until tomorrow" in asleep
    [box] = re.findall(r'<li class="box ([a-z-]+) unit-1 high-4">', asleep)
    assert box in ("unknown", "not-compared")


def test_a_fleet_of_runs_alone_compares_no_drive(tmp_path: Path) -> None:
    of = rack_page.stack(tmp_path, 2)
    document = rack_page.make_sight(of).document
    using = replace(of, fleet=of.fleet.model_copy(update={"uses": "fleet.yaml"}))
    drawings = draw_stack(using, replace(document.report, results=document.report.results[:1]), ())

    assert [drawing.state for drawing in drawings] == ["ok", "not compared"]
    assert {part.state for drawing in drawings for part in (*drawing.drives, *drawing.gpus, *drawing.links)} == {
        "not compared"
    }


def test_alerts_are_at_their_host_and_counted(tmp_path: Path) -> None:
    text = rack_page.render(tmp_path, 2, faulty=True)

    assert "1 alert fires" in text
    assert text.count("▲ 1<span") == 1
    assert text.count("drive reports a failure") == 2, "once in the list of alerts, once at the host"


def test_the_findings_of_a_host_need_no_script(tmp_path: Path) -> None:
    text = rack_page.render(tmp_path, 2, faulty=True)

    assert "<summary>3 findings</summary>" in text
    assert "<summary>9 drives, 8 GPUs, 1 link</summary>" in text
    assert "temperature 97 °C" in text


def test_of_a_degraded_array_only_the_missing_drive_has_a_cell_that_differs(tmp_path: Path) -> None:
    [first, _] = rack_page.make_sight(rack_page.stack(tmp_path, 2), faulty=True).document.drawing

    assert [drive.name for drive in first.drives if drive.state == "differs"] == ["node-001-SAS0"]
