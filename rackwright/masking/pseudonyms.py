"""Keyed pseudonyms and offsets: equal for equal values, and not to be computed without the secret."""

import hmac
import json
import re
import unicodedata
from functools import cache
from typing import Any

LETTERS = "bcdfghjklmnpqrst"
"""Signs of a pseudonym, 4 bits each: without digits, so that none looks like a number, and without vowels."""
LENGTH = 16
"""Letters of a pseudonym: among 10^6 values, two have the same one with a probability of 3 in 10^8."""
NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
KEY_SHORTEST = 32
"""Minimum length of the secret: with a shorter one, pseudonyms of numbers and names can be computed by trial."""


class Pseudonyms:
    """The pseudonyms and offsets that follow from one secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._key = cache(self._derive)

    def name(self, domain: str, value: Any) -> str:
        """Return the pseudonym of *value* in *domain*: equal values of one domain have the same one."""
        mac = hmac.digest(self._key("pseudonym", domain), canonical(value).encode(), "sha256")
        return f"{prefix(domain)}_{''.join(LETTERS[byte >> 4] + LETTERS[byte & 15] for byte in mac[: LENGTH // 2])}"

    def days(self, person: Any, limit: int) -> int:
        """Return the offset of the dates of *person* in days: *limit* at most, into past or future, and never 0."""
        mac = hmac.digest(self._key("days", ""), canonical(person).encode(), "sha256")
        place = int.from_bytes(mac[:8], "big") % (2 * limit)
        return place - limit if place < limit else place - limit + 1

    def _derive(self, purpose: str, domain: str) -> bytes:
        return hmac.digest(self._secret, json.dumps(["masking", purpose, domain]).encode(), "sha256")


def canonical(value: Any) -> str:
    """Return *value* as one text, whether a file has it as text or as number."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return unicodedata.normalize("NFKC", str(value)).strip()


def prefix(domain: str) -> str:
    """Return the word before the pseudonyms of *domain*."""
    return domain if NAME.fullmatch(domain) else "id"


def pattern(domain: str) -> re.Pattern[str]:
    """Return the form of the pseudonyms of *domain*."""
    return re.compile(rf"{re.escape(prefix(domain))}_[{LETTERS}]{{{LENGTH}}}")
