"""A headless browser for tests of pages: pictures, and the document after its scripts have run."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000")


def find() -> str | None:
    """Return the path of Chromium; None if this computer has none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def screenshot(browser: str, page: Path, width: int, picture: Path, height: int = 1600, dark: bool = False) -> None:
    """Write a *picture* of *page* in a window of *width* pixels."""
    _run(browser, page, *_scheme(dark), f"--window-size={width},{height}", f"--screenshot={picture}")


def _scheme(dark: bool) -> list[str]:
    return ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []


def document(browser: str, page: Path, width: int = 1280, dark: bool = False) -> str:
    """Return the HTML of *page* after its scripts have run."""
    return _run(browser, page, *_scheme(dark), f"--window-size={width},1600", "--dump-dom")


def content_width(browser: str, page: Path, width: int) -> int:
    """Return the width that the content of *page* takes in a window of *width* pixels."""
    taken, window = measure(browser, page, width, "document.documentElement.scrollWidth", "innerWidth")
    return taken - window + width


def measure(browser: str, page: Path, width: int, *expressions: str, dark: bool = False, before: str = "") -> list[int]:
    """Return the values of *expressions* of JavaScript in *page*, rounded.

    A copy of the page without its policy, in the same folder, runs a script of the test. It is the document of a frame
    of *width* pixels: a window of the headless browser is never narrower than 500.

    Args:
        before: Statements that the script begins with.
    """
    values = f"[{', '.join(expressions)}].map(Math.round).join('/')"
    script = f"{before} parent.postMessage({values}, '*');"
    text = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page.read_text())
    style = "<style>html { scrollbar-width: none; }</style>"
    with _beside(page, text.replace("</body>", f"{style}<script>{script}</script></body>")) as copy:
        listen = "<script>addEventListener('message', event => { document.title = event.data; })</script>"
        frame = f'<iframe width="{width}" height="1600" style="border: 0" src="{copy.name}"></iframe>'
        with _beside(page, f"<!doctype html><title>measure</title>{listen}{frame}") as outer:
            title = re.search(r"<title>([\d/-]+)</title>", document(browser, outer, width, dark))
    assert title is not None, "the script of the test did not run"
    return [int(value) for value in title[1].split("/")]


@contextmanager
def _beside(page: Path, text: str) -> Iterator[Path]:
    """Yield a temporary page with *text* in the folder of *page*, whose files it may load."""
    with tempfile.NamedTemporaryFile("w", dir=page.parent, suffix=".html") as copy:
        copy.write(text)
        copy.flush()
        yield Path(copy.name)


def _run(browser: str, page: Path, *options: str) -> str:
    with tempfile.TemporaryDirectory(prefix="rackwright-browser-") as profile:
        argv = [browser, *OPTIONS, f"--user-data-dir={profile}", *options, page.resolve().as_uri()]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=300).stdout
