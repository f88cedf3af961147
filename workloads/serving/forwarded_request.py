"""A request as it goes to vLLM: read as vLLM reads it, with an id of the server's own, and asked for its usage."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workloads.serving.answers import HttpError
from workloads.serving.forwarded_routes import Route
from workloads.serving.keys import Key
from workloads.serving.kv_cache import KvTransferSettings
from workloads.serving.kv_parameters import check_parameters
from workloads.serving.offload import check_json

URL_FIELDS = ("url", "image_url", "audio_url", "video_url")
"""Fields of requests that have the URL of a picture, a sound or a film, or its content as a URL."""
RECORDING_BYTES = 640
"""Bytes of a recording that count as a token: Whisper has 50 positions for a second, and a second of speech, 16,000
samples of 16 bits, has 32,000 bytes."""


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request as it goes to vLLM."""

    body: bytes
    streams: bool = False
    """Whether the client has asked for a stream."""
    hides_usage: bool = False
    """Whether the body asks for the usage of a stream, and the client has not."""
    ids: tuple[str, ...] = ()
    """vLLM's ids of its texts; empty if they are not known."""
    prompt_tokens: int = 0
    """About the tokens of the prompt, for an answer that ends before vLLM has counted them."""


def prepare(
    content: bytes, route: Route, request_id: str, transfer: KvTransferSettings | None = None, key: Key | None = None
) -> PreparedRequest:
    """Return the request with the body *content*; a stream of completions is always asked for its usage.

    Args:
        request_id: The id that vLLM gets for it.

    Raises:
        HttpError: 400 if there are too many values to parse, if vLLM could read the request in another way than this
            server, so that it would come without its usage or with fields that are not checked; 400 or 403 if it names
            the cache of another server and may not.
    """
    if not route.computes:
        return PreparedRequest(content)
    if route.takes_forms and content.startswith(b"--"):  # a form with a recording begins with its boundary
        check_parameters(None, transfer, key)
        return PreparedRequest(content, prompt_tokens=len(content) // RECORDING_BYTES)
    request = _parse(content)
    check_parameters(request, transfer, key)
    fields: dict[str, Any] = {route.id_field: request_id} if route.id_field else {}
    stream = route.has_usage_option and _streams(request)
    options = request.get("stream_options") or {}
    hides_usage = stream and options.get("include_usage") is not True
    if hides_usage:
        fields["stream_options"] = {**options, "include_usage": True}
    ids = route.ids(request_id, _count_prompts(request))
    return PreparedRequest(_with_fields(content, fields), stream, hides_usage, ids, estimate_tokens(request))


def _parse(content: bytes) -> dict[str, Any]:
    """Return the data of a body.

    Raises:
        HttpError: it is no object of JSON in UTF-8, the only form that this server and vLLM read alike, or too large.
    """
    if too_much := check_json(content):
        raise HttpError(400, f"the body: {too_much}")
    try:
        request = json.loads(content.decode())  # the parser of vLLM itself: others refuse half a surrogate
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise HttpError(400, "the body is no object of JSON in UTF-8")
    return request


def _streams(request: Mapping[str, Any]) -> bool:
    """Return whether *request* asks for a stream.

    Raises:
        HttpError: vLLM might read its fields in another way.
    """
    stream = request.get("stream")
    if not isinstance(stream, bool | None):
        raise HttpError(400, "stream: it is true or false", param="stream")
    if not isinstance(request.get("stream_options"), dict | None):
        raise HttpError(400, "stream_options: it is an object", param="stream_options")
    return bool(stream)


def _count_prompts(request: Mapping[str, Any]) -> int:
    """Return the number of texts that a request for completions, or for several chats, asks for."""
    for texts in (request.get("prompt"), request.get("messages")):
        if isinstance(texts, list) and texts and not all(isinstance(each, int | Mapping) for each in texts):
            return len(texts)
    return 1


def _with_fields(content: bytes, fields: Mapping[str, Any]) -> bytes:
    """Return the body with *fields* as its last ones, which are those that count; other bytes stay the client's."""
    if not fields:
        return content
    try:
        added = json.dumps(fields)[1:].encode()
    except RecursionError:
        raise HttpError(400, "stream_options: it is too deep", param="stream_options") from None
    rest = content.rstrip()[:-1].rstrip()
    return rest + (b"" if rest.endswith(b"{") else b",") + added


def estimate_tokens(request: object) -> int:
    """Return about the tokens of the texts in *request*, the data of a body: four bytes are one, as in English.

    Images and sounds are not counted: texts that begin with ``data:`` in a field for a URL, where no prompt can stand.
    Neither are the names of fields.
    """
    tokens, rest = 0, [("", request)]
    while rest:
        match rest.pop():
            case name, str(text):
                is_media = name in URL_FIELDS and text.startswith("data:")
                tokens += 0 if is_media else -(-len(text.encode(errors="replace")) // 4)
            case _, dict(fields):
                rest += fields.items()
            case name, list(values):
                rest += ((name, value) for value in values)
            case _, int(number) if not isinstance(number, bool):  # that of a token
                tokens += 1
    return tokens
