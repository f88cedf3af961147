"""Line 1: the second example fleet, machines and containers mixed, converges with one command and is clean."""

import re

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log

STACK = "lab-full"
MINUTES = 10
"""Within which it is to be there, where packages, pulumi and images are."""


@line("roles", 1)
def test_the_full_rack_converges_with_one_command(log: Log) -> str:
    """In a clone of its own: `make up`, nothing left to do, the audit clean, and again in no time."""
    clone = log.empty_directory() / "clone"
    need(log.run(["git", "clone", "--quiet", str(ROOT), str(clone)]).returncode == 0, "it cannot be cloned")
    try:
        log("make toolchain, for what is not there yet")
        need(log.run(["make", "toolchain"], clone).returncode == 0, "make toolchain failed")
        began = log.seconds
        log(f"make up STACK={STACK}")
        done = log.run(["make", "up", f"STACK={STACK}"], clone)
        first = log.seconds - began
        need(done.returncode == 0, f"make up ended with {done.returncode}: {done.stderr[-300:]}")
        log("nothing is left to do")
        preview = f'eval "$(.venv/bin/rackwright env)" && pulumi preview --expect-no-changes --stack {STACK}'
        need(log.run(["bash", "-c", preview], clone).returncode == 0, "a preview would change something")
        audit = log.run([".venv/bin/rackwright", "audit", STACK], clone)
        need(audit.returncode == 0, f"the audit ended with {audit.returncode}: {audit.stdout[-300:]}")
        log("make up again")
        began = log.seconds
        need(log.run(["make", "up", f"STACK={STACK}"], clone).returncode == 0, "make up failed the second time")
        again = log.seconds - began
        dirty = log.run(["git", "status", "--porcelain"], clone).stdout
        need(not dirty, f"git status says {dirty}")
        [summary] = re.findall(rf"^{STACK}: (.*)$", audit.stdout, re.MULTILINE)
        need(first <= 60 * MINUTES, f"{first:.0f} s, at most {60 * MINUTES}; {summary}")
        return f"up in {first:.0f} s, again in {again:.0f} s; {summary}"
    finally:
        log.run([".venv/bin/rackwright", "twin", "reset", STACK, "--yes"], clone)
