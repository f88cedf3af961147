"""A host whose server serves one release or another, as a test chooses: it answers for real, systemd is a stand-in."""

import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.serving import watch_config
from workloads.serving.model import Tensor, publish
from workloads.serving.switch import ReleaseSwitch, SwitchPlan
from workloads.serving.watch_config import AccuracyRecord

SYSTEMCTL = """\
#!{python}
import json, os, signal, subprocess, sys, time
lib, verb = "{lib}", sys.argv[1]
with open(lib + "/verbs", "a") as log: log.write(verb + "\\n")
pid = lib + "/pid"
if verb == "stop" and os.path.exists(pid):
    number = int(open(pid).read())
    try: os.kill(number, signal.SIGKILL)
    except ProcessLookupError: pass
    os.remove(pid)
if verb == "start":
    answering = subprocess.Popen([sys.executable, lib + "/answering.py", lib],
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    open(pid, "w").write(str(answering.pid))
if verb == "is-active":
    behaviour = os.path.join(lib, "current", "behaviour")
    says = open(behaviour).read() if os.path.exists(behaviour) else ""
    print({{"fails": "failed", "stopped": "inactive"}}.get(says, "active" if os.path.exists(pid) else "inactive"))
"""
ANSWERING = """\
import json, os, sys
from http.server import BaseHTTPRequestHandler
from socketserver import UnixStreamServer
lib = sys.argv[1]
release = os.path.realpath(lib + "/current")
def behaviour(): return open(release + "/behaviour").read()
version = os.path.basename(os.path.realpath(release + "/model"))
if behaviour() == "fails": sys.exit(1)
class Handler(BaseHTTPRequestHandler):
    def answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def do_GET(self): self.answer({"ready": True, "version": version})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["inputs"][0]
        rows = [asked["data"][n:n + 2] for n in range(0, len(asked["data"]), 2)]
        if behaviour() == "wrong": rows = [row[::-1] for row in rows]
        if behaviour() == "half": rows[0] = rows[0][::-1]
        if behaviour() == "refuses": return self.answer({"error": "no"}, 400)
        self.answer({"outputs": [{"shape": asked["shape"], "data": [value for row in rows for value in row]}]})
    def log_message(self, *arguments): pass
class Server(UnixStreamServer):
    def get_request(self): return super().get_request()[0], ("", 0)
place = lib + "/socket"
if os.path.lexists(place): os.remove(place)
if behaviour() != "before sockets": Server(place, Handler).serve_forever()
"""


class Host:
    """Where releases lie, and a server that answers as the current one's behaviour says."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lib, self.messages = directory / "lib", []
        self.lib.mkdir()
        tools = directory / "bin"
        tools.mkdir()
        text = SYSTEMCTL.format(python=sys.executable, lib=self.lib)
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
        (folder / "settings.json").write_text('{"max_batch": 3, "own_socket": "a path"}')
        (folder / "behaviour").write_text(behaviour)
        return version

    def plan(self, **more: Any) -> SwitchPlan:
        content = {"name": "digits", "unit": "server-digits.service", "lib": str(self.lib), "ready_seconds": 60}
        account = pwd.getpwuid(os.geteuid()).pw_name
        return SwitchPlan.model_validate({**content, "socket": f"{self.lib}/socket", "account": account, **more})

    def switch(self, name: str, **more: Any) -> None:
        ReleaseSwitch(self.plan(**more), self.messages.append).switch_to(name)

    def behave(self, name: str, behaviour: str) -> None:
        """Let a server of release *name* answer otherwise from now on."""
        (self.lib / "releases" / name / "behaviour").write_text(behaviour)

    @property
    def current(self) -> str | None:
        link = self.lib / "current"
        return link.readlink().name if link.is_symlink() else None

    @property
    def state(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.lib / "state.json").read_text())
        return report

    def names(self, folder: str) -> set[str]:
        return {path.name for path in (self.lib / folder).iterdir()}

    @property
    def noted(self) -> AccuracyRecord:
        return watch_config.read(self.lib / watch_config.NAME)

    @property
    def verbs(self) -> list[str]:
        return [verb for verb in (self.lib / "verbs").read_text().split() if verb != "is-active"]
