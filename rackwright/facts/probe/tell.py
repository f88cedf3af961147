"""How the probe answers: one line of JSON, compressed, in base64."""

from __future__ import annotations

import binascii
import json
import sys
import zlib
from typing import Any


def tell(facts: dict[str, Any]) -> None:
    sys.stdout.buffer.write(binascii.b2a_base64(zlib.compress(json.dumps(facts, separators=(",", ":")).encode(), 1)))
