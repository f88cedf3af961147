"""The fields of a request that name the cache of another server."""

from collections.abc import Mapping
from typing import Any

from workloads.serving.answers import HttpError
from workloads.serving.kv_cache import KvTransferSettings

PARAMETERS = "kv_transfer_params"
"""The field of a request and of an answer with which a router leads decoders to the blocks of a prompt."""


def check_parameters(request: object, transfer: KvTransferSettings | None) -> None:
    """Return if vLLM may follow the fields of *request*, the data of a body, that name the cache of another server.

    vLLM connects to the address that a request names, and reads what answers there, so that a client could lead it to
    any host of the network.

    Raises:
        HttpError: 400 if they name another place than one of the peers, or if this server exchanges nothing.
    """
    if not isinstance(request, Mapping):
        if transfer:
            raise HttpError(400, "a server that exchanges caches reads bodies of JSON alone")
        return
    more = request.get("vllm_xargs")
    if isinstance(more, Mapping) and PARAMETERS in more:
        raise HttpError(400, f"vllm_xargs: {PARAMETERS} is a field of its own", param="vllm_xargs")
    parameters = request.get(PARAMETERS)
    if parameters is None:
        return
    if transfer is None:
        raise HttpError(400, f"{PARAMETERS}: this server exchanges no caches with others", param=PARAMETERS)
    if not isinstance(parameters, Mapping) or not _is_known(parameters, transfer):
        raise HttpError(400, f"{PARAMETERS}: it names no server that this one exchanges caches with", param=PARAMETERS)


def _is_known(parameters: Mapping[Any, Any], transfer: KvTransferSettings) -> bool:
    """Return whether *parameters* name no other server, or a port of one of the peers."""
    address, port = parameters.get("remote_host"), parameters.get("remote_port")
    if address is None and port is None:
        return not parameters.get("do_remote_prefill")
    return any(
        address == peer.address and type(port) is int and peer.port <= port < peer.port + peer.ranks
        for peer in transfer.peers
    )
