"""Atomic writing of files that other processes read at any time."""

import os
from pathlib import Path


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write *content* so that a reader never sees only a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=mode)
    temporary.write_bytes(content)
    temporary.replace(path)
