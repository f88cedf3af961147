"""How the probe answers: one line of JSON, compressed, in base64."""

from __future__ import annotations

import binascii
import codecs
import json
import sys
import zlib
from typing import Any


def tell(facts: dict[str, Any]) -> None:
    sys.stdout.buffer.write(binascii.b2a_base64(zlib.compress(packed(facts), 1)))


def packed(facts: dict[str, Any]) -> bytes:
    """Return *facts* as JSON. Bytes of a name that are no UTF-8 are written as ``\\xff``."""
    return json.dumps(facts, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "visible")


def visible(error: UnicodeError) -> tuple[str, int]:
    """Replace what Python puts in the place of such bytes; the backslash itself is escaped, as JSON wants it."""
    assert isinstance(error, UnicodeEncodeError)
    wrong = error.object[error.start : error.end]
    return "".join(f"\\\\x{ord(sign) & 0xFF:02x}" for sign in wrong), error.end


codecs.register_error("visible", visible)
