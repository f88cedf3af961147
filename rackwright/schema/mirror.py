"""The source of the packages in a lock."""

from typing import Annotated

from pydantic import AfterValidator

from rackwright.schema.base import Schema
from rackwright.schema.formats import FORMATS
from rackwright.schema.problem import Problem

PORT = 9417
"""Port on a host's loopback interface that serves packages through our connection. IANA has not assigned it."""


def _url(text: str) -> str:
    if FORMATS["url"].problem(text):
        help = "Write the web server's address of the folder that `rackwright lock --fetch --to` filled"
        raise Problem(f"got {text!r}", "a mirror's URL begins with http:// or https:// and has no blanks", help)
    return text


class Mirror(Schema):
    """Hosts get packages only from the local repository that `rackwright lock --fetch` fills."""

    url: Annotated[str, AfterValidator(_url)] | None = None
    """URL of the repository on your web server; by default hosts get packages through rackwright's SSH connection."""
