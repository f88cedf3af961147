"""A real language model behind the server, asked by OpenAI's own client."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import psutil
import pytest
import xllamacpp

from tests.support.diagnostics import sentences
from tests.support.model_servers import Process, served
from tests.support.models.smollm2 import NAME, VERSION, gguf
from workloads.serving import gguf as publishing
from workloads.serving import model_outputs
from workloads.serving.model import read
from workloads.serving.runtimes import load_runtime
from workloads.serving.runtimes.llama import LlamaRuntime
from workloads.serving.runtimes.runtime import InvalidPrompt
from workloads.serving.settings import ServingSettings

HELLO = [{"role": "user", "content": "Say hello, and the word hunter2."}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("smollm2")
    (directory / "README.md").write_text("Apache-2.0")
    argv = [str(gguf()), "--name", NAME, "--card", str(directory / "README.md"), "--out", str(directory / "published")]
    assert publishing.main(argv) == 0
    return directory / "published"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Process]:
    with served(model, "parallel=2", "context_tokens=512", "deadline_seconds=300") as process:
        yield process


@pytest.fixture
def client(server: Process) -> openai.OpenAI:
    return to(server)


def to(server: Process) -> openai.OpenAI:
    host, port = server.address
    return openai.OpenAI(base_url=f"http://{host}:{port}/v1", api_key="none", max_retries=0, timeout=300)


@pytest.mark.parametrize("streamed", [False, True])
def test_each_token_has_its_log_probability(client: openai.OpenAI, streamed: bool) -> None:
    asked = {"model": NAME, "max_tokens": 5, "temperature": 0}
    chat = {**asked, "messages": HELLO, "logprobs": True, "top_logprobs": 3}
    text = {**asked, "prompt": "Paris is", "logprobs": 3}
    if streamed:
        events = [*client.chat.completions.create(**chat, stream=True)]
        tokens = [token for event in events for choice in event.choices if choice.logprobs
                  for token in choice.logprobs.content]  # fmt: skip
        written = "".join(choice.delta.content or "" for event in events for choice in event.choices)
        parts = [choice for event in client.completions.create(**text, stream=True) for choice in event.choices]
        offsets = [offset for part in parts if part.logprobs for offset in part.logprobs.text_offset]
        words = [word for part in parts if part.logprobs for word in part.logprobs.tokens]
        whole = "".join(part.text for part in parts)
    else:
        [choice] = client.chat.completions.create(**chat).choices
        tokens, written = choice.logprobs.content, choice.message.content
        [part] = client.completions.create(**text).choices
        offsets, words, whole = part.logprobs.text_offset, part.logprobs.tokens, part.text
        assert part.logprobs.token_logprobs == [max(top.values()) for top in part.logprobs.top_logprobs]
    assert "".join(token.token for token in tokens) == written and len(tokens) == 5
    for token in tokens:
        assert bytes(token.bytes).decode() == token.token
        chances = [each.logprob for each in token.top_logprobs]
        assert len(chances) == 3 and chances == sorted(chances, reverse=True) and token.logprob == chances[0] <= 0
    assert "".join(words) == whole and offsets == [len("".join(words[:n])) for n in range(5)]


def test_log_probabilities_may_come_without_alternatives(client: openai.OpenAI) -> None:
    asked = {"model": NAME, "messages": HELLO, "max_tokens": 2, "temperature": 0}  # a sampled emoji has no whole token
    answer = client.chat.completions.create(**asked, logprobs=True)
    tokens = answer.choices[0].logprobs.content
    assert [len(token.top_logprobs) for token in tokens] == [0, 0] and all(token.logprob <= 0 for token in tokens)


def test_an_answer_has_the_schema_that_was_asked_for(client: openai.OpenAI) -> None:
    """
    The small model would write prose; a grammar lets it write the schema alone.
    """
    shape = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}, "people": {"type": "integer"}},
             "required": ["city", "people"], "additionalProperties": False}  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": shape, "strict": True}}
    asked = {"model": NAME, "max_tokens": 64, "temperature": 0, "messages": HELLO}
    answer = client.chat.completions.create(**asked, response_format=form)
    found = json.loads(answer.choices[0].message.content)
    assert found.keys() == {"city", "people"} and found["city"] in ("Paris", "Rome") and type(found["people"]) is int
    plain = client.chat.completions.create(**asked, response_format={"type": "json_object"})
    assert plain.choices[0].message.content.lstrip().startswith("{"), "the model may fill its tokens before the end"


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ({"type": "integer", "exclusiveMinimum": 5, "maximum": 7}, lambda value: value in (6, 7)),
        ({"type": "integer", "maximum": -7}, lambda value: type(value) is int and value <= -7),
        ({"type": "string", "enum": [1, "a"]}, lambda value: value == "a"),
        ({"type": "array", "minItems": 2, "maxItems": 2, "items": {"const": 1}}, lambda value: value == [1, 1]),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}}, lambda value: value == [1]),
        ({"$ref": "#/$defs/a_b", "$defs": {"a b": {"const": 1}, "a_b": {"const": 2}}}, lambda value: value == 2),
    ],
)  # fmt: skip
def test_the_grammar_enforces_what_is_taken(
    client: openai.OpenAI, shape: dict[str, object], fits: Callable[[object], bool]
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": shape}}
    for seed in range(3):
        answer = client.chat.completions.create(
            model=NAME, max_tokens=64, temperature=2, seed=seed, messages=HELLO, response_format=form
        )
        [choice] = answer.choices
        if choice.finish_reason == "stop":
            assert fits(json.loads(choice.message.content))


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "nonsense"}, {"$ref": "https://example.org/x.json"}, {"$ref": "#"}, {"allOf": [{"$ref": "#"}]},
        {"type": "string", "minLength": 10**9, "maxLength": 10**9}, {"$ref": "#/nothing"},
        {"type": "integer", "minimum": 5, "maximum": 3}, {"type": "integer", "multipleOf": 1000},
    ],
)  # fmt: skip
def test_a_schema_that_makes_no_grammar_is_refused(client: openai.OpenAI, shape: dict[str, object]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": shape}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=NAME, max_tokens=4, messages=HELLO, response_format=form)
    assert refused.value.param == "response_format"
    assert client.chat.completions.create(model=NAME, messages=HELLO, max_tokens=1).choices, "it still answers"


def test_a_chat_is_answered(client: openai.OpenAI, model: Path) -> None:
    answer = client.chat.completions.create(model=NAME, messages=HELLO, max_tokens=6, temperature=0)

    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6
    assert answer.system_fingerprint == read(model).version


def test_the_scores_of_fixed_prompts_are_the_same_each_time(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for _ in range(2):
        assert model_outputs.main([str(model)]) == 0
        printed.append(json.loads(capsys.readouterr().out)["outputs"])

    assert printed[0].keys() == {*model_outputs.PROMPTS}
    for first, second in zip(printed[0].values(), printed[1].values(), strict=True):
        assert first == pytest.approx(second, rel=1e-3)
        assert 0 > first[0] > first[-1] and len(first) == model_outputs.TOKENS


def test_a_next_token_that_is_a_part_of_a_character_has_its_scores(model: Path) -> None:
    runtime = load_runtime(model, ServingSettings(parallel=1, context_tokens=64, threads=1))
    assert isinstance(runtime, LlamaRuntime)
    scores = runtime.next_token_log_probabilities("你好" * 4, 3)
    assert len(scores) == 3 and -0.5 < scores[0] < 0, "the first two of three bytes are likely"


def test_a_character_of_several_tokens_has_one_log_probability(client: openai.OpenAI) -> None:
    """
    llama.cpp gives the character the log-probability of its last token.
    """
    answer = client.completions.create(model=NAME, prompt="你好" * 4, max_tokens=4, temperature=0, logprobs=1)
    [choice] = answer.choices
    assert choice.text == "！！" == "".join(choice.logprobs.tokens)
    assert (len(choice.logprobs.tokens), answer.usage.completion_tokens) == (2, 4)


def test_what_is_streamed_is_what_is_answered_whole(client: openai.OpenAI) -> None:
    asked = {"model": NAME, "messages": HELLO, "max_completion_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    came, text, usage = [], "", None
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        came.append(time.monotonic())
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        usage = chunk.usage or usage

    assert text == whole.choices[0].message.content
    assert usage == whole.usage
    assert came[-1] - came[0] > 0.05, "it came as it was written"


def test_a_seed_decides_what_chance_gives(client: openai.OpenAI) -> None:
    def answer(seed: int) -> str:
        asked = {"model": NAME, "messages": HELLO, "max_tokens": 24, "temperature": 1.5}
        return client.chat.completions.create(**asked, seed=seed).choices[0].message.content

    assert answer(7) == answer(7) != answer(8)


def test_a_word_ends_it(client: openai.OpenAI) -> None:
    asked = {"model": NAME, "prompt": "One, two, three, four,", "max_tokens": 40, "temperature": 0}
    whole, ended = client.completions.create(**asked), client.completions.create(**asked, stop=", seven")

    assert ", seven" in whole.choices[0].text
    assert ended.choices[0].text == whole.choices[0].text.partition(", seven")[0]
    assert ended.choices[0].finish_reason == "stop"


def test_a_prompt_that_is_too_long_is_reported(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="a prompt and its answer have at most 512") as refused:
        client.completions.create(model=NAME, prompt="word " * 600)
    assert refused.value.code == "context_length_exceeded"


def test_what_llama_cpp_does_not_take_is_the_clients_to_mend(client: openai.OpenAI) -> None:
    answer = {"role": "assistant", "content": "hunter2"}
    with pytest.raises(openai.BadRequestError, match="messages: Cannot have 2 or more assistant messages"):
        client.chat.completions.create(model=NAME, messages=[*HELLO, answer, answer])


def test_a_template_that_refuses_is_reported(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def params() -> xllamacpp.CommonParams:
        made = original()
        refuse = "{% if message.role == 'system' %}{{ raise_exception('users only') }}{% endif %}"
        made.chat_template = "{% for message in messages %}" + refuse + "{{ message.content }}{% endfor %}"
        return made

    original = xllamacpp.CommonParams
    monkeypatch.setattr(xllamacpp, "CommonParams", params)
    runtime = load_runtime(model, ServingSettings(parallel=1, context_tokens=64, threads=1))
    assert isinstance(runtime, LlamaRuntime)
    with pytest.raises(InvalidPrompt, match="the model's template makes no prompt of it"):
        runtime.generate({"messages": [{"role": "system", "content": "x"}], "max_tokens": 1}, lambda piece: True)


def test_two_are_written_at_once_and_who_leaves_makes_room(client: openai.OpenAI) -> None:
    streams = [
        client.chat.completions.create(model=NAME, messages=HELLO, max_tokens=400, stream=True) for _ in range(2)
    ]
    for stream in streams:  # the second begins before the first has ended: both have a place
        next(iter(stream))
    for stream in streams:
        stream.close()
    assert client.chat.completions.create(model=NAME, messages=HELLO, max_tokens=1).usage.completion_tokens == 1


def test_llama_cpp_has_no_door_past_our_keys(server: Process) -> None:
    """Its library opens an HTTP server of its own, which asks for no key unless one is configured."""
    process = psutil.Process(server.process.pid)
    listening = {each.laddr for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN}
    assert {(each.ip, each.port) for each in listening} == {server.address}
    doors = [Path(each.laddr) for each in process.net_connections("unix") if str(each.laddr).endswith("door.sock")]
    assert not any(door.exists() for door in doors)


def test_asked_to_stop_it_ends_a_stream_and_no_payload_is_logged(
    model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(model, "context_tokens=512", "drain_seconds=0", "stop_seconds=120") as server:
        asked = {"model": NAME, "messages": HELLO, "max_tokens": 40, "temperature": 0, "stream": True}
        stream = to(server).chat.completions.create(**asked)
        chunks = [next(iter(stream))]
        ending = threading.Thread(target=server.end)
        ending.start()
        chunks += list(stream)
        ending.join(120)

    assert chunks[-1].choices[0].finish_reason
    assert server.process.returncode == 0
    assert [line["event"] for line in server.log] == ["draining", "request", "stopped"]
    assert "hunter2" not in str(server.log)
    assert "hunter2" not in capfd.readouterr().err


def test_a_card_goes_with_the_model(model: Path) -> None:
    found = read(model)
    assert sorted(found.files) == ["card.md", "model.gguf"]
    assert found.runtime == "llama.cpp"


def test_without_a_card_the_version_is_that_of_the_file(tmp_path: Path) -> None:
    assert publishing.publish_gguf(gguf(), NAME, None, tmp_path / "m").version == VERSION
    runtime = load_runtime(tmp_path / "m", ServingSettings(parallel=1, context_tokens=64, threads=1))
    assert isinstance(runtime, LlamaRuntime)


def test_what_is_no_gguf_is_not_published(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.gguf").write_bytes(b"weights")
    for file, message in (
        ("m.gguf", "the header is invalid: it does not begin with GGUF; a GGUF file"),
        ("none.gguf", "the file does not exist. Correct the path"),
        ("", "it is no regular file. Correct the path"),
    ):
        assert publishing.main([str(tmp_path / file), "--name", "m", "--out", str(tmp_path / "out")]) == 2
        assert f"{tmp_path / file}: " in (answer := capfd.readouterr().err)
        assert message in sentences(answer)
    assert not (tmp_path / "out").exists()
    assert publishing.main([str(tmp_path / "m.gguf"), "--name", "a b", "--out", str(tmp_path / "out")]) == 2
    assert capfd.readouterr().err.startswith(
        "error: --name: 'a b' is not a name\n  expected: letters, digits and . _ -"
    )
