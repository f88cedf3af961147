"""Hardening, line 14: a tracking password goes to no address that a redirect names."""

import json
import os
import sys

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.mlflow_stub import Stub
from workloads.tracking.server import NAME, PASSWORD

STATUSES = (301, 302, 303, 307, 308)


@line("hardening", 14)
def test_a_tracking_password_follows_no_redirect(log: Log) -> str:
    """The real command of a run, against a server that redirects to another host, and to a proxy that listens."""
    run = log.empty_directory()
    (run / "config.json").write_text(json.dumps({"name": "digits"}))
    (run / "metrics.jsonl").write_text('{"event": "start"}\n{"step": 1, "loss": 2.5}\n')
    argv = [sys.executable, "-m", "workloads.tracking", str(run), "--tracking"]
    with Stub() as other, Stub() as server:
        variables = {**os.environ, NAME: "tina", PASSWORD: "secret-of-tina", "http_proxy": other.url, "no_proxy": ""}
        for server.status in STATUSES:
            server.location = f"{other.url}/elsewhere"
            done = log.run([*argv, server.url], env=variables, timeout=60)
            need(done.returncode == 2, f"{server.status}: it ended with {done.returncode}")
            need(f"{other.url}/elsewhere" in done.stderr, f"{server.status}: {done.stderr} does not name the address")
            need("Traceback" not in done.stderr and "secret-of-tina" not in done.stderr, done.stderr)
        asked = sum("Authorization" in head for head in server.heads)
        need(asked == len(STATUSES), f"the server itself was asked {asked} times with the password")
        need(not other.heads, f"the other host was asked {len(other.heads)} times, as a redirect or a proxy")
        server.status, server.location = 200, ""
        done = log.run([*argv, server.url], env=variables, timeout=60)
        need(done.returncode == 0 and server.metrics(), f"without a redirect it ended with {done.returncode}")
    return f"{len(STATUSES)} sorts of redirect are refused with the address they name; the other host got no request"
