"""How `rackwright lock` ends while pip downloads: its lines without a terminal, and that no file stays."""

import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackwright import scratch

ROOT = Path(__file__).parents[2]
FILE = "large-1.0-py3-none-any.whl"
RESOLVE = f"""
import sys
from rackwright import terminal
from rackwright.cli import activity, ending
from rackwright.lock import wheels

def main():
    terminal.PLAIN_SECONDS = 0.2
    with activity.show_work() as progress:
        wheels.resolve(["large==1.0 --hash=sha256:{"0" * 64}\\n"], progress)

ending.prepare()
ending.end(ending.run(main))
"""


@pytest.fixture
def endless() -> Iterator[str]:
    """The address of an index whose only file comes to no end."""
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if not self.path.endswith(".whl"):
                page = f'<!DOCTYPE html><a href="/{FILE}">{FILE}</a>'.encode()
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)
                return
            self.send_header("Content-Length", str(2**40))
            self.end_headers()
            self.wfile.write(bytes(3_000_000))
            over.wait(120)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/simple/"
    over.set()
    server.shutdown()


def _await_signals() -> None:
    """Take signals that the shell of the tests may ignore."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_download_says_how_far_it_is_and_leaves_nothing(tmp_path: Path, endless: str, number: int) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {"PIP_INDEX_URL": endless, "PIP_CONFIG_FILE": os.devnull, "PIP_CACHE_DIR": str(tmp_path / "pip")}
    environment |= {"TMPDIR": str(place), "RACKWRIGHT_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-c", RESOLVE], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True,
        preexec_fn=_await_signals,  # noqa: PLW1509 - it sets signals alone
    )  # fmt: skip
    assert process.stderr
    for line in process.stderr:
        if re.fullmatch(r"reading list 1 of 1: 0 of 1 Python packages, 3 MB \d+ s\n", line):
            break
    assert any("pip-unpack" in str(path) for path in place.rglob("*"))
    process.send_signal(number)

    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while [path for path in place.rglob("*") if "pip" in path.name]:
        assert time.monotonic() < deadline, [*place.rglob("*")]
        time.sleep(0.1)
    left = [*scratch.own_directory(place).iterdir()]
    assert number == signal.SIGKILL or not left  # after a kill, the next command removes the lists
