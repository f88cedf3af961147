"""The tutorials of docs/, pasted into a shell in a checkout."""

import os
import re
import textwrap

import pytest

from tests.support.log import ROOT, Log

END = "## On the rack"
"""From there on a tutorial takes hosts."""
BEHIND = "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n"
"""Servers that a failed command leaves running end with it."""


def train(log: Log, *variables: str) -> str:
    """Run `make train`, with which both tutorials begin, and return what it printed."""
    log("make train")
    done = log.run(["make", "train", *variables])
    if done.returncode or "finished at step 300 of 300" not in done.stdout:
        pytest.fail(f"make train: {done.stderr[-300:]}", pytrace=False)
    return done.stdout


def paste(log: Log, page: str) -> tuple[int, str]:
    """Run what *page* of docs/ has for pasting, and return how many lines that is, and what it printed.

    Raises:
        pytest.fail.Exception: one of its commands failed.
    """
    text = (ROOT / "docs" / page).read_text().partition(END)[0]
    blocks = re.findall(r"(?:^    .+\n|^\n(?=    ))+", text, re.M)
    script = "".join(textwrap.dedent(block) for block in blocks if "make train" not in block)
    lines = sum(map(bool, script.splitlines()))
    log(f"{lines} lines of {page}")
    own = {**os.environ, "TMPDIR": str(log.empty_directory())}
    done = log.run(["bash", "-e"], env=own, input=f"{BEHIND}{script}", timeout=1800)
    if done.returncode:
        pytest.fail(f"{page} ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}", pytrace=False)
    return lines, done.stdout
