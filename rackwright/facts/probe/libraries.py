"""Shared libraries as the dynamic linker finds them."""

from __future__ import annotations

import os
import re
from glob import glob
from typing import Iterator

from rackwright.facts.probe.observe import listing, read

CONFIGURATION = "/etc/ld.so.conf"
ALWAYS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
"""Where the linker looks beside what its configuration says. Source: ld.so(8)."""
SONAME = re.compile(r"lib.+\.so\.\d+")


def libraries(root: str) -> dict[str, list[str]]:
    """Return for each name that programs ask for, such as ``libc.so.6``, the files that it leads to.

    One for each directory in which there is another; links are followed to their ends.
    """
    found: dict[str, list[str]] = {}
    base = os.path.realpath(root) if root else ""
    for folder in dict.fromkeys(os.path.realpath(root + path) for path in (*configured(root, CONFIGURATION), *ALWAYS)):
        for name in listing(folder, "lib*.so.*"):
            file = os.path.realpath(f"{folder}/{name}")[len(base) :]
            if SONAME.fullmatch(name) and file not in found.setdefault(name, []):
                found[name].append(file)
    return found


def configured(root: str, path: str) -> Iterator[str]:
    """Yield the directories that a file of ld.so.conf names, and those of the files that it includes."""
    if not os.path.exists(root + path):
        return
    for line in read(root + path).splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:]:
                for included in sorted(glob(root + os.path.join(os.path.dirname(path), pattern))):
                    yield from configured(root, included[len(root) :])
        else:
            yield from words
