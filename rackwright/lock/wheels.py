"""Resolve and download the Python packages of roles with pip, for the Python and the processor of this computer."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from html import escape
from urllib.parse import unquote, urlsplit

from rackwright import process_tree, scratch
from rackwright.errors import ChangeRefused, Diagnostic
from rackwright.lock import store

SOURCE = ".tar.gz"
"""Suffix of the file name of a source distribution."""


def project(name: str) -> str:
    """Return the normalised project name of the wheel *name*. Source: PEP 427, PEP 503."""
    return re.sub(r"[-_.]+", "-", name.split("-", maxsplit=1)[0]).lower()


def resolve(lists: Iterable[str]) -> dict[str, str]:
    """Return the digest of each file that pip installs for any of *lists*, by file name; pip resolves each list alone.

    Args:
        lists: Texts of pip requirement files with all hashes. A list names each package that is no wheel.

    Raises:
        ChangeRefused: pip cannot resolve a list.
    """
    files: dict[str, str] = {}
    for text in lists:
        with scratch.directory() as directory:
            requirements = directory / "requirements.txt"
            requirements.write_text(text)
            # without dependencies, as roles install it: a list has all of them
            arguments = ("--dry-run", "--ignore-installed", "--no-deps", "--report", "-", "-r", str(requirements))
            done = _pip("install", *arguments)
        if done.returncode:
            raise _refusal(done.stderr)
        files |= dict(_file(item["download_info"]) for item in json.loads(done.stdout)["install"])
    return files


def fetch(locked: Mapping[str, str]) -> None:
    """Download the *locked* files that are not in the pool into the pool."""
    missing = {name: digest for name, digest in locked.items() if not store.wheel(name, digest).exists()}
    while missing:
        # pip downloads only one version of a project at a time
        batch = {project(name): name for name in missing}.values()
        _fetch({name: missing.pop(name) for name in batch})


def _fetch(files: Mapping[str, str]) -> None:
    with scratch.directory() as directory:
        requirements = directory / "requirements.txt"
        requirements.write_text("".join(_requirement(name, digest) for name, digest in files.items()))
        done = _pip("download", "--no-deps", "--require-hashes", "--dest", str(directory), "-r", str(requirements))
        if done.returncode:
            raise _refusal(done.stderr)
        for name, digest in files.items():
            store.take(directory / name, store.wheel(name, digest), digest)


def _requirement(name: str, digest: str) -> str:
    """Return the lines of a requirement list for the file *name*, a wheel or a source that the host builds."""
    is_source = name.endswith(SOURCE)
    package, version = name.removesuffix(SOURCE).split("-")[:2]
    return f"{f'--no-binary {package}' if is_source else ''}\n{package}=={version} --hash=sha256:{digest}\n"


def _pip(verb: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run pip with links to the files in the pool."""
    page = store.directory() / "wheels" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in page.parent.glob("*/*") if path.suffix in (".whl", ".gz"))
    links = (f'<a href="{path.parent.name}/{escape(path.name)}#sha256={path.parent.name}">.</a>' for path in files)
    page.write_text("\n".join(["<!DOCTYPE html>", *links, ""]))
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", verb, "--quiet", "--only-binary=:all:"]
    return process_tree.run([*argv, f"--find-links={page}", *arguments])


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
