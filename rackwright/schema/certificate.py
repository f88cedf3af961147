"""Certificates of authorities in a declaration."""

from typing import Annotated

from pydantic import AfterValidator

from rackwright.schema.base import SEVERAL_LINES
from rackwright.schema.formats import FORMATS


def _certificate(text: str) -> str:
    if wrong := FORMATS["certificate"].problem(text):
        raise wrong
    return text


Certificate = Annotated[str, AfterValidator(_certificate), SEVERAL_LINES]
"""Certificates in PEM, one or several."""
