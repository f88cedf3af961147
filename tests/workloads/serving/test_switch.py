"""A host's server serves another release, or the one before again. Servers answer for real; systemd is a stand-in."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.serving.model import Tensor, publish
from workloads.serving.switch import NotServing, Plan, Switch

SYSTEMCTL = """\
#!{python}
import json, os, signal, subprocess, sys, time
lib, verb = "{lib}", sys.argv[1]
with open(lib + "/said", "a") as log: log.write(verb + "\\n")
pid = lib + "/pid"
if verb == "stop" and os.path.exists(pid):
    number = int(open(pid).read())
    try: os.kill(number, signal.SIGKILL)
    except ProcessLookupError: pass
    os.remove(pid)
if verb == "start":
    answering = subprocess.Popen([sys.executable, lib + "/answering.py", lib, "{port}"],
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    open(pid, "w").write(str(answering.pid))
if verb == "is-active":
    behaviour = os.path.join(lib, "current", "behaviour")
    print("failed" if os.path.exists(behaviour) and open(behaviour).read() == "fails" else "active")
"""
ANSWERING = """\
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
lib, port = sys.argv[1:]
release = os.path.realpath(lib + "/current")
behaviour = open(release + "/behaviour").read()
version = os.path.basename(os.path.realpath(release + "/model"))
if behaviour == "fails": sys.exit(1)
class Handler(BaseHTTPRequestHandler):
    def answer(self, told, status=200):
        body = json.dumps(told).encode()
        self.send_response(status); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def do_GET(self): self.answer({"ready": True, "version": version})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["inputs"][0]
        rows = [asked["data"][n:n + 2] for n in range(0, len(asked["data"]), 2)]
        if behaviour == "wrong": rows = [row[::-1] for row in rows]
        if behaviour == "refuses": return self.answer({"error": "no"}, 400)
        self.answer({"outputs": [{"shape": asked["shape"], "data": [value for row in rows for value in row]}]})
    def log_message(self, *arguments): pass
HTTPServer.allow_reuse_address = True
HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""


class Host:
    """Where releases lie, and a server that answers as the current one's behaviour says."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lib, self.told = directory / "lib", []
        self.lib.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        tools = directory / "bin"
        tools.mkdir()
        text = SYSTEMCTL.format(python=sys.executable, lib=self.lib, port=self.port)
        for name, content in (("systemctl", text), ("journalctl", "#!/bin/sh\necho the last line of its log\n")):
            (tools / name).write_text(content)
            (tools / name).chmod(0o755)
        (self.lib / "answering.py").write_text(ANSWERING)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        rows = np.array([[0, 1], [1, 0], [2, 3], [3, 2]], np.float32)
        (self.lib / "data").mkdir()
        np.savez(self.lib / "data" / "efefefefefef.npz", x=rows, labels=rows.argmax(1))

    def release(self, name: str, behaviour: str, accuracy: float | None = None) -> str:
        """Write release *name* and a model for it, and return the model's version."""
        content = self.lib / "content"
        content.write_text(name)
        tensor = Tensor(name="x", datatype="FP32", shape=(-1, 2))
        staged = self.lib / "staged"
        version = publish(staged, {"model.onnx": content}, "digits", (tensor,), (tensor,), {}).version
        (self.lib / "models").mkdir(exist_ok=True)
        staged.rename(self.lib / "models" / version)
        folder = self.lib / "releases" / name
        folder.mkdir(parents=True)
        canary = None if accuracy is None else {"data": str(self.lib / "data/efefefefefef.npz"), "accuracy": accuracy}
        (folder / "release.json").write_text(json.dumps({"version": version, "canary": canary}))
        (folder / "settings.json").write_text('{"max_batch": 3}')
        (folder / "behaviour").write_text(behaviour)
        return version

    def switch(self, name: str) -> None:
        plan = Plan(
            name="digits", unit="server-digits.service", lib=str(self.lib), host="127.0.0.1", port=self.port,
            tls=False, ready_seconds=60,
        )  # fmt: skip
        Switch(plan, self.told.append).to(name)

    @property
    def current(self) -> str | None:
        link = self.lib / "current"
        return link.readlink().name if link.is_symlink() else None

    @property
    def state(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.lib / "state.json").read_text())
        return told

    def names(self, folder: str) -> set[str]:
        return {path.name for path in (self.lib / folder).iterdir()}

    @property
    def said(self) -> list[str]:
        return [verb for verb in (self.lib / "said").read_text().split() if verb != "is-active"]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(tmp_path, monkeypatch)
    yield made
    subprocess.run(["systemctl", "stop", "server-digits.service"], check=False)


def test_a_release_serves_when_it_says_so(host: Host) -> None:
    version = host.release("aaaaaaaaaaaa", "right", 1.0)
    host.switch("aaaaaaaaaaaa")

    assert host.current == "aaaaaaaaaaaa"
    assert host.told == [
        f"version {version} is ready",
        "the canary has 100.0000% right, at least 100.00% are asked for",
    ]
    assert host.state == {"previous": None, "refused": None}
    assert (host.lib / "releases/aaaaaaaaaaaa/model").resolve() == host.lib / "models" / version


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [("wrong", "the canary has 0.0000% right"), ("fails", "is failed, and not ready"), ("refuses", "got 400 for them")],
)
def test_what_ran_before_serves_again_where_the_new_one_does_not(host: Host, behaviour: str, why: str) -> None:
    """
    The reason is told with the last lines of the log, and kept for whoever asks later.
    """
    host.release("aaaaaaaaaaaa", "right", 1.0)
    host.switch("aaaaaaaaaaaa")
    refused = host.release("bbbbbbbbbbbb", behaviour, 1.0)

    with pytest.raises(NotServing, match=f"{why}.*release aaaaaaaaaaaa, which ran before, serves again"):
        host.switch("bbbbbbbbbbbb")

    assert host.current == "aaaaaaaaaaaa"
    assert "the last line of its log" in host.told
    assert host.state["refused"]["version"] == refused
    assert why in host.state["refused"]["why"]


def test_a_first_release_that_does_not_serve_leaves_nothing_running(host: Host) -> None:
    host.release("aaaaaaaaaaaa", "fails")

    with pytest.raises(NotServing, match="nothing ran before it, and nothing runs now"):
        host.switch("aaaaaaaaaaaa")

    assert host.current is None
    assert host.said[-1] == "stop"


def test_only_the_release_before_is_kept_and_nothing_that_bears_another_name_goes(host: Host) -> None:
    versions = []
    for name in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"):
        versions.append(host.release(name, "right"))
        if name == "cccccccccccc":
            (host.lib / "models" / "of-somebody-else").mkdir()
        host.switch(name)

    assert host.names("releases") == {"bbbbbbbbbbbb", "cccccccccccc"}
    assert host.names("models") == {*versions[1:], "of-somebody-else"}
    assert host.names("data") == set()  # none of the two asks them
    assert host.state == {"previous": "bbbbbbbbbbbb", "refused": None}


def test_a_release_that_starts_again_forgets_nothing(host: Host) -> None:
    """
    Another key is such a start: what served before the release is still what it goes back to.
    """
    for name in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "bbbbbbbbbbbb"):
        if not (host.lib / "releases" / name).exists():
            host.release(name, "right")
        host.switch(name)

    assert host.state["previous"] == "aaaaaaaaaaaa"
    assert host.said.count("start") == 3


def test_one_that_never_gets_ready_is_given_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    version = host.release("aaaaaaaaaaaa", "right")
    (host.lib / "releases/aaaaaaaaaaaa/behaviour").write_text("silent")
    (host.lib / "answering.py").write_text("import time; time.sleep(600)")

    with pytest.raises(NotServing, match=f"not ready within 60 s.*version {version} of the model is ready"):
        host.switch("aaaaaaaaaaaa")
