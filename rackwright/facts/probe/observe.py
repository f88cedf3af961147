"""How the probe looks: what cannot be read becomes the reason why, and takes nothing else along."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from fnmatch import filter as matching
from typing import Any, Callable

TOOL_SECONDS = 60
ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
UNTRUSTED_BYTES = 1 << 20
"""The most that the probe reads of a file that another account than root may write."""
UNTRUSTED_NAMES = 10_000
"""The most names that the probe takes from a directory that another account than root may write."""


class ReadError(Exception):
    """Something that cannot be read; the message is the reason that facts give."""


class Failed(ReadError):
    """A command ended with another status than 0."""


def unknown(reason: str) -> dict[str, str]:
    return {"unknown": reason}


def known(found: Any) -> Any:
    """Return *found*, or raise the reason why it is unknown."""
    if isinstance(found, dict) and found.keys() == {"unknown"}:
        raise ReadError(found["unknown"])
    return found


def attempt(look: Callable[..., Any], *arguments: Any) -> Any:
    """Return what *look* returns, or why it could not."""
    try:
        return look(*arguments)
    except ReadError as reason:
        return unknown(str(reason))
    except OSError as error:
        return unknown(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:  # of any sort: one odd place on a host must not hide all the others
        return unknown(f"{type(error).__name__}: {error}")


def read(path: str) -> str:
    """Return the text of a small file of /sys, /proc or /etc, without the blanks and NULs around it."""
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "surrogateescape").strip("\0 \n\t")


def number(path: str) -> int:
    """Return the number that a file begins with."""
    words = read(path).split()
    if not words:
        raise ReadError(f"{path} is empty")
    return int(words[0])


def read_any(*paths: str) -> str:
    """Return the first of these files that is there and not empty, else an empty text."""
    return next((text for path in paths if os.path.exists(path) for text in [read(path)] if text), "")


def listing(folder: str, pattern: str = "*") -> list[str]:
    """Return the names in *folder*, in order; none where there is no such folder."""
    try:
        return sorted(matching(os.listdir(folder), pattern))
    except FileNotFoundError:
        return []


def open_untrusted(folder: str, name: str = "", directory: bool = False) -> int:
    """Return a descriptor of *name* below *folder*, where another account than root may put anything.

    No part of *name* may be a link, the file has to be a regular one, and to open a FIFO does not wait. The path of
    *folder* itself has to be root's.

    Raises:
        FileNotFoundError: nothing of that name is there.
        ReadError: something else than a regular file (or a directory) is there.
    """
    parts = [part for part in name.split("/") if part]
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    last: int | None = None
    if len(parts) == 1:  # by the path of the folder, which is root's: half of the calls, for thousands of files
        parts = [f"{folder}/{name}"]
    else:
        last = os.open(folder, flags | os.O_DIRECTORY)
    try:
        for number, part in enumerate(parts, start=1):
            between = number < len(parts) or directory
            step = os.open(part, flags | os.O_NOFOLLOW | (os.O_DIRECTORY if between else 0), dir_fd=last)
            if last is not None:
                os.close(last)
            last = step
        assert last is not None
        mode = os.fstat(last).st_mode
        if not (stat.S_ISDIR(mode) if directory else stat.S_ISREG(mode)):
            raise ReadError(f"{folder}/{name} is no {'directory' if directory else 'regular file'}")
        return last
    except BaseException as error:
        if last is not None:
            os.close(last)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            more = "; links are not followed there" if error.errno in (errno.ELOOP, errno.ENOTDIR) else ""
            raise ReadError(f"{folder}/{name}: {error.strerror}{more}") from None
        raise


def read_untrusted(folder: str, name: str, limit: int = UNTRUSTED_BYTES, tail: bool = False) -> bytes:
    """Return the content of a file that another account than root may write.

    Args:
        limit: A larger file is refused, or with *tail* only its last *limit* bytes are read.

    Raises:
        FileNotFoundError: nothing of that name is there.
        ReadError: it is no regular file, or larger than *limit*.
    """
    file = open_untrusted(folder, name)
    try:
        size = os.fstat(file).st_size
        if tail:
            return os.pread(file, limit, max(0, size - limit))
        content = os.pread(file, limit + 1, 0)  # not the size alone: the file may grow after fstat
        if max(size, len(content)) > limit:
            raise ReadError(f"{folder}/{name} is larger than {limit} bytes")
        return content
    finally:
        os.close(file)


def list_untrusted(folder: str, name: str = "", pattern: str = "*") -> list[str]:
    """Return the names in a directory that another account than root may write, in order; none where there is none.

    Raises:
        ReadError: it is no directory, or has more than UNTRUSTED_NAMES names.
    """
    try:
        directory = open_untrusted(folder, name, directory=True)
    except FileNotFoundError:
        return []
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                found.append(entry.name)
                if len(found) > UNTRUSTED_NAMES:
                    raise ReadError(f"{folder}/{name} has more than {UNTRUSTED_NAMES} entries")
    finally:
        os.close(directory)
    return sorted(matching(found, pattern))


def tool(*argv: str, accepts: int = 0, passes: tuple[int, ...] = ()) -> str:
    """Return what a command prints; one that fails, hangs, or prints no text raises.

    Args:
        accepts: Bits of its exit status that tell of no failure.
        passes: Descriptors that it inherits.
    """
    try:
        done = subprocess.run(
            argv,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TOOL_SECONDS,
            check=False,
            pass_fds=passes,
        )
    except FileNotFoundError:
        raise ReadError(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise ReadError(f"{argv[0]} did not end within {TOOL_SECONDS} s") from None
    if done.returncode < 0 or done.returncode & ~accepts:
        said = (done.stderr or done.stdout).decode(errors="replace").strip() or "no word why"
        raise Failed(f"{argv[0]} ended with {done.returncode}: {said}")
    return done.stdout.decode(errors="surrogateescape")
