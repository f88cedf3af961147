"""The result of a restore test as it is in a bucket: signed, so that no other account of the store can report one."""

import hmac
import json
import math
from collections.abc import Mapping
from typing import Any

from rackwright.foreign import InvalidData, parse_object

BYTES_MAX = 64 << 10
"""Maximum size of a result."""
COPIED_SECONDS = 900
"""Largest age of a result at its upload; the clocks of both computers differ by less, or the store refuses requests.

An older one is a copy of an earlier result in the place of a later one.
"""
PURPOSE = "restore-test"
"""Purpose of the key that signs results; see `derive_key`."""


def render(key: str, bucket: str, result: Mapping[str, Any]) -> bytes:
    """Return the content of the object with *result*.

    Args:
        key: The key that follows from the secret of the account that manages the store.
    """
    plain = {**result, "bucket": bucket}
    return json.dumps({**plain, "signature": _signature(key, plain)}).encode()


def parse(key: str, bucket: str, content: bytes, uploaded_at: float) -> dict[str, Any]:
    """Return the time ``at`` and the outcome ``passed`` of the result in *content*.

    Args:
        uploaded_at: Time of the upload by the store's clock, in seconds of the epoch.

    Raises:
        InvalidData: It is no result, or was neither signed for this bucket nor uploaded at its time.
    """
    plain = parse_object(content, BYTES_MAX, max_depth=2, max_items=64)
    signature, at, passed = plain.pop("signature", None), plain.get("at"), plain.get("passed")
    if not isinstance(at, int | float) or isinstance(at, bool) or not isinstance(passed, bool):
        raise InvalidData("it has no time and outcome")
    if not isinstance(signature, str) or not hmac.compare_digest(signature.encode(), _signature(key, plain).encode()):
        raise InvalidData("the account that manages the store has not signed it")
    if plain.get("bucket") != bucket:
        raise InvalidData("it is the result of another bucket")
    if not math.isclose(at, uploaded_at, rel_tol=0, abs_tol=COPIED_SECONDS):
        raise InvalidData("it was uploaded at another time than its own, so that it is a copy of an earlier one")
    return {"at": float(at), "passed": passed}


def _signature(key: str, plain: Mapping[str, Any]) -> str:
    return hmac.digest(key.encode(), json.dumps(plain, sort_keys=True).encode(), "sha256").hex()
