"""The files of people's second factors: what may be used to log in beside the code of an authenticator.

The PAM module rewrites a file at each login: it notes codes and times, and removes an emergency code that was used.
"""

from __future__ import annotations

import re
from typing import Any

from rackwright.facts.digest import digest
from rackwright.facts.probe.observe import ReadError, attempt, list_untrusted, read_untrusted

FOLDER = "/var/lib/totp"
FILE_BYTES = 1 << 16
KEY, CODE = re.compile(r"[A-Z2-7]{16,128}"), re.compile(r"\d{8}")
WITH_STATE = {"RATE_LIMIT": 3, "DISALLOW_REUSE": 1}
"""Options behind which the module notes codes and times, with the number of words before them."""
STATE = ("RESETTING_TIME_SKEW", "TIME_SKEW", "LAST")
"""Beginnings of options that the module itself writes. Source: google-authenticator-libpam, FILEFORMAT."""


def factors(root: str, salt: bytes) -> dict[str, Any]:
    """Return for each person the options, a keyed digest of the key, and the number of emergency codes.

    Codes of eight digits have no digest here: a person with the fleet's key of digests could find them by trying.
    """
    return {name: attempt(factor, root, name, salt) for name in list_untrusted(root + FOLDER)}


def factor(root: str, name: str, salt: bytes) -> dict[str, Any]:
    first, *rest = read_untrusted(root + FOLDER, name, FILE_BYTES).decode(errors="replace").split("\n")
    if not KEY.fullmatch(first):
        raise ReadError(f"the first line of {FOLDER}/{name} is no key")
    options = [option(line[1:].split()) for line in rest if line.startswith('"')]
    codes = [line for line in rest if CODE.fullmatch(line)]
    others = [line for line in rest if line.strip() and not line.startswith('"') and not CODE.fullmatch(line)]
    return {
        "key": digest(first.encode(), salt),
        "options": sorted(text for text in options if text),
        "codes": len(codes),
        "other_lines": len(others),
    }


def option(words: list[str]) -> str:
    """Return an option without the module's notes; empty for one that is a note as a whole."""
    if not words or words[0].startswith(STATE):
        return ""
    return " ".join(words[: WITH_STATE.get(words[0], len(words))])
