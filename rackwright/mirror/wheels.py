"""Wheels that workloads list, resolved and fetched by pip: for the Python and the processor that run this."""

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
from rackwright.mirror import pool

LISTS = "workloads/*/requirements.txt"
"""What each workload needs, in the form of pip's requirement files."""
OF_ROLE = "templates/{role}/opt/rackwright/{role}/requirements.txt.j2"
"""What a role installs into an environment of its own: a list of exact versions with all their hashes."""


def project(name: str) -> str:
    """Return the normalised name of the project whose wheel is called *name*. Source: PEP 427, PEP 503."""
    return re.sub(r"[-_.]+", "-", name.split("-", maxsplit=1)[0]).lower()


def listed(root: Path, roles: Iterable[str] = ()) -> list[Path]:
    """Return the lists of the workloads in the checkout *root*, and those of *roles* that make environments."""
    of_roles = (root / OF_ROLE.format(role=role) for role in roles)
    return [*sorted(root.glob(LISTS)), *(path for path in of_roles if path.exists())]


def resolve(lists: Iterable[Path], locked: Mapping[str, str]) -> dict[str, str]:
    """Return the wheels that *lists* come to, with all that they need: names of files, and their digests.

    A list with hashes is complete, and resolved by itself: another may have other versions.

    Args:
        locked: What to take rather than what is newer.

    Raises:
        Refused: pip finds no such set, or not as wheels.
    """
    found: dict[str, str] = {}
    open_lists: list[str] = []
    for path in lists:
        if "--hash=sha256:" in path.read_text():
            found |= _resolved(["-r", str(path)], {})
        else:
            open_lists += ["-r", str(path)]
    return {**found, **(_resolved(open_lists, locked) if open_lists else {})}


def _resolved(asked: list[str], locked: Mapping[str, str]) -> dict[str, str]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as kept:
        kept.write("".join(f"{'=='.join(name.split('-')[:2])}\n" for name in sorted(locked)))
        kept.flush()
        for more in (["-c", kept.name], []) if locked else ([],):
            done = _pip("install", "--dry-run", "--ignore-installed", "--report", "-", *asked, *more)
            if done.returncode == 0:
                return dict(_wheel(found["download_info"]) for found in json.loads(done.stdout)["install"])
    raise _cannot(asked, done.stderr)


def fetch(locked: Mapping[str, str]) -> None:
    """Bring what of the wheels *locked* is not in the pool into it."""
    missing = {name: digest for name, digest in locked.items() if not pool.wheel(name, digest).exists()}
    if not missing:
        return
    with tempfile.TemporaryDirectory(prefix="rackwright-wheels-") as directory:
        wanted = Path(directory, "wanted.txt")
        lines = (f"{'=='.join(name.split('-')[:2])} --hash=sha256:{digest}\n" for name, digest in missing.items())
        wanted.write_text("".join(lines))
        done = _pip("download", "--no-deps", "--require-hashes", "--dest", directory, "-r", str(wanted))
        if done.returncode:
            raise _cannot(missing, done.stderr)
        for name, digest in missing.items():
            pool.take(Path(directory, name), pool.wheel(name, digest), digest)


def _pip(verb: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run pip, which finds what is in the pool as well."""
    page = pool.directory() / "wheels" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    kept = sorted(page.parent.glob("*/*.whl"))
    links = (f'<a href="{path.parent.name}/{escape(path.name)}#sha256={path.parent.name}">.</a>' for path in kept)
    page.write_text("\n".join(["<!DOCTYPE html>", *links, ""]))
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", verb, "--quiet", "--only-binary=:all:"]
    return subprocess.run([*argv, f"--find-links={page}", *arguments], capture_output=True, text=True)


def _wheel(told: Mapping[str, object]) -> tuple[str, str]:
    archive = told["archive_info"]
    assert isinstance(archive, dict)  # of a wheel; a directory has another, and is none
    return unquote(urlsplit(str(told["url"])).path).rpartition("/")[2], str(archive["hashes"]["sha256"])


def _cannot(wanted: Iterable[str], said: str) -> Refused:
    lines = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR")]
    got = f"got no set: pip says {'; '.join(lines) or said.strip() or 'nothing'}"
    want = "all that is listed is there as wheels, and fits together"
    return Refused(", ".join(path for path in wanted if path != "-r"), got, want, "List what is there")
