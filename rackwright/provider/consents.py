"""Consents of one command to the loss of data on drives, passed from the command line to the provider."""

import json
import os
from collections.abc import Mapping, Sequence

from rackwright.errors import DeclarationError, Diagnostic

VARIABLE = "RACKWRIGHT_CONSENTS"
"""The environment variable with a JSON mapping of serials to contents.

A content names a count of writes, which the next write or restart changes, so an old consent is invalid.
"""


def parse(texts: Sequence[str]) -> dict[str, str]:
    """Return consents such as ``SERIAL=CONTENT`` by serial.

    Raises:
        DeclarationError: a text has another form, or a drive has two consents.
    """
    consents: dict[str, str] = {}
    wrong = []
    for text in texts:
        serial, equals, content = text.partition("=")
        if not equals or not serial or not content:
            help = "Paste the text that the refusal prints"
            wrong.append(Diagnostic("--consent", f"{text!r} is not a consent", "SERIAL=CONTENT", help))
        elif serial in consents:
            problem = f"drive {serial} has two consents"
            wrong.append(Diagnostic("--consent", problem, "one consent for each drive", "Leave one out"))
        consents[serial] = content
    if wrong:
        raise DeclarationError(*wrong)
    return consents


def pass_on(consents: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that pass *consents* to the provider."""
    return {VARIABLE: json.dumps(dict(consents))}


def load() -> dict[str, str]:
    """Return the consents of the command that started this process."""
    consents = json.loads(os.environ.get(VARIABLE) or "{}")
    return {str(serial): str(content) for serial, content in consents.items()}
