"""Consents of one command to lose what is on drives: passed from the command line to the provider, for that run."""

import json
import os
from collections.abc import Mapping, Sequence

from rackwright.errors import DeclarationError, DeclarationErrors

VARIABLE = "RACKWRIGHT_CONSENTS"
"""Holds a JSON mapping of serials to contents. A content that outlives its command names a count of writes, which the
next write or restart changes."""


def parse(given: Sequence[str]) -> dict[str, str]:
    """Return consents such as ``SERIAL=CONTENT`` by serial.

    Raises:
        DeclarationErrors: they are of another form, or there are two for one drive.
    """
    found: dict[str, str] = {}
    wrong = []
    for text in given:
        serial, equals, content = text.partition("=")
        if not equals or not serial or not content:
            want = "a consent is a serial and what is on that drive"
            wrong.append(DeclarationError("--consent", f"got {text!r}", want, "Paste what the refusal prints"))
        elif serial in found:
            wrong.append(DeclarationError("--consent", f"got two for {serial}", "a drive has one", "Leave one out"))
        found[serial] = content
    if wrong:
        raise DeclarationErrors(wrong)
    return found


def pass_on(consents: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the environment that hand *consents* to the provider."""
    return {VARIABLE: json.dumps(dict(consents))}


def received() -> dict[str, str]:
    """Return the consents of the command that started this process."""
    found = json.loads(os.environ.get(VARIABLE) or "{}")
    return {str(serial): str(content) for serial, content in found.items()}
