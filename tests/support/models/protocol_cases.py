"""Requests of OpenAI's and Anthropic's protocol, one for each field, as the protocol table has them.

Fields that are not here have no effect on a text, or need what a small model does not have, such as pictures.
"""

from dataclasses import dataclass, field, replace
from typing import Any

MODEL, ADAPTER = "tiny", "adapted"
CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
SCHEMA = {
    "type": "object",
    "properties": {"host": {"type": "string", "maxLength": 4}, "gpus": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["host", "gpus"], "additionalProperties": False,
}  # fmt: skip
FUNCTION = {"name": "power", "description": "Power of a host", "parameters": SCHEMA, "strict": True}
TOOLS = [{"type": "function", "function": FUNCTION}]
NAMED = {"type": "function", "function": {"name": "power"}}
ASKED = [{"role": "user", "content": "def main(argv):"}]


@dataclass(frozen=True)
class Case:
    """One request, named by its route and what is special in it."""

    path: str
    name: str
    body: dict[str, Any] = field(default_factory=dict)
    refused: bool = False
    """Whether our server refuses it: log-probabilities of prompts, because the model here has an adapter."""

    @property
    def id(self) -> str:
        return f"{self.path} {self.name}"


def chat(name: str, **more: Any) -> Case:
    base = {"model": MODEL, "messages": ASKED, "max_tokens": 6, "temperature": 0}
    return Case(CHAT, name, {**base, **more})


def text(name: str, **more: Any) -> Case:
    return Case(TEXT, name, {"model": MODEL, "prompt": "def main", "max_tokens": 6, "temperature": 0, **more})


def refused(case: Case) -> Case:
    return replace(case, refused=True)


def response(name: str, **more: Any) -> Case:
    base = {"model": MODEL, "input": "def main", "max_output_tokens": 6, "temperature": 0}
    return Case(RESPONSES, name, {**base, **more})


def message(name: str, **more: Any) -> Case:
    return Case(MESSAGES, name, {"model": MODEL, "messages": ASKED, "max_tokens": 6, "temperature": 0, **more})


STREAM = {"stream": True}
DRAWN = {"temperature": 1, "seed": 1}
"""Sampling: several choices differ only with it."""
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "host", "schema": SCHEMA, "strict": True}}
CASES = (
    chat("plain"), chat("stream", **STREAM), chat("stream_options.include_usage", **USAGE),
    chat("stream_options {}", stream=True, stream_options={}), chat("stream_options without stream", stream_options={}),
    chat("model: an adapter", model=ADAPTER), chat("model: unknown", model="other"),
    chat("messages: none", messages=[]),
    chat("max_completion_tokens", max_tokens=None, max_completion_tokens=4),
    chat("max_tokens too large", max_tokens=10**6),
    chat("messages: system, developer, assistant", messages=[
        {"role": "system", "content": "Be short."}, {"role": "developer", "content": "Be kind."}, *ASKED,
        {"role": "assistant", "content": "pass"}, *ASKED]),
    chat("messages: parts of text", messages=[{"role": "user", "content": [{"type": "text", "text": "def main"}]}]),
    chat("messages: a picture", messages=[{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]),
    chat("messages: name", messages=[{"role": "user", "content": "def main", "name": "lea"}]),
    chat("messages: role tool", messages=[*ASKED, {"role": "assistant", "content": None, "tool_calls": [
        {"id": "call-1", "type": "function", "function": {"name": "power", "arguments": '{"host":"a","gpus":1}'}}]},
        {"role": "tool", "tool_call_id": "call-1", "content": "on"}], tools=TOOLS),
    chat("tools: []", tools=[]), chat("tools, tool_choice none", tools=TOOLS, tool_choice="none"),
    chat("tools, tool_choice auto", tools=TOOLS, tool_choice="auto"),
    chat("tools, tool_choice required, strict", tools=TOOLS, tool_choice="required", max_tokens=60),
    chat("tools, a named one, strict", tools=TOOLS, tool_choice=NAMED, max_tokens=60),
    chat("tools, a named one, strict, stream", tools=TOOLS, tool_choice=NAMED, max_tokens=60, **USAGE),
    chat("parallel_tool_calls", tools=TOOLS, tool_choice="required", parallel_tool_calls=False, max_tokens=60),
    chat("functions", functions=[FUNCTION]), chat("function_call", functions=[FUNCTION], function_call="auto"),
    chat("response_format text", response_format={"type": "text"}),
    chat("response_format json_object", response_format={"type": "json_object"}, max_tokens=20),
    chat("response_format json_schema", response_format=JSON_SCHEMA, max_tokens=60),
    chat("response_format json_schema, stream", response_format=JSON_SCHEMA, max_tokens=60, **STREAM),
    chat("structured_outputs", structured_outputs={"choice": ["yes", "no"]}),
    chat("logprobs", logprobs=True), chat("logprobs false", logprobs=False),
    chat("top_logprobs", logprobs=True, top_logprobs=3),
    chat("top_logprobs, stream", logprobs=True, top_logprobs=2, **STREAM),
    chat("logit_bias", logit_bias={"40": -100}), chat("logit_bias {}", logit_bias={}),
    chat("n", n=2, **DRAWN), chat("n, stream", n=2, **DRAWN, **USAGE), chat("stop", stop=["a", "e"]),
    chat("seed", seed=7, temperature=1), chat("seed -1", seed=-1, temperature=0),
    chat("temperature out of range", temperature=-1),
    chat("top_p", top_p=0.5), chat("top_k", top_k=5), chat("min_p", min_p=0.1),
    chat("frequency_penalty", frequency_penalty=1), chat("presence_penalty", presence_penalty=1),
    chat("repetition_penalty", repetition_penalty=1.2), chat("ignore_eos", ignore_eos=True),
    chat("min_tokens", min_tokens=3), chat("bad_words", bad_words=["def"]), refused(chat("echo", echo=True)),
    chat("add_generation_prompt", add_generation_prompt=False), refused(chat("prompt_logprobs", prompt_logprobs=1)),
    chat("return_token_ids", return_token_ids=True), chat("reasoning_effort", reasoning_effort="low"),
    chat("reasoning_effort null", reasoning_effort=None), chat("store false", store=False), chat("store", store=True),
    chat("metadata", metadata={"a": "b"}), chat("service_tier", service_tier="auto"), chat("user", user="lea"),
    chat("safety_identifier", safety_identifier="x"), chat("prompt_cache_key", prompt_cache_key="x"),
    chat("modalities text", modalities=["text"]), chat("modalities audio", modalities=["text", "audio"], audio={
        "voice": "alloy", "format": "wav"}),
    chat("prediction", prediction={"type": "content", "content": "pass"}), chat("verbosity", verbosity="low"),
    chat("web_search_options", web_search_options={}), chat("an unknown field", hunter=2),
    text("plain"), text("stream", **STREAM), text("stream_options.include_usage", **USAGE), text("echo", echo=True),
    refused(text("echo, logprobs", echo=True, logprobs=1)), refused(text("prompt_logprobs", prompt_logprobs=1)),
    text("prompt: several", prompt=["def main", "import os"]), text("prompt: tokens", prompt=[284, 85, 346]),
    text("prompt: several of tokens", prompt=[[284, 85], [346]]), text("prompt: empty", prompt=""),
    text("prompt too long", prompt="word " * 3000), text("logprobs", logprobs=2), text("n", n=2, **DRAWN),
    text("best_of", best_of=1),
    text("best_of 2", best_of=2, n=1, temperature=1, seed=1), text("suffix", suffix="pass"), text("stop", stop="e"),
    text("user", user="lea"),
    text("logit_bias", logit_bias={"40": -100}), text("seed", seed=7), text("model: an adapter", model=ADAPTER),
    text("response_format", response_format=JSON_SCHEMA, max_tokens=60), text("model: unknown", model="other"),
    response("plain"), response("stream", **STREAM), response("instructions", instructions="Be short."),
    response("input: messages", input=ASKED), response("text.format json_schema", max_output_tokens=60, text={
        "format": {"type": "json_schema", "name": "host", "schema": SCHEMA, "strict": True}}),
    response("tools, a named one", max_output_tokens=60, tools=[{"type": "function", **FUNCTION}], tool_choice={
        "type": "function", "name": "power"}),
    response("previous_response_id", previous_response_id="resp_1"), response("background", background=True),
    response("store false", store=False), response("metadata", metadata={"a": "b"}),
    response("top_logprobs", top_logprobs=2,
        include=["message.output_text.logprobs"]), response("truncation", truncation="auto"),
    response("reasoning", reasoning={"effort": "low"}), response("user", user="lea"),
    Case("/v1/embeddings", "plain", {"model": MODEL, "input": "def main"}),
    Case("/v1/score", "plain", {"model": MODEL, "text_1": "a", "text_2": "b"}),
    Case("/v1/rerank", "plain", {"model": MODEL, "query": "a", "documents": ["a", "b"]}),
    message("plain"), message("stream", **STREAM), message("system", system="Be short."),
    message("stop_sequences", stop_sequences=["e"]),
    message("tools", tools=[{"name": "power", "input_schema": SCHEMA}]),
    Case("/v1/messages/count_tokens", "plain", {"model": MODEL, "messages": ASKED}),
    Case("/tokenize", "prompt", {"model": MODEL, "prompt": "def main"}),
    Case("/tokenize", "messages", {"model": MODEL, "messages": ASKED}),
    Case("/detokenize", "tokens", {"model": MODEL, "tokens": [284, 85, 346]}),
)  # fmt: skip
