"""Line 2: the site builds with all its links, and the quickstart and the tutorials work as pasted."""

import itertools
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support import browser
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.models import smollm2
from tests.support.models.protocol_cases import MODEL
from tests.support.tutorials import clone, paste
from tests.support.workloads import python

PAGES = {
    "quickstart": "quickstart.md",
    "first-rack": "tutorials/first-rack-twin.md",
    "drive-dies": "tutorials/a-drive-dies.md",
    "factory": "tutorials/a-factory.md",
    "hospital": "tutorials/a-hospital.md",
    "bank": "tutorials/a-bank.md",
}
"""Pages whose commands run on a twin, by the name of the line's part."""
SCREENS = (
    "index.html",
    "verified.html",
    "quickstart.html",
    "reference/fleet.html",
    "reference/cli.html",
    "guides/serve-language-model.html",
)
"""Pages that a browser shows at each of the widths."""
WIDTHS = (1280, 420)
ALIGNED_PIXELS = 12
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


@line("front", 2, part="screens")
def test_pages_fit_their_screens_and_the_header_ends_with_the_text(log: Log) -> str:
    """Nothing is wider than the window, the columns of the matrix included, and the front page has one right edge."""
    chromium = browser.find()
    if chromium is None:
        pytest.skip("this computer has no chromium")
    done = log.run(["make", "docs"])
    need(done.returncode == 0, (done.stdout + done.stderr)[-500:])
    site = ROOT / ".rackwright" / "site"
    for name, width in itertools.product(SCREENS, WIDTHS):
        taken = browser.content_width(chromium, site / name, width)
        need(taken <= width, f"{name} takes {taken} of {width} pixels")
    edge = "Math.max(...[...document.querySelectorAll('{}')].map(each => each.getBoundingClientRect().right))"
    [cells, window] = browser.measure(
        chromium, site / "verified.html", WIDTHS[1], edge.format(".matrix td"), "innerWidth"
    )
    need(cells <= window, f"a cell of the matrix ends at {cells} of {window} pixels")
    text, search = (edge.format(part) for part in (".md-content table", ".md-search__button"))
    [text_end, search_end] = browser.measure(chromium, site / "index.html", WIDTHS[0], text, search)
    need(abs(text_end - search_end) <= ALIGNED_PIXELS, f"the text ends at {text_end}, the search at {search_end}")
    return f"{len(SCREENS)} pages at {' and '.join(map(str, WIDTHS))} pixels"


def _loads(page: Path) -> list[str]:
    parser = _Loads()
    parser.feed(page.read_text())
    return parser.files


@line("front", 2)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_for_the_twin_works_as_pasted(log: Log, page: str) -> str:
    """In a clone, to the end; what changes a file of the clone is in the page."""
    with clone(log, log.empty_directory().with_name(f"{log.directory.name}-clone")) as project:
        lines, _ = paste(log, PAGES[page], project)
    return f"{lines} lines ran"


@line("front", 2, part="train-and-serve")
def test_the_tutorial_of_training_and_serving_works_as_pasted(log: Log) -> str:
    lines, printed = paste(log, "tutorials/train-and-serve.md")
    need('"model_version":' in printed, "no answer of the server was printed")
    return f"{lines} lines ran, from training to the end of the server"


@line("front", 2)
@pytest.mark.parametrize("page", ["serve-language-model", "fine-tune"])
def test_a_guide_for_language_models_works_as_pasted(log: Log, page: str) -> str:
    """Up to the rack, with a language model of random weights, and SmolLM2 in the place of the reader's GGUF file."""
    models = log.directory.with_name(f"{log.directory.name}-models")  # the log's own directory is emptied again
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir(parents=True)
    made = log.run([python(log), "-m", "tests.support.models.tiny_llama", str(models)])
    need(made.returncode == 0, f"no model was made: {made.stderr[-300:]}")
    files = {"file": smollm2.gguf()} if page == "serve-language-model" else {}
    with clone(log, log.directory.with_name(f"{log.directory.name}-clone")) as project:
        lines, printed = paste(log, f"guides/{page}.md", project, base=models / MODEL, **files)
    need('"choices"' in printed, "no answer of the server was printed")
    need("published" in printed, "no model was published")
    return f"{lines} lines ran, to an answer of the server"
