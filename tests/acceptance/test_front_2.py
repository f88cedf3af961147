"""Line 2: the site builds with all its links, and the quickstart and the tutorials work as pasted."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.tutorials import clone, paste, train

PAGES = {
    "quickstart": "quickstart.md",
    "first-rack": "tutorials/first-rack-twin.md",
    "drive-dies": "tutorials/a-drive-dies.md",
    "factory": "tutorials/a-factory.md",
    "hospital": "tutorials/a-hospital.md",
    "bank": "tutorials/a-bank.md",
}
"""Pages whose commands run on a twin, by the name of the line's part."""
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
"""Attributes by which a page loads a file, by the tag."""
IMPORTED = re.compile(r"""url\(\s*['"]?(https?:)?//""")


class _Loads(HTMLParser):
    """The files that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("rel") != "canonical" and (value := values.get(LOADED.get(tag, ""))):
            self.files.append(value)


@line("front", 2, part="site")
def test_the_site_builds_and_loads_nothing_from_outside(log: Log) -> str:
    """`make docs` with its strict link check; then every file that a page loads is in the folder."""
    done = log.run(["make", "docs"])
    need(done.returncode == 0 and "No issues found" in done.stdout + done.stderr, (done.stdout + done.stderr)[-500:])
    site = ROOT / ".rackwright" / "site"
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        for file in _loads(page):
            need(not re.match(r"(https?:)?//", file), f"{page.name} loads {file}")
    outside = [style.name for style in site.rglob("*.css") if IMPORTED.search(style.read_text())]
    need(not outside, f"{', '.join(outside)} load from outside")
    return f"{len(pages)} pages"


def _loads(page: Path) -> list[str]:
    parser = _Loads()
    parser.feed(page.read_text())
    return parser.files


@line("front", 2)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_for_the_twin_works_as_pasted(log: Log, page: str) -> str:
    """In a clone, from `make up` to the end; what changes a file of the clone is in the page."""
    with clone(log, log.empty_directory().with_name(f"{log.directory.name}-clone")) as project:
        lines, _ = paste(log, PAGES[page], project)
    return f"{lines} lines ran"


@line("front", 2, part="train-and-serve")
def test_the_tutorial_of_training_and_serving_works_as_pasted(log: Log) -> str:
    train(log)
    lines, printed = paste(log, "tutorials/train-and-serve.md")
    need('"model_version":' in printed, "no answer of the server was printed")
    return f"{lines} lines ran, from quantising to the end of the server"
