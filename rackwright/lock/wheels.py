"""What roles install for Python, resolved and fetched by pip: for the Python and the processor that run this."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rackwright.errors import Refused
from rackwright.lock import store

SOURCE = ".tar.gz"
"""How the name of a source ends."""


def project(name: str) -> str:
    """Return the normalised name of the project whose wheel is called *name*. Source: PEP 427, PEP 503."""
    return re.sub(r"[-_.]+", "-", name.split("-", maxsplit=1)[0]).lower()


def resolve(lists: Iterable[str]) -> dict[str, str]:
    """Return the files that *lists* come to, each by itself: names and digests.

    Args:
        lists: As pip's requirement files are, with all hashes. What a list does not say otherwise of is a wheel.

    Raises:
        Refused: pip finds no such set.
    """
    found: dict[str, str] = {}
    for text in lists:
        with tempfile.NamedTemporaryFile("w", prefix="rackwright-", suffix=".txt") as wanted:
            wanted.write(text)
            wanted.flush()
            done = _pip("install", "--dry-run", "--ignore-installed", "--report", "-", "-r", wanted.name)
        if done.returncode:
            raise _cannot(done.stderr)
        found |= dict(_file(one["download_info"]) for one in json.loads(done.stdout)["install"])
    return found


def fetch(locked: Mapping[str, str]) -> None:
    """Bring what of the files *locked* is not in the pool into it."""
    missing = {name: digest for name, digest in locked.items() if not store.wheel(name, digest).exists()}
    while missing:
        # of several versions of a project pip fetches one at a time
        one = {project(name): name for name in missing}.values()
        _fetch({name: missing.pop(name) for name in one})


def _fetch(files: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="rackwright-wheels-") as directory:
        wanted = Path(directory, "wanted.txt")
        wanted.write_text("".join(_pinned(name, digest) for name, digest in files.items()))
        done = _pip("download", "--no-deps", "--require-hashes", "--dest", directory, "-r", str(wanted))
        if done.returncode:
            raise _cannot(done.stderr)
        for name, digest in files.items():
            store.take(Path(directory, name), store.wheel(name, digest), digest)


def _pinned(name: str, digest: str) -> str:
    """Return the lines of a list for the file *name*: of a wheel, or of a source that is built where it is used."""
    source = name.endswith(SOURCE)
    called, version = name.removesuffix(SOURCE).split("-")[:2]
    return f"{f'--no-binary {called}' if source else ''}\n{called}=={version} --hash=sha256:{digest}\n"


def _pip(verb: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run pip, which finds what is in the pool as well."""
    page = store.directory() / "wheels" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    kept = sorted(path for path in page.parent.glob("*/*") if path.suffix in (".whl", ".gz"))
    links = (f'<a href="{path.parent.name}/{escape(path.name)}#sha256={path.parent.name}">.</a>' for path in kept)
    page.write_text("\n".join(["<!DOCTYPE html>", *links, ""]))
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", verb, "--quiet", "--only-binary=:all:"]
    return subprocess.run([*argv, f"--find-links={page}", *arguments], capture_output=True, text=True)


def _file(told: Mapping[str, object]) -> tuple[str, str]:
    archive = told["archive_info"]
    assert isinstance(archive, dict)  # a directory has another, and none is listed
    return unquote(urlsplit(str(told["url"])).path).rpartition("/")[2], str(archive["hashes"]["sha256"])


def _cannot(said: str) -> Refused:
    lines = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR")]
    got = f"got no set: pip says {'; '.join(lines) or said.strip() or 'nothing'}"
    return Refused(
        "what roles install for Python", got, "all that is listed is there, and fits together", "List what is there"
    )
