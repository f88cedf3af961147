"""How the probe looks: what cannot be read becomes the reason why, and takes nothing else along."""

from __future__ import annotations

import os
import subprocess
from fnmatch import filter as matching
from typing import Any, Callable

TOOL_SECONDS = 60
ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class Unreadable(Exception):
    """Something that cannot be read; the message is the reason that facts give."""


def unknown(reason: str) -> dict[str, str]:
    return {"unknown": reason}


def known(found: Any) -> Any:
    """Return *found*, or raise the reason why it is unknown."""
    if isinstance(found, dict) and found.keys() == {"unknown"}:
        raise Unreadable(found["unknown"])
    return found


def attempt(look: Callable[..., Any], *arguments: Any) -> Any:
    """Return what *look* returns, or why it could not."""
    try:
        return look(*arguments)
    except Unreadable as reason:
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
        raise Unreadable(f"{path} is empty")
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


def tool(*argv: str, accepts: int = 0) -> str:
    """Return what a command prints; one that fails or hangs raises.

    Args:
        accepts: Bits of its exit status that tell of no failure.
    """
    try:
        done = subprocess.run(
            argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, timeout=TOOL_SECONDS, check=False
        )
    except FileNotFoundError:
        raise Unreadable(f"{argv[0]} is not installed") from None
    if done.returncode < 0 or done.returncode & ~accepts:
        said = (done.stderr or done.stdout).decode(errors="replace").strip() or "no word why"
        raise Unreadable(f"{argv[0]} ended with {done.returncode}: {said}")
    return done.stdout.decode(errors="surrogateescape")
