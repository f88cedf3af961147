"""The quickstart, tutorials and guides of docs/, pasted into a shell in a checkout."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.pages import ANSWER, blocks, missing_outputs

END = "## On the rack"
"""From there on a guide takes hosts."""
BEHIND = "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n"
"""Servers that a failed command leaves running end with it."""


def train(log: Log, *variables: str) -> str:
    """Run `make train`, and return what it printed."""
    log("make train")
    done = log.run(["make", "train", *variables])
    if done.returncode or "finished at step 300 of 300" not in done.stdout:
        pytest.fail(f"make train: {done.stderr[-300:]}", pytrace=False)
    return done.stdout


def paste(log: Log, page: str, project: Path = ROOT, **values: object) -> tuple[int, str]:
    """Run what *page* of docs/ has for pasting in *project*, and return how many lines that is, and what it printed.

    The commands have to print what the page shows below them.

    Args:
        values: Values of this computer for shell variables that the page sets to a reader's own.

    Raises:
        pytest.fail.Exception: one of its commands failed, or printed other lines than the page shows.
    """
    text = (ROOT / "docs" / page).read_text().partition(END)[0]
    script = "".join(blocks(text))
    for name, value in values.items():
        script, count = re.subn(rf"^{name}=.*$", f"{name}={value}", script, flags=re.M)
        need(count == 1, f"{page} sets {name} {count} times")
    lines = sum(map(bool, script.splitlines()))
    log(f"{lines} lines of {page}")
    directory = log.empty_directory()
    file = directory / "pasted.sh"  # not stdin, from which ssh would read
    file.write_text(f"{BEHIND}{ANSWER}{script}")
    path = f"{project / '.venv/bin'}:{os.environ['PATH']}"  # a page may write a project of its own
    environment = {**os.environ, "TMPDIR": str(directory), "PATH": path}
    try:
        done = log.run(["bash", "-e", str(file)], cwd=project, env=environment, timeout=3600)
    finally:
        for written in directory.glob("*/*/Pulumi.yaml"):
            _stop_twins(log, written.parent, str(project.resolve() / ".venv/bin/rackwright"))
    if done.returncode:
        pytest.fail(f"{page} ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}", pytrace=False)
    missing = missing_outputs(text, done.stdout + done.stderr)
    if missing:
        pytest.fail(f"{page} shows other output than its commands print: {missing}", pytrace=False)
    return lines, done.stdout


@contextmanager
def clone(log: Log, directory: Path) -> Iterator[Path]:
    """Yield a clone of this checkout with the same environment; its twins are off after the block.

    The environment serves both, so the files that it is made from have to be the same in both.
    """
    made_from = ["pyproject.toml", "requirements"]
    changed = log.run(["git", "status", "--porcelain", "--", *made_from]).stdout
    need(not changed, f"not committed: {changed}")
    shutil.rmtree(directory, ignore_errors=True)  # of an earlier run
    need(log.run(["git", "clone", "--quiet", str(ROOT), str(directory)]).returncode == 0, "the clone failed")
    (directory / ".venv").symlink_to(ROOT / ".venv")
    try:
        yield directory
    finally:
        _stop_twins(log, directory, ".venv/bin/rackwright")


def _stop_twins(log: Log, project: Path, program: str) -> None:
    for settings in project.glob("stacks/Pulumi.*.yaml"):
        stack = settings.name.split(".")[1]
        if f"twin:{stack}\n" in settings.read_text():
            log.run([program, "twin", "stop", stack], cwd=project)
