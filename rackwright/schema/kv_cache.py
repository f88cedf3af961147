"""The cache of a vLLM that servers exchange: one computes prompts, and another one writes the answers."""

from typing import Annotated, Literal

from pydantic import Field

from rackwright.schema.base import Many, Schema
from rackwright.schema.host import Name


class KvTransfer(Schema):
    """Exchange of a vLLM's cache with other servers of the fleet, by NIXL."""

    role: Literal["prefill", "decode"]
    """Work of this server: prefill computes prompts, and decode writes answers."""
    peers: Annotated[Many[Name], Field(min_length=1)]
    """Servers of the other role. Only their hosts reach the ports of vLLM."""
    port: Annotated[int, Field(ge=1024, le=64511)] = 5600
    """First port of the exchange on each host, one for each rank of `data_parallel`."""
