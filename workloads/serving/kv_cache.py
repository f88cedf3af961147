"""The cache of a vLLM beyond its own GPUs: blocks in host memory, and blocks that servers send each other by NIXL.

None of it has run here, because both need GPUs.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from workloads.serving.model import StrictModel

SIDE_CHANNEL_PORT = 5600
"""vLLM's own default of the first port on which servers agree on an exchange."""
ROLES = {"prefill": "kv_producer", "decode": "kv_consumer"}
GIB = 1 << 30


class KvPeerSettings(StrictModel):
    """A host of a server of the other role."""

    address: str
    port: Annotated[int, Field(ge=1024, le=65535)] = SIDE_CHANNEL_PORT
    """Port of its first rank with attention of its own."""
    ranks: PositiveInt = 1
    """Ranks, each with a port of its own."""


class KvTransferSettings(StrictModel):
    """Prefill and decode on two servers: one computes the cache of a prompt, and the other one writes the answer."""

    role: Literal["prefill", "decode"]
    """Work of this server: computing prompts, or writing answers."""
    address: str
    """Address of this host on the network between the servers."""
    peers: Annotated[tuple[KvPeerSettings, ...], Field(min_length=1, strict=False)]
    """The hosts of the servers of the other role."""
    port: Annotated[int, Field(ge=1024, le=65535)] = SIDE_CHANNEL_PORT
    """First port on which the others agree with this server on an exchange, one for each rank."""


def transfer_option(offload_bytes: int | None, transfer: KvTransferSettings | None) -> list[str]:
    """Return the option of `vllm serve` for blocks in host memory, or for the exchange with other servers.

    A failed exchange fails the request, whose client may repeat it; the decoder does not compute the prompt again.
    Source: kv_offloading_usage and nixl_connector_usage of vLLM.

    Args:
        offload_bytes: Host memory of all processes of one engine.
    """
    config: dict[str, Any] = {}
    if offload_bytes is not None:
        extra = {"cpu_bytes_to_use": offload_bytes}
        config = {"kv_connector": "OffloadingConnector", "kv_role": "kv_both", "kv_connector_extra_config": extra}
    if transfer:
        config = {"kv_connector": "NixlConnector", "kv_role": ROLES[transfer.role], "kv_load_failure_policy": "fail"}
    return ["--kv-transfer-config", json.dumps(config)] if config else []


def transfer_variables(transfer: KvTransferSettings | None) -> dict[str, str]:
    """Return the variables of vLLM with the address and the first port of the exchange."""
    if transfer is None:
        return {}
    return {"VLLM_NIXL_SIDE_CHANNEL_HOST": transfer.address, "VLLM_NIXL_SIDE_CHANNEL_PORT": str(transfer.port)}
