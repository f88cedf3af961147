"""Compare answers of vLLM itself with those that come through our server, by OpenAI's client.

python -m tests.support.models.compare_protocols SERVER.json [WORD]     prints a JSON line for each request and route

SERVER.json has the `url` of our server, and `socket` and `key` of its vLLM. WORD goes into prompts.
"""

import inspect
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai

from tests.support.models.protocol_cases import ADAPTER, CASES, CHAT, MODEL, RESPONSES, TEXT, Case

CHANGING = {
    "id", "created", "created_at", "completed_at", "item_id", "call_id", "request_id", "prompt_tokens_details",
    "input_tokens_details", "sequence_number", "root", "permission",
}  # fmt: skip
"""Keys of ids and times, of what the cache has kept from an earlier request, and of the model's path."""
TEXTS = ("/content", "/text", "/arguments", "/reasoning", "/delta", "/token")
"""Ends of the paths of texts that come in pieces."""
EMBEDDINGS = "/v1/embeddings"


def main(path: str, secret: str = "") -> None:
    server = json.loads(Path(path).read_text())
    transport = httpx.HTTPTransport(uds=server["socket"])
    direct = openai.OpenAI(
        base_url="http://vllm/v1", api_key=server["key"], max_retries=0, http_client=httpx.Client(transport=transport)
    )
    front = openai.OpenAI(base_url=f"{server['url']}/v1", api_key=server.get("api_key", "none"), max_retries=0)
    for case in CASES:
        _answer(direct, case)  # so that both find the same in vLLM's cache of prompts
        found = [_answer(client, case) for client in (direct, front)]
        _say("request", case.id, *found)
    _say("request", "/v1/models list", *(_outcome(partial(_models, client)) for client in (direct, front)))
    _say("request", "/v1/models/{model}", *(_outcome(partial(_model, client)) for client in (direct, front)))
    for body in _secret_bodies(secret):
        _outcome(partial(front.post, "/chat/completions", cast_to=object, body=body))
    document = direct.get("http://vllm/openapi.json", cast_to=object)
    for route, operations in sorted(document["paths"].items()):
        for method in operations:
            if "{" not in route and method == "post":
                _say("route", f"{method.upper()} {route}", None, _status(server["url"] + route, front.api_key))


def _answer(client: openai.OpenAI, case: Case) -> tuple[int, Any]:
    """Return the status and the content of the answer to *case*, without ids and times."""
    calls = {
        CHAT: client.chat.completions.create, TEXT: client.completions.create, RESPONSES: client.responses.create,
        EMBEDDINGS: client.embeddings.create,
    }  # fmt: skip
    if case.path in calls:
        status, answer = _outcome(lambda: _collect(_call(calls[case.path], case.body)))
        return status, _accumulate(answer) if isinstance(answer, list) else answer
    url = str(client.base_url).removesuffix("/v1/") + case.path
    if case.body.get("stream"):
        return _outcome(lambda: list(_events(client, url, case.body)))
    return _outcome(lambda: client.post(url, cast_to=object, body=case.body))


def _secret_bodies(word: str) -> Iterator[dict[str, Any]]:
    """Yield requests with *word* in them: an answered one, and others that vLLM refuses."""
    message = {"role": "user", "content": word}
    yield {"model": MODEL, "messages": [message], "max_tokens": 1, "user": word}
    yield {"model": MODEL, "messages": [message], "temperature": word}
    yield {"model": MODEL, "messages": [{**message, "content": f"{word} " * 3000}]}
    yield {"model": MODEL, "messages": [{"role": word, "content": [{"type": word}]}]}
    yield {"model": MODEL, "messages": [message], "response_format": {"type": "json_schema", "json_schema": {
        "name": word, "schema": {"type": word}}}}  # fmt: skip


def _models(client: openai.OpenAI) -> Any:
    return client.models.list().model_dump()["data"]


def _model(client: openai.OpenAI) -> Any:
    return client.models.retrieve(ADAPTER).model_dump()


def _accumulate(events: list[Any]) -> dict[str, Any]:
    """Return what a stream says in all: vLLM puts several tokens into one event when it is busy."""
    found: dict[str, Any] = {}
    for event in events:
        for path, value in _leaves(event):
            if path.endswith(TEXTS) and isinstance(value, str):
                found[path] = found.get(path, "") + value
            elif value is not None:
                found[path] = value
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, f"{path}/{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            # events of several choices come in any order
            key = each.get("index", number) if isinstance(each, dict) else number
            yield from _leaves(each, f"{path}/{key}")
    else:
        yield path, value


def _call(create: Any, body: dict[str, Any]) -> Any:
    """Call a method of the client; fields that it does not know go beside its own."""
    known = inspect.signature(create).parameters.keys()
    own = {name: value for name, value in body.items() if name in known}
    return create(**own, extra_body={name: value for name, value in body.items() if name not in known or value is None})


def _collect(answer: Any) -> Any:
    return [each.model_dump() for each in answer] if isinstance(answer, openai.Stream) else answer.model_dump()


def _events(client: openai.OpenAI, url: str, body: dict[str, Any]) -> Iterator[Any]:
    headers = {"authorization": f"Bearer {client.api_key}"}
    with client._client.stream("POST", url, json=body, headers=headers) as response:
        for line in response.iter_lines():
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))


def _outcome(ask: Any) -> tuple[int, Any]:
    try:
        return 200, _stable(ask())
    except openai.APIStatusError as error:
        return error.status_code, _stable(error.body)
    except openai.APIError as error:  # an event of a stream
        return 0, str(error)


def _stable(value: Any) -> Any:
    """Return *value* without what changes from one answer to the next."""
    if isinstance(value, dict):
        return {key: _stable(each) for key, each in value.items() if key not in CHANGING}
    if isinstance(value, list):
        return [_stable(each) for each in value]
    return round(value, 2) if isinstance(value, float) else value


def _status(url: str, key: str) -> tuple[int, Any]:
    answer = httpx.post(url, json={}, headers={"authorization": f"Bearer {key}"}, timeout=60)
    return answer.status_code, None


def _say(kind: str, name: str, direct: Any, front: Any) -> None:
    line: dict[str, Any] = {"kind": kind, "name": name, "front": front[0]}
    if direct is not None:
        line |= {"direct": direct[0], "equal": direct == front}
        if direct != front:
            line["difference"] = [json.dumps(each)[:600] for each in (direct[1], front[1])]
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
