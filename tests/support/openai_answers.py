"""Ask SmolLM2 behind llama.cpp's front by OpenAI's client for schemas, log-probabilities, tools and embeddings.

$(rackwright toolchain workloads) -m tests.support.openai_answers DIRECTORY
"""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai

from tests.support.model_servers import served
from tests.support.models.smollm2 import NAME, gguf
from tests.support.models.tool_model import tool_gguf
from workloads.serving import gguf as publishing

PLACES = ("Paris", "Rome", "Oslo", "Bern")
TOKENS, ALTERNATIVES = 6, 3


CITY = {"type": "string", "enum": [*PLACES]}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "description": "The weather of a city", "parameters": {
        "type": "object", "properties": {"city": {"$ref": "#/$defs/city"}}, "required": ["city"],
        "additionalProperties": False, "$defs": {"city": CITY}}}},
    {"type": "function", "function": {"name": "time", "parameters": {
        "type": "object", "properties": {"zone": {"enum": ["CET", "UTC"]}, "exact": {"type": "boolean"}},
        "required": ["zone", "exact"], "additionalProperties": False}}},
]  # fmt: skip
NAMED: Any = {"type": "function", "function": {"name": "time"}}
SENTENCES = ("Paris is the capital of France.", "The capital of France is Paris.", "SELECT id FROM t WHERE x = 7;")


def ask(directory: Path) -> dict[str, Any]:
    """Return how many answers of each sort there are, and how many of them are right."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "README.md").write_text("Apache-2.0")
    report: dict[str, Any] = {}
    with published(directory, gguf()) as client:
        report |= texts(client)
        report["refused tools"] = refusal(lambda: chat(client, tools=TOOLS))
        report["refused embeddings"] = refusal(lambda: client.embeddings.create(model=NAME, input="a"))
    with published(directory, tool_gguf(directory)) as client:
        report |= calls(client)
    with published(directory, gguf(), "--embeddings", "mean") as client:
        report |= vectors(client)
        report["refused chat"] = refusal(lambda: chat(client))
    return report


@contextmanager
def published(directory: Path, file: Path, *more: str) -> Iterator[Any]:
    """Yield OpenAI's client of a server of *file*."""
    argv = [str(file), "--name", NAME, "--card", str(directory / "README.md"), "--out", str(directory / "published")]
    argv += ["--replace"] if (directory / "published").exists() else []
    assert publishing.main([*argv, *more]) == 0
    with served(directory / "published", "parallel=2", "context_tokens=512", "deadline_seconds=300") as server:
        host, port = server.address
        yield openai.OpenAI(base_url=f"http://{host}:{port}/v1", api_key="none", max_retries=0, timeout=300)


def chat(client: Any, question: str = "What is the weather in Paris?", **more: Any) -> Any:
    messages = [{"role": "user", "content": question}]
    return client.chat.completions.create(**{"model": NAME, "messages": messages, "temperature": 0, **more})


def refusal(act: Any) -> list[Any]:
    """Return the status and the text with which *act* is refused."""
    try:
        act()
    except openai.APIStatusError as error:
        return [error.status_code, error.body["message"] if isinstance(error.body, dict) else str(error.body)]
    return [200, ""]


def texts(client: Any) -> dict[str, Any]:
    report = {"schemas": 0, "right schemas": 0, "tokens": 0, "right tokens": 0}
    for place in PLACES:
        question = f"What is {place}?"
        shape = {"type": "object", "properties": {"place": {"const": place}, "big": {"type": "boolean"}},
                 "required": ["place", "big"], "additionalProperties": False}  # fmt: skip
        form = {"type": "json_schema", "json_schema": {"name": "place", "schema": shape, "strict": True}}
        answer = chat(client, question, max_tokens=64, response_format=form)
        found = json.loads(answer.choices[0].message.content)
        report["schemas"] += 1
        report["right schemas"] += found.keys() == {"place", "big"} and found["place"] == place
        chances = chat(client, question, max_tokens=TOKENS, logprobs=True, top_logprobs=ALTERNATIVES)
        tokens = chances.choices[0].logprobs.content
        report["tokens"] += TOKENS
        if "".join(token.token for token in tokens) == chances.choices[0].message.content:
            report["right tokens"] += sum(
                len(token.top_logprobs) == ALTERNATIVES and token.logprob == token.top_logprobs[0].logprob <= 0
                for token in tokens
            )
    return report


def calls(client: Any) -> dict[str, Any]:
    """Call functions, whole and as streams, and give their results back."""
    right = []
    for choice, names in (("required", {"weather", "time"}), (NAMED, {"time"})):
        answer = chat(client, tools=TOOLS, tool_choice=choice, max_tokens=96)
        [called] = answer.choices[0].message.tool_calls
        events = [*chat(client, tools=TOOLS, tool_choice=choice, max_tokens=96, stream=True)]
        deltas = [event.choices[0].delta for event in events if event.choices]
        [streamed] = [part for delta in deltas for part in delta.tool_calls or []]
        for each in (called, streamed):
            arguments = json.loads(each.function.arguments)
            wanted = {"weather": {"city"}, "time": {"zone", "exact"}}[each.function.name]
            fits = set(arguments) == wanted and arguments.get("city", PLACES[0]) in PLACES
            right.append(each.function.name in names and fits)
        right.append(answer.choices[0].finish_reason == events[-1].choices[0].finish_reason == "tool_calls")
        right.append(called.function.arguments == streamed.function.arguments)
    question = {"role": "user", "content": "What is the weather in Paris?"}
    asked = {"role": "assistant", "tool_calls": [called.model_dump()]}
    result = {"role": "tool", "tool_call_id": called.id, "content": "snow"}
    after = chat(client, messages=[question, asked, result], tools=TOOLS, max_tokens=8)
    longer = after.usage.prompt_tokens - chat(client, tools=TOOLS, max_tokens=1).usage.prompt_tokens
    right.append(longer > 0)
    plain = chat(client, tools=TOOLS, tool_choice="none", max_tokens=1).usage.prompt_tokens
    right.append(plain == chat(client, max_tokens=1).usage.prompt_tokens)
    return {"calls": len(right), "right calls": sum(right)}


def vectors(client: Any) -> dict[str, Any]:
    """Compare the vectors of several texts at once, as numbers and as base64, and of one at a time."""
    together = client.embeddings.create(model=NAME, input=[*SENTENCES], encoding_format="float")
    first, same, other = [each.embedding for each in together.data]
    alone = client.embeddings.create(model=NAME, input=SENTENCES[0])
    right = [
        math.isclose(math.hypot(*first), 1, rel_tol=1e-5),
        max(abs(a - b) for a, b in zip(first, alone.data[0].embedding, strict=True)) < 1e-3,
        dot(first, same) > dot(first, other),
        together.usage.prompt_tokens > alone.usage.prompt_tokens > 0,
    ]
    return {"vectors": len(right), "right vectors": sum(right)}


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    print(json.dumps(ask(Path(sys.argv[1]))))
