"""The fields of a request that name the cache of another server: a right of the router in front of both."""

from collections.abc import Mapping
from typing import Any

from workloads.serving.answers import HttpError
from workloads.serving.keys import Key
from workloads.serving.kv_cache import KvTransferSettings

PARAMETERS = "kv_transfer_params"
"""The field of a request and of an answer with which a router leads decoders to the blocks of a prompt."""
WORK = {"prefill": "do_remote_decode", "decode": "do_remote_prefill"}
"""The field of vLLM that asks a server for its part of an exchange."""


def check_parameters(request: object, transfer: KvTransferSettings | None, key: Key | None) -> None:
    """Return if vLLM may follow the fields of *request*, the data of a body, that name the cache of another server.

    vLLM reads the blocks that a request names, which may be those of another client's prompt, and connects to the
    address that it names: only a key with the scope ``exchange`` may name any, and only those of a peer.

    Args:
        key: The key of the request; None: this server has none.

    Raises:
        HttpError: 403 without that scope, 400 if the fields name another place than one of the peers or another part
            than that of this server, or if it exchanges nothing.
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
    if key is None or "exchange" not in key.scopes:
        raise HttpError(403, f"{PARAMETERS}: this key does not allow exchange", param=PARAMETERS)
    if not isinstance(parameters, Mapping) or not _is_of_role(parameters, transfer):
        reason = f"a server of role {transfer.role} is asked for {WORK[transfer.role]}: true alone"
        raise HttpError(400, f"{PARAMETERS}: {reason}", param=PARAMETERS)
    if not _is_known(parameters, transfer):
        raise HttpError(400, f"{PARAMETERS}: it names no server that this one exchanges caches with", param=PARAMETERS)


def _is_of_role(parameters: Mapping[Any, Any], transfer: KvTransferSettings) -> bool:
    """Return whether *parameters* ask this server for its own part of an exchange alone."""
    return all(
        parameters.get(field) is True if role == transfer.role else not parameters.get(field)
        for role, field in WORK.items()
    )


def _is_known(parameters: Mapping[Any, Any], transfer: KvTransferSettings) -> bool:
    """Return whether *parameters* name a port of one of the peers; a server that computes prompts reads no cache."""
    if transfer.role == "prefill":
        return all(value is None for field, value in parameters.items() if field not in WORK.values())
    address, port = parameters.get("remote_host"), parameters.get("remote_port")
    return any(
        address == peer.address and type(port) is int and peer.port <= port < peer.port + peer.ranks
        for peer in transfer.peers
    )
