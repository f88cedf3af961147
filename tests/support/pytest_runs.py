"""Tests that an acceptance line runs."""

import os
import re
import subprocess
import sys

from tests.support.expect import need
from tests.support.log import ROOT, Log


def run_tests(log: Log, *tests: str) -> str:
    """Run *tests*, require that they pass and none of them is skipped, and return pytest's summary."""
    argv = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    done = log.run(argv, ROOT, {**os.environ}, timeout=1800)
    summary = _last_line(done)
    need(done.returncode == 0 and "skipped" not in summary, summary)
    return re.sub(r" in .*", "", summary).strip("= ")


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stdout.strip().splitlines() or [done.stderr.strip()])[-1]
