"""Where hosts get packages that a lock names."""

import re
from typing import Annotated

from pydantic import AfterValidator

from rackwright.schema.base import Schema
from rackwright.schema.problem import Problem

PORT = 9417
"""On a host's loopback interface, where its packages are while we are connected to it. Nobody has registered it."""


def _url(written: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", written):
        fix = "Write the address of the folder that `rackwright lock --fetch --to` filled, as a web server has it"
        raise Problem(f"got {written!r}", "it begins with http:// or https:// and has no blanks", fix)
    return written


class Mirror(Schema):
    """Hosts get packages from what `rackwright lock --fetch` keeps, and from nowhere else."""

    url: Annotated[str, AfterValidator(_url)] | None = None
    """Where a web server of yours has it; without one, hosts get it through the connection that changes them."""
