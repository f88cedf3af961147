"""Second places for heads: a file, a file on another host over SSH, a branch of a Git remote, and a bucket."""

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from rackwright import scratch
from rackwright.errors import Diagnostic, HostUnreachable, SetupError
from rackwright.log.bucket import LockedBucket

VARIABLE = "RACKWRIGHT_LOG_HEADS"
"""The environment variable with the second place."""
FORMS = "a path, ssh://[USER@]HOST[:PORT]/PATH, git+URL[#BRANCH], or s3+https://HOST[:PORT]/BUCKET[/PREFIX]"
BRANCH = "rackwright-log-heads"
GIT_FILE = "heads.jsonl"
SECONDS = 60
"""Timeout of one transfer: a second place that does not answer may not hold a command up for longer."""
ATTEMPTS = 5
"""Attempts to append to a branch that other writers move at the same time."""
_SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10")


class Place(Protocol):
    """A file of heads at a second place, to which lines are appended."""

    @property
    def name(self) -> str: ...

    def read(self) -> bytes:
        """Return the content; nothing before the first line.

        Raises:
            HostUnreachable: The place does not answer, or refuses.
        """
        ...

    def append(self, line: bytes) -> None:
        """Append *line*.

        Raises:
            HostUnreachable: The place does not answer, or refuses.
        """
        ...


def parse_place(text: str) -> Place:
    """Return the second place that *text* names.

    Raises:
        SetupError: The text names none.
    """
    if text.startswith("git+"):
        url, _, branch = text.removeprefix("git+").partition("#")
        branch = branch or BRANCH
        if url and not url.startswith("-") and re.fullmatch(r"[A-Za-z0-9_][\w./-]*", branch):
            return GitBranch(text, url, branch)
    elif text.startswith("ssh://"):
        parts = urlsplit(text)
        if parts.hostname and not parts.hostname.startswith("-") and parts.path.strip("/"):
            destination = f"{parts.username}@{parts.hostname}" if parts.username else parts.hostname
            return RemoteFile(text, destination, _port(parts.netloc), unquote(parts.path))
    elif bucket := LockedBucket.parse(text):
        return bucket
    elif text and "://" not in text:
        return LocalFile(Path(text).expanduser())
    problem = f"{text!r} is no second place" if text else "no second place is named"
    raise SetupError(Diagnostic(VARIABLE, problem, FORMS, "Set the variable, or name a place in the command"))


@dataclass(frozen=True)
class LocalFile:
    """A file of this computer, such as one on a mounted share or on a drive that is written once."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise _failure(self.name, error.strerror or str(error)) from None

    def append(self, line: bytes) -> None:
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                if os.write(file, line) != len(line):
                    raise OSError("a part of the line was written")
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise _failure(self.name, error.strerror or str(error)) from None


@dataclass(frozen=True)
class RemoteFile:
    """A file on another host, over the SSH client of this computer, with its settings and its known hosts."""

    name: str
    destination: str
    port: int | None
    path: str

    def read(self) -> bytes:
        path = shlex.quote(self.path)
        return self._run(f"if [ -e {path} ]; then cat -- {path}; fi")

    def append(self, line: bytes) -> None:
        path = shlex.quote(self.path)
        self._run(f"umask 077 && cat >> {path} && sync -- {path}", line)

    def _run(self, script: str, stdin: bytes = b"") -> bytes:
        port = ("-p", str(self.port)) if self.port else ()
        return _run(self.name, (*_SSH, *port, "--", self.destination, script), stdin)


@dataclass(frozen=True)
class GitBranch:
    """A branch of a Git remote, which gets one commit for each head; forced pushes should be forbidden there."""

    name: str
    url: str
    branch: str

    def read(self) -> bytes:
        with scratch.directory() as folder:
            return self._fetch(folder)[1]

    def append(self, line: bytes) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            with scratch.directory() as folder:
                parent, content = self._fetch(folder)
                blob = self._git(folder, "hash-object", "-w", "--stdin", stdin=content + line).strip()
                tree = self._git(folder, "mktree", stdin=b"100644 blob %s\t%s\n" % (blob, GIT_FILE.encode())).strip()
                parents = ("-p", parent) if parent else ()
                commit = self._git(folder, "commit-tree", tree.decode(), "-m", "Head of the operations log", *parents)
                try:
                    self._git(
                        folder, "push", "--quiet", self.url, f"{commit.decode().strip()}:refs/heads/{self.branch}"
                    )
                    return
                except HostUnreachable:
                    if attempt == ATTEMPTS:
                        raise

    def _fetch(self, folder: Path) -> tuple[str, bytes]:
        """Return the commit of the branch and the file in it; neither before the first head."""
        self._git(folder, "init", "--quiet", "--bare")
        if not self._git(folder, "ls-remote", self.url, f"refs/heads/{self.branch}"):
            return "", b""
        self._git(folder, "fetch", "--quiet", "--depth=1", self.url, f"refs/heads/{self.branch}")
        commit = self._git(folder, "rev-parse", "FETCH_HEAD").decode().strip()
        return commit, self._git(folder, "show", f"FETCH_HEAD:{GIT_FILE}")

    def _git(self, folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
        return _run(self.name, ("git", *arguments), stdin, folder, _GIT_ENVIRONMENT)


_GIT_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": shlex.join(_SSH),
    "GIT_AUTHOR_NAME": "rackwright",
    "GIT_AUTHOR_EMAIL": "rackwright",
    "GIT_COMMITTER_NAME": "rackwright",
    "GIT_COMMITTER_EMAIL": "rackwright",
}


def _run(
    place: str,
    argv: Sequence[str],
    stdin: bytes,
    directory: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> bytes:
    environment = {**os.environ, **(variables or {})}
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # a Git hook that runs a command sets them
        environment.pop(name, None)
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, cwd=directory, env=environment, timeout=SECONDS)
    except FileNotFoundError:
        raise SetupError(Diagnostic("this computer", f"the program {argv[0]} is missing", help="Install it")) from None
    except subprocess.TimeoutExpired:
        raise _failure(place, f"{argv[0]} did not end within {SECONDS} s") from None
    if done.returncode:
        printed = " ".join(done.stderr.decode(errors="replace").split()[-40:]) or f"status {done.returncode}"
        raise _failure(place, f'{argv[0]} failed: "{printed}"')
    return done.stdout


def _failure(place: str, problem: str) -> HostUnreachable:
    help = "Correct the cause; `rackwright log push` copies the head then"
    return HostUnreachable(Diagnostic(f"second place {place}", problem, help=help))


def _port(netloc: str) -> int | None:
    _, colon, port = netloc.rpartition("@")[2].rpartition(":")
    return int(port) if colon and port.isdigit() else None
