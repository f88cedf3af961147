"""Resolve and download the Python packages of roles with pip, for the Python and the processor of this computer."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rackwright import process_tree, scratch
from rackwright.errors import ChangeRefused, Diagnostic
from rackwright.lock import store
from rackwright.progress import Progress, format_remaining, ignore

REPORT_SECONDS = 1.0
SOURCE = ".tar.gz"
"""Suffix of the file name of a source distribution."""


def project(name: str) -> str:
    """Return the normalised project name of the wheel *name*. Source: PEP 427, PEP 503."""
    return re.sub(r"[-_.]+", "-", name.split("-", maxsplit=1)[0]).lower()


def resolve(lists: Sequence[str], progress: Progress = ignore) -> dict[str, str]:
    """Return the digest of each file that pip installs for any of *lists*, by file name; pip resolves each list alone.

    Args:
        lists: Texts of pip requirement files with all hashes. A list names each package that is no wheel.

    Raises:
        ChangeRefused: pip cannot resolve a list.
    """
    files: dict[str, str] = {}
    for number, text in enumerate(lists, start=1):
        with scratch.directory() as directory:
            requirements = directory / "requirements.txt"
            requirements.write_text(text)
            report = directory / "report.json"
            # without dependencies, as roles install it: a list has all of them
            arguments = ("--dry-run", "--ignore-installed", "--no-deps", "--report", report, "-r", requirements)
            total = len(re.findall(r"^[^ #]+==", text, re.MULTILINE))
            _pip("install", *arguments, what=f"reading list {number} of {len(lists)}", total=total, progress=progress)
            files |= dict(_file(item["download_info"]) for item in json.loads(report.read_bytes())["install"])
    return files


def fetch(locked: Mapping[str, str], progress: Progress = ignore) -> None:
    """Download the *locked* files that are not in the pool into the pool."""
    missing = {name: digest for name, digest in locked.items() if not store.wheel(name, digest).exists()}
    while missing:
        # pip downloads only one version of a project at a time
        batch = {project(name): name for name in missing}.values()
        _fetch({name: missing.pop(name) for name in batch}, progress)


def _fetch(files: Mapping[str, str], progress: Progress) -> None:
    with scratch.directory() as directory:
        requirements = directory / "requirements.txt"
        requirements.write_text("".join(_requirement(name, digest) for name, digest in files.items()))
        arguments = ("--no-deps", "--require-hashes", "--dest", directory, "-r", requirements)
        _pip("download", *arguments, what="fetching", total=len(files), progress=progress)
        for name, digest in files.items():
            store.take(directory / name, store.wheel(name, digest), digest)


def _requirement(name: str, digest: str) -> str:
    """Return the lines of a requirement list for the file *name*, a wheel or a source that the host builds."""
    is_source = name.endswith(SOURCE)
    package, version = name.removesuffix(SOURCE).split("-")[:2]
    return f"{f'--no-binary {package}' if is_source else ''}\n{package}=={version} --hash=sha256:{digest}\n"


def _pip(verb: str, *arguments: str | Path, what: str, total: int, progress: Progress) -> None:
    """Run pip with links to the files in the pool, and report each second what it has fetched.

    Args:
        what: The beginning of the lines for *progress*.
        total: Number of packages.

    Raises:
        ChangeRefused: pip fails.
    """
    page = store.directory() / "wheels" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in page.parent.glob("*/*") if path.suffix in (".whl", ".gz"))
    links = (f'<a href="{path.parent.name}/{escape(path.name)}#sha256={path.parent.name}">.</a>' for path in files)
    page.write_text("\n".join(["<!DOCTYPE html>", *links, ""]))
    argv = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", verb, "--only-binary=:all:"]
    argv += ["--progress-bar=off", f"--find-links={page}", *map(str, arguments)]
    began = time.monotonic()
    with scratch.directory() as temporary:
        log, errors = temporary / "log", temporary / "errors"
        with log.open("w") as output, errors.open("w") as error_output:
            environment = {**os.environ, "TMPDIR": str(temporary)}
            process = process_tree.start(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=error_output, env=environment
            )
        try:
            while not _has_ended(process):
                # the last one that pip names is on its way
                done = max(len(re.findall("^Collecting ", log.read_text(errors="replace"), re.MULTILINE)) - 1, 0)
                left = format_remaining(done, total, time.monotonic() - began)
                size = f"{_size(temporary) / 1e6:.0f} MB"
                progress(f"{what}: {min(done, total)} of {total} Python packages, {size}{left}")
        except BaseException:
            process_tree.stop(process)
            raise
        if process.returncode:
            raise _refusal(errors.read_text(errors="replace"))


def _has_ended(process: "subprocess.Popen[Any]") -> bool:
    """Return whether *process* ends within REPORT_SECONDS."""
    try:
        process.wait(REPORT_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _size(directory: Path) -> int:
    """Return the size of the files below *directory*, which come and go, as directories do."""
    size = 0
    for folder, _, names in os.walk(directory):  # it leaves out a directory that is gone
        for name in names:
            with suppress(OSError):
                size += os.lstat(f"{folder}/{name}").st_size
    return size


def _file(download: Mapping[str, object]) -> tuple[str, str]:
    """Return the file name and the digest in the entry *download* of pip's report."""
    archive = download["archive_info"]
    assert isinstance(archive, dict)  # a directory has dir_info instead, and no list names a directory
    return unquote(urlsplit(str(download["url"])).path).rpartition("/")[2], str(archive["hashes"]["sha256"])


def _refusal(stderr: str) -> ChangeRefused:
    lines = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR")]
    problem = f"pip cannot resolve the packages: {'; '.join(lines) or stderr.strip() or 'no reason given'}"
    expected = "packages that are available and do not conflict"
    return ChangeRefused(Diagnostic("Python packages of roles", problem, expected, "List such packages"))
