"""Shared libraries that the dynamic linker can find."""

from __future__ import annotations

import os
import re
from glob import glob
from typing import Iterator

from rackwright.facts.probe.observe import listing, read

CONFIGURATION = "/etc/ld.so.conf"
DEFAULT_DIRECTORIES = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
"""Directories that the linker searches in addition to the configured ones. Source: ld.so(8)."""
SONAME = re.compile(r"lib.+\.so\.\d+")


def libraries(root: str) -> dict[str, list[str]]:
    """Return the files for each library name that programs request, such as ``libc.so.6``.

    The list has the target of the name in each directory, without repetition; links are resolved.
    """
    paths_by_name: dict[str, list[str]] = {}
    base = os.path.realpath(root) if root else ""
    for folder in dict.fromkeys(
        os.path.realpath(root + folder_path)
        for folder_path in (*configured_directories(root, CONFIGURATION), *DEFAULT_DIRECTORIES)
    ):
        for name in listing(folder, "lib*.so.*"):
            path = os.path.realpath(f"{folder}/{name}")[len(base) :]
            if SONAME.fullmatch(name) and path not in paths_by_name.setdefault(name, []):
                paths_by_name[name].append(path)
    return paths_by_name


def configured_directories(root: str, path: str) -> Iterator[str]:
    """Yield the directories in a file of ld.so.conf and in the files that it includes."""
    if not os.path.exists(root + path):
        return
    for line in read(root + path).splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:]:
                for file in sorted(glob(root + os.path.join(os.path.dirname(path), pattern))):
                    yield from configured_directories(root, file[len(root) :])
        else:
            yield from words
