"""The files of packages from which their programs write others, and the text of those others."""

from __future__ import annotations

import os
import re
from typing import Callable, NamedTuple

from rackwright.facts.probe.observe import ReadError, read_untrusted

FILE_BYTES = 8 << 20
"""Largest file that is compared: the index of the modules of a kernel."""
TEXT = re.compile(rb"[\t\n\x20-\x7e]*")
"""Printable ASCII: programs differ in what else they take for a blank or the end of a line."""


class System(NamedTuple):
    """The system whose files are compared."""

    root: str
    is_packaged: Callable[[str], bool]
    """Whether a path is a file that a package installed, as it installed it."""

    def is_copy(self, text: bytes, source: str) -> bool:
        """Return whether *text* is that of the packaged file *source*."""
        return self.is_packaged(source) and text == content(self.root, source)

    def exists(self, path: str) -> bool:
        return os.path.exists(self.root + path)


def content(root: str, path: str) -> bytes:
    """Return the content of a file; a link is not followed."""
    folder, name = os.path.split(root + path)
    return read_untrusted(folder, name, FILE_BYTES)


def lines(text: bytes) -> list[str]:
    """Return the lines of a text.

    Raises:
        ReadError: it has other bytes than printable ASCII, or a line that goes on in the next one.
    """
    if not TEXT.fullmatch(text) or b"\\\n" in text:
        raise ReadError("it has bytes or continued lines that programs read in different ways")
    rows = text.decode("ascii").split("\n")
    return rows[:-1] if rows[-1] == "" else rows
