"""The output of the probe: one line of JSON, compressed, in base64."""

from __future__ import annotations

import binascii
import codecs
import json
import sys
import zlib
from typing import Any


def write_facts(facts: dict[str, Any]) -> None:
    sys.stdout.buffer.write(binascii.b2a_base64(zlib.compress(pack(facts), 1)))


def pack(facts: dict[str, Any]) -> bytes:
    """Return *facts* as JSON; bytes of a name that are no UTF-8 become ``\\xff``."""
    return json.dumps(facts, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "visible")


def escape_surrogates(error: UnicodeError) -> tuple[str, int]:
    """Replace the surrogates that Python puts in the place of such bytes, with the backslash escaped for JSON."""
    assert isinstance(error, UnicodeEncodeError)
    wrong = error.object[error.start : error.end]
    return "".join(f"\\\\x{ord(sign) & 0xFF:02x}" for sign in wrong), error.end


codecs.register_error("visible", escape_surrogates)
