"""Write files on the host, each complete or not at all, with its mode and owner from the beginning.

Standard library only, for Python 3.8 and later.
"""

from __future__ import annotations

import base64
import grp
import os
import pwd
from pathlib import Path
from typing import Any

from rackwright.hosts.onhost.messages import Stop
from rackwright.hosts.onhost.references import resolve_references


def put(step: dict[str, Any]) -> None:
    """Write a temporary file, then rename it to the path: a link there is replaced, never followed."""
    path = Path(step["path"])
    content = base64.b64decode(step["content"]) if step.get("base64") else resolve_references(step["content"]).encode()
    beside = path.with_name(f".{path.name}.rackwright")
    with os.fdopen(create(beside, step), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    sync_directory(path.parent)


def receive(step: dict[str, Any]) -> None:
    """Append a part of a file to a temporary file; after the last part, rename it to the path."""
    path = Path(step["path"])
    beside = path.with_name(f".{path.name}.rackwright")
    descriptor = create(beside, step) if step["first"] else os.open(beside, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "ab") as file:
        file.write(base64.b64decode(step["content"]))
        if step["last"]:
            file.flush()
            os.fsync(file.fileno())
    if step["last"]:
        beside.rename(path)
        sync_directory(path.parent)


def create(path: Path, step: dict[str, Any]) -> int:
    """Make the empty file *path* with the mode and the owner of *step*, and return its descriptor.

    Both are set before there is any content, so that no other account can open the file in between.
    """
    user, _, group = step["owner"].partition(":")
    try:
        owner = pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise Stop(f"owner {step['owner']}: {error.args[0]}") from None
    make_directory(path.parent)
    remove(path)  # left by a run that was killed
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.fchown(descriptor, *owner)
        os.fchmod(descriptor, step["mode"])
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_directory(path: Path) -> None:
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(mode=0o755)
        sync_directory(path.parent)


def remove(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
