"""The page of docs/reference about OpenAI's protocol, from what a comparison has found.

python -m tests.support.models.protocol_page < LINES > PAGE      LINES are those of `compare_protocols`
"""

import json
import sys
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from tests.support.models.protocol_cases import CASES, CHAT, MODEL, TEXT, Case
from workloads.serving.answers import HttpError
from workloads.serving.model import Model
from workloads.serving.openai.body import read
from workloads.serving.openai.requests import ChatRequest, TextRequest

HEAD = """\
# OpenAI's protocol

`make accept ONLY=models.5` writes this page from answers. OpenAI's client sends each request to vLLM itself, and to
the server in front of it. The check compares the two answers without ids, times and the path of the model. *Equal*
means the same status and content; errors of vLLM count as well. The model has random weights and no reasoning parser.
It computes on processors and has an adapter. There, log-probabilities of prompts are refused, because vLLM would end.

The last column is a server of llama.cpp. A refused field is a 400 that names the field. *Models with tools* have a chat
template that writes tools, and *embedding models* are published as such; others refuse these requests with 400 and 404.

These errors come from the server itself, in the form of the protocol:

| status | meaning |
| --- | --- |
| 400, code `deadline_exceeded` | no first token within `deadline_seconds` |
| 400, code `time_limit_exceeded` | no end of the answer within `answer_seconds` or `stream_seconds` |
| 400, code `unsupported_parameter` | log-probabilities of prompts, from vLLM on processors with adapters |
| 401, 403 | the key is missing, or does not allow the request |
| 404 | the route or the model does not exist |
| 408, 413, 415 | the body is too slow, too large, or has an unknown encoding |
| 429 | the queue is full, or the key has used its quota |
| 502 | vLLM does not answer |
| 503 | the bodies of other requests use all memory |
| 503, code `deadline_exceeded` | no first token within `deadline_seconds` from llama.cpp, beside other texts |

`root` of a model is its name, not its path on the host.
"""
ROUTES_HEAD = """
## Routes of vLLM

vLLM has these routes for a model that generates text. A route that is not forwarded administers vLLM, or has a form
that no client needs. Routes of embeddings, scores, ranks and speech are forwarded as well, to a model that has them.

| route | through the server |
| --- | --- |
"""
OWN = ("/v1/models list", "/v1/models/{model}")
"""Requests that the server answers from vLLM's list of models."""


def page(lines: Iterable[Mapping[str, Any]]) -> str:
    """Return the text of the page for *lines*, the output of `compare_protocols`."""
    found = {(line["kind"], line["name"]): line for line in lines}
    text = HEAD
    for path, cases in groupby(CASES, key=lambda case: case.path):
        text += f"\n## `{path}`\n\n| request | vLLM | through the server | llama.cpp |\n| --- | --- | --- | --- |\n"
        for case in cases:
            line = found["request", case.id]
            text += f"| {case.name} | {line['direct']} | {_verdict(line)} | {_by_llama(case)} |\n"
    text += "\n## Models\n\n| request | vLLM | through the server | llama.cpp |\n| --- | --- | --- | --- |\n"
    for name in OWN:
        line = found["request", name]
        text += f"| `{name}` | {line['direct']} | {_verdict(line)} | answered |\n"
    text += ROUTES_HEAD
    for (kind, name), line in found.items():
        if kind == "route":
            text += f"| `{name}` | {'404' if line['front'] == 404 else 'forwarded'} |\n"
    return text


def _verdict(line: Mapping[str, Any]) -> str:
    if line["equal"]:
        return "equal"
    return f"refused, {line['front']}" if line["front"] == 400 else str(line["front"])


def _by_llama(case: Case) -> str:
    """Return what a server of llama.cpp does with *case*."""
    kinds = {CHAT: ChatRequest, TEXT: TextRequest}
    if case.path not in kinds:
        return "embedding models" if case.path == "/v1/embeddings" else "404"
    model = Model(name=MODEL, version="1", runtime="llama.cpp", files={})
    try:
        request = read(json.dumps(case.body).encode(), kinds[case.path], model)
    except HttpError as error:
        return f"refused, {error.status}"
    return "models with tools" if isinstance(request, ChatRequest) and request.uses_tools else "answered"


if __name__ == "__main__":
    print(page(map(json.loads, sys.stdin)), end="")
