"""Conversations: read, tokenised by a chat template, packed, and learned from without a look at their neighbours."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DeepseekV3Config, LlamaForCausalLM

from tests.support.chat_tokenizer import FORGETS_REASONING, LLAMA, PLAIN, bytes_tokenizer
from tests.support.chat_tokenizer import write_rows as write
from tests.support.training_runs import config as training_config
from tests.support.training_runs import read_metrics as metrics
from workloads.errors import UserError
from workloads.training import conversations, data, row_files
from workloads.training.config import Conversations, Text
from workloads.training.conversations import NOT_LEARNED, Conversation, Tokens, pack, tokenize
from workloads.training.models import LanguageModel
from workloads.training.run import train

QUESTION, ANSWER = {"role": "user", "content": "two and two?"}, {"role": "assistant", "content": "four"}
AGAIN, SECOND = {"role": "user", "content": "sure?"}, {"role": "assistant", "content": "yes", "reasoning": "hm"}


def learned_text(tokenizer: Any, each: Tokens) -> str:
    return str(tokenizer.decode([token for token, learned in zip(*each, strict=True) if learned]))


def config(path: str, tokenizer: Path, **values: Any) -> Conversations:
    return Conversations(
        path=path, tokenizer=str(tokenizer), **{"sequence_length": 64, "held_out": 0.0, "packed": True, **values}
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    bytes_tokenizer().save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_every_answer_is_learned_with_its_end_and_nothing_else() -> None:
    tokenizer = bytes_tokenizer()
    [whole] = tokenize(tokenizer, Conversation([QUESTION, ANSWER, AGAIN, SECOND], None))

    assert tokenizer.decode(whole.tokens) == (
        "<|user|>two and two?<|end|><|assistant|>four<|end|><|user|>sure?<|end|><|assistant|>yes<|end|>"
    )
    assert learned_text(tokenizer, whole) == "four<|end|>yes<|end|>"


def test_an_answer_of_weight_0_is_context_alone() -> None:
    """
    Before, a model learned the answers that their author had marked as wrong.
    """
    [whole] = tokenize(bytes_tokenizer(), Conversation([QUESTION, {**ANSWER, "weight": 0}, AGAIN, SECOND], None))
    assert learned_text(bytes_tokenizer(), whole) == "yes<|end|>"
    assert "four" in bytes_tokenizer().decode(whole.tokens)


def test_a_greeting_before_the_first_question_is_context_alone() -> None:
    """
    Before, one such conversation ended the run: no chat template takes an empty conversation, and no server either.
    """
    left_out: Counter[str] = Counter()
    greeting = {"role": "assistant", "content": "Hello"}
    [whole] = tokenize(bytes_tokenizer(), Conversation([greeting, QUESTION, ANSWER], None), left_out=left_out)
    assert learned_text(bytes_tokenizer(), whole) == "four<|end|>"
    assert "Hello" in bytes_tokenizer().decode(whole.tokens)
    assert left_out == {"answers before the first question, which no prompt precedes": 1}


def test_a_template_that_forgets_earlier_reasoning_gives_an_example_for_each_answer() -> None:
    tokenizer = bytes_tokenizer(FORGETS_REASONING)
    thinking = {**ANSWER, "reasoning": "count"}
    first, second = tokenize(tokenizer, Conversation([QUESTION, thinking, AGAIN, SECOND], None))

    assert learned_text(tokenizer, first) == "(count)four<|end|>"
    assert learned_text(tokenizer, second) == "(hm)yes<|end|>"
    assert "count" not in tokenizer.decode(second.tokens)


def test_a_template_that_cannot_continue_its_prompt_is_refused() -> None:
    tokenizer = bytes_tokenizer(PLAIN.replace("{% if add", "{{ messages | length }}{% if add"))
    with pytest.raises(UserError, match="does not continue its prompt"):
        tokenize(tokenizer, Conversation([QUESTION, ANSWER], None))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(2, 17), min_size=1, max_size=40))
def test_packing_keeps_each_conversation_whole_and_once(sizes: list[int]) -> None:
    length = 16
    given = [
        Tokens([100 * n + i for i in range(size)], [i % 3 != 0 for i in range(size)]) for n, size in enumerate(sizes)
    ]
    x, y = pack(given, length)
    found = []
    for (tokens, positions), answers in zip(x.tolist(), y.tolist(), strict=True):
        begins = [n for n, position in enumerate(positions) if position == 0] + [length]
        for begin, end in pairwise(begins):
            if any(answer != NOT_LEARNED for answer in answers[begin:end]) or end - begin == 1 or tokens[begin]:
                assert positions[begin:end] == list(range(end - begin))
                found.append((tokens[begin:end], answers[begin:end]))
    wanted = [
        (each.tokens[:-1], [t if ok else NOT_LEARNED for t, ok in zip(each.tokens[1:], each.learned[1:], strict=True)])
        for each in given
    ]
    assert sorted(pair for pair in found if pair in wanted) == sorted(wanted)
    least = -(-sum(size - 1 for size in sizes) // length)
    assert least <= len(x) <= 11 / 9 * least + 4


DEEPSEEK = DeepseekV3Config(
    vocab_size=300, hidden_size=32, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=2,
    first_k_dense_replace=1, num_attention_heads=4, num_key_value_heads=4, n_routed_experts=4, n_shared_experts=1,
    num_experts_per_tok=2, n_group=1, topk_group=1, q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8,
    qk_rope_head_dim=8, v_head_dim=8, max_position_embeddings=64,
)  # fmt: skip


@pytest.mark.parametrize("shape", [LLAMA, DEEPSEEK], ids=["llama", "deepseek-v3"])
def test_conversations_in_one_row_do_not_see_each_other(shape: Any) -> None:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = LanguageModel(AutoModelForCausalLM.from_config(shape).float())
    given = [Tokens(torch.randint(0, 300, (size,)).tolist(), [True] * size) for size in (9, 8, 7, 5)]
    together = pack(given, 16)
    apart = [pack([each], len(each.tokens) - 1) for each in given]
    assert len(together.x) == 2

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(x.long()).flatten(0, 1), y.long().flatten(), reduction="sum")

    with torch.no_grad():
        alone = sum(loss(*each) for each in apart)
        assert torch.allclose(loss(*together), alone, rtol=1e-5)
        blurred = loss(together.x[:, 0], together.y_NS)  # without positions, each sees its neighbour
        assert not torch.allclose(blurred, alone, rtol=1e-3)


def test_json_lines_and_parquet_give_the_same_examples(saved: Path, tmp_path: Path) -> None:
    rows = [{"messages": [{**QUESTION, "content": f"{n}?"}, {**ANSWER, "content": str(n)}]} for n in range(9)]
    lines = data.load(config(write(tmp_path / "rows.jsonl", rows), saved))
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert data.load(config(str(tmp_path / "rows.parquet"), saved)).digest() == lines.digest()


def test_long_rows_of_parquet_are_malformed_and_others_are_read(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal texts take no room in a file: 2,000 of 1 MiB were 47 kB, and 6 GB in memory."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setattr(row_files, "LINE_BYTES", 4096)
    batches: list[int] = []
    read = parquet.ParquetFile.iter_batches
    monkeypatch.setattr(
        parquet.ParquetFile, "iter_batches",
        lambda self, batch_size: (batches.append(batch_size), read(self, batch_size=batch_size))[1],
    )  # fmt: skip
    rows = [{"messages": [{**QUESTION, "content": f"{n}?"}, ANSWER]} for n in range(40)]
    long = {"messages": [QUESTION, {**ANSWER, "content": "a" * 5000}]}
    for several in (rows, [*rows, long]):
        parquet.write_table(pyarrow.Table.from_pylist(several), tmp_path / "rows.parquet")
        if several is rows:
            assert len(data.load(config(str(tmp_path / "rows.parquet"), saved))) > 0
    with pytest.raises(UserError, match=r"rows\.parquet, row 41: the row has more than 0 MiB"):
        data.load(config(str(tmp_path / "rows.parquet"), saved))
    assert set(batches) == {row_files.ROWS_AT_ONCE}

    monkeypatch.setattr(row_files, "BATCH_BYTES", 1)
    with pytest.raises(UserError):
        data.load(config(str(tmp_path / "rows.parquet"), saved))
    assert batches[-1] == 1


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../other.jsonl", "a/../../b", "", "."])
def test_a_pattern_selects_files_below_the_directory_alone(saved: Path, tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match="below the directory"):
        config(str(tmp_path), saved, pattern=pattern)


def test_texts_of_a_content_are_one_text_as_in_requests(saved: Path, tmp_path: Path) -> None:
    """
    The format of OpenAI's API. Before, templates that print a content as it is wrote a list of Python.
    """
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "text"}]
    rows = [{"messages": [{**QUESTION, "content": content}, ANSWER]} for content in (parts, "one text")]
    texts, text = (
        data.load(config(write(tmp_path / f"{number}.jsonl", [row]), saved)) for number, row in enumerate(rows)
    )
    assert texts.x.tolist() == text.x.tolist()


def test_the_share_that_is_held_out_does_not_depend_on_other_rows(saved: Path, tmp_path: Path) -> None:
    rows = [{"messages": [{**QUESTION, "content": f"{n}?"}, ANSWER]} for n in range(60)]
    held = config(write(tmp_path / "all.jsonl", rows), saved, sequence_length=16, held_out=0.2)
    fewer = config(write(tmp_path / "few.jsonl", rows[::2]), saved, sequence_length=16, held_out=0.2)
    parts = [data.load(held), data.held_out(held), data.load(fewer), data.held_out(fewer)]
    trained, kept, trained_fewer, kept_fewer = ({str(row) for row in part.x[:, 0].tolist()} for part in parts)

    assert 0 < len(kept) < len(trained) and not trained & kept
    assert kept_fewer <= kept and trained_fewer <= trained


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ['{"messages": [', {"messages": [QUESTION, ANSWER]}],
            "rows.jsonl:1: the line is no JSON: expecting value in column 15;",
        ),
        (
            [{"messages": [QUESTION, ANSWER]}, '{"messages": "a\tb"}'],
            "rows.jsonl:2: the line is no JSON: invalid control character in column 16;",
        ),
        ([], "data.path: .*/rows.jsonl is empty: it has no row; objects such as"),
        (
            [{"messages": [QUESTION, ANSWER]}, {"messages": [QUESTION, {**ANSWER, "content": None}]}],
            "data.path: .*/rows.jsonl:2: message 2 has no content; .* Write its content",
        ),
        (
            [{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}],
            "rows.jsonl:1: the row has the form of ShareGPT: conversations with from and value; .* "
            "Write messages, each with role user or assistant and its content",
        ),
        (
            [{"messages": [{**QUESTION, "role": "human"}, {**ANSWER, "role": "bot"}]}],
            "message 1 has the role human, which chat templates leave out; .* Write one of assistant, developer,",
        ),
        (
            [{"messages": [QUESTION, ANSWER, AGAIN, {**SECOND, "role": "assistent"}]}],
            "rows.jsonl:1: message 4 has the role assistent, which chat templates leave out",
        ),
        ([{"messages": [QUESTION, {**ANSWER, "content": ""}]}], "rows.jsonl:1: message 2 is an empty answer"),
        ([{"messages": [QUESTION, {**ANSWER, "content": [{"type": "text", "text": ""}]}]}], "2 is an empty answer"),
        (
            [{"messages": [{**QUESTION, "content": [{"type": "image_url", "image_url": {"url": "a"}}]}, ANSWER]}],
            "message 1 has a content that is neither a text nor a list of texts; .* images are not learned",
        ),
        ([{"messages": [QUESTION, {**ANSWER, "content": 4}]}], "message 2 has a content that is neither a text nor"),
        ([{"messages": [QUESTION, ANSWER], "tools": "[]"}], "tools is a text; .* Write a list of tools"),
        ([{"messages": [QUESTION, {**ANSWER, "content": "a\ud800"}]}], "rows.jsonl:1: the line has one half of a UTF-"),
        ([{"messages": [{**QUESTION, "role": ["user"]}, ANSWER]}], "rows.jsonl:1: message 1 has the role"),
        (
            [{"messages": [QUESTION, {**ANSWER, "weight": 0.5}]}, {"messages": [QUESTION, {**ANSWER, "weight": True}]}],
            "message 2 has the weight 0.5; .* Write 1 for an answer that is learned, and 0 for one that is not",
        ),
        ([{"messages": [{**QUESTION, "weight": 1}, ANSWER]}], "message 1 has the weight 1 and the role user"),
        (
            [{"messages": [QUESTION, {**ANSWER, "weight": 0}]}],
            "no conversation in .* fits 64 tokens; 1 conversations whose answers have weight 0",
        ),
        (
            [{"messages": [{"role": "assistant", "content": "Hello"}, QUESTION]}],
            "1 answers before the first question, which no prompt precedes, 1 conversations without an answer",
        ),
        ([{"messages": [QUESTION, {**ANSWER, "train": False}]}], "message 2 has train, which is not read; .* weight 0"),
        (
            [{"messages": [QUESTION, {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}]}],
            "message 2 has function_call, which is not read; .* Write tool_calls",
        ),
        ([{"messages": [QUESTION, ANSWER], "functions": [{"name": "f"}]}], "the row has functions, which is not read"),
        (
            [{"messages": [QUESTION, ANSWER], "chat_template_kwargs": {"enable_thinking": False}}],
            "the row has chat_template_kwargs, which is not read; .* the prompt that a server makes without it",
        ),
        ([{"text": "x"}], "rows.jsonl:1: the row has no list of messages"),
        ([{"messages": [QUESTION, ANSWER]}, {"messages": [QUESTION]}], "rows.jsonl:2: the conversation has no answer"),
        (
            [{"messages": [{**QUESTION, "content": "x" * 99}, ANSWER]}],
            "no conversation in .* fits 64 tokens; 1 conversations longer than sequence_length .106 tokens.. Set 106",
        ),
        (
            [{"messages": [{**QUESTION, "content": "x" * n}, ANSWER]} for n in (60, 99, 70)],
            "3 conversations longer than sequence_length .67 to 106 tokens.. Set 67 for the shortest or 106 for all",
        ),
    ],
)
def test_malformed_conversations_are_named(rows: list[Any], message: str, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        data.load(config(write(tmp_path / "rows.jsonl", rows), saved))


def test_all_problems_of_a_file_are_named_at_once_up_to_a_limit(saved: Path, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": f"bot{n}"}]} for n in range(row_files.SHOWN_PROBLEMS + 4)]
    with pytest.raises(UserError) as caught:
        data.load(config(write(tmp_path / "rows.jsonl", rows), saved))
    assert len(caught.value.diagnostics) == row_files.SHOWN_PROBLEMS


def test_equal_problems_are_counted_and_named_once(saved: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"messages": [QUESTION, ANSWER]}, *[{"text": "x"}] * 9])
    with pytest.raises(UserError) as caught:
        data.load(config(path, saved))
    [problem] = caught.value.diagnostics
    assert problem.problem == f"{path}:2: the row has no list of messages with a role each"
    assert problem.note == "8 more rows have the same problem"


def test_lines_in_another_encoding_are_named(saved: Path, tmp_path: Path) -> None:
    row = json.dumps({"messages": [{**QUESTION, "content": "für"}, ANSWER]}, ensure_ascii=False)
    plain = json.dumps({"messages": [QUESTION, ANSWER]})
    (tmp_path / "rows.jsonl").write_bytes(f"{plain}\n{plain}\n{row}\n".encode("latin-1"))
    with pytest.raises(UserError, match="rows.jsonl:3: the line is no UTF-8; .* Convert the file, .* `iconv "):
        data.load(config(str(tmp_path / "rows.jsonl"), saved))


def test_a_template_that_refuses_a_conversation_names_its_line(tmp_path: Path) -> None:
    bytes_tokenizer("{{ raise_exception('no system') if messages[0].role == 'system' }}" + PLAIN).save_pretrained(
        tmp_path / "strict"
    )
    rows = [{"messages": [QUESTION, ANSWER]}, {"messages": [{**QUESTION, "role": "system"}, ANSWER]}]
    with pytest.raises(UserError, match="rows.jsonl:2: the chat template refuses a conversation: no system"):
        data.load(config(write(tmp_path / "rows.jsonl", rows), tmp_path / "strict"))


def test_data_that_is_held_out_altogether_is_refused(saved: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"messages": [QUESTION, ANSWER]}])
    with pytest.raises(UserError, match="data.held_out: no conversation in .* is trained on, since 1 are held out"):
        data.load(config(path, saved, held_out=0.999))


def test_a_batch_of_more_than_the_packed_conversations_says_that_they_share_examples(
    saved: Path, tmp_path: Path
) -> None:
    LlamaForCausalLM(LLAMA).save_pretrained(saved)
    path = write(tmp_path / "rows.jsonl", [{"messages": [QUESTION, ANSWER]}] * 2)
    changes = [
        f"model={json.dumps({'kind': 'hugging-face', 'path': str(saved)})}", "global_batch=4", "accumulate=1",
        f"data={config(path, saved).model_dump_json()}",
    ]  # fmt: skip
    with pytest.raises(UserError, match="at most 1 examples; several conversations share one example of 64 tokens"):
        train(training_config("lora", *changes), tmp_path / "out", {})


def test_conversations_that_are_left_out_are_counted_printed_and_recorded(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    LlamaForCausalLM(LLAMA).save_pretrained(saved)
    thinking = {"role": "assistant", "content": "four", "reasoning": "count", "mood": "calm"}
    rows = [{"messages": [{**QUESTION, "content": "x" * n}, thinking if n % 2 else ANSWER]} for n in range(40, 72)]
    changes = [
        f"model={json.dumps({'kind': 'hugging-face', 'path': str(saved)})}", "steps=1", "global_batch=4",
        "accumulate=1",
        f"data={config(write(tmp_path / 'rows.jsonl', rows), saved, held_out=0.2).model_dump_json()}",
    ]  # fmt: skip
    train(training_config("lora", *changes), tmp_path / "out", {})
    # user, x, end, assistant, four letters, end: 8 marks and letters beside x, of which the last is no input
    expected = {
        "conversations longer than sequence_length": 72 - 58,
        "thoughts that the chat template does not write": 16,
    }
    [start] = [line for line in metrics(tmp_path / "out") if line.get("event") == "start"]
    assert start["left_out"] == expected
    assert json.loads((tmp_path / "out" / "lineage.json").read_text())["data"][0]["left_out"] == expected
    printed = capsys.readouterr().out
    left_out = "left out of the data: 14 conversations longer than sequence_length (65 to 78 tokens), 16 thoughts"
    assert left_out in printed
    assert "keys of messages that no chat template reads: mood" in printed
    [numbers] = re.findall(r"^data: (\d+) examples to train on, (\d+) held out$", printed, re.MULTILINE)
    assert sum(map(int, numbers)) == 58 - 40


def test_bytes_of_texts_that_are_left_out_are_counted(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"a" * 70 + b"\xff" + b"b" * 60)
    text = Text(path=str(tmp_path / "text.txt"), sequence_length=32, bytes_at_most=100)
    found = data.load(text.model_copy(update={"tokenizer": str(saved)}))
    assert found.left_out == {
        "bytes beyond bytes_at_most": 31, "tokens after the last whole example": 102 - 1 - 96,
        "bytes that are no UTF-8": 1,
    }  # fmt: skip
    assert data.load(text).left_out == {"bytes beyond bytes_at_most": 31, "bytes after the last whole example": 3}


def test_conversations_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text('\n{"messages": [{"role": "user", "content": "Which ward?"}]}\n' * 9)
    with pytest.raises(UserError, match=r"has rows with messages, and data.kind is text.*Set data.kind=conversations"):
        data.load(Text(path=str(path), sequence_length=32))


LINE_FEED = PLAIN.replace("<|end|>", "<|end|>\n")


def test_the_line_feed_after_an_answer_is_neither_learned_nor_counted() -> None:
    tokenizer = bytes_tokenizer(LINE_FEED)
    [whole] = tokenize(tokenizer, Conversation([QUESTION, ANSWER, AGAIN, SECOND], None))
    assert learned_text(tokenizer, whole) == "four<|end|>yes<|end|>"
    assert tokenizer.decode(whole.tokens).endswith("yes<|end|>") and "four<|end|>\n<|user|>" in tokenizer.decode(
        whole.tokens
    )
    _, y = pack([whole], 80)
    assert int(data.count_answers(y)) == len("four") + len("yes") + 2


@pytest.mark.parametrize("end", ["\n", "<|system|>\n", "\n<|system|>", "<|system|>\n<|system|>"])
def test_an_answer_ends_where_the_model_ends_by_its_configuration(end: str, tmp_path: Path) -> None:
    """Phi-3.5's template writes ``<|end|>``, a line feed and ``<|endoftext|>``, of which servers need the first."""
    tokenizer = bytes_tokenizer(PLAIN.replace("{% endfor %}", end + "{% endfor %}", 1))
    tokenizer.save_pretrained(tmp_path)
    stop = {"eos_token_id": [tokenizer.convert_tokens_to_ids("<|end|>")]}
    (tmp_path / "generation_config.json").write_text(json.dumps(stop))
    loaded = conversations.load_chat_tokenizer(str(tmp_path))
    [whole] = tokenize(loaded, Conversation([QUESTION, ANSWER], None))
    assert learned_text(loaded, whole) == "four<|end|>"


def test_an_answer_without_an_end_gets_one() -> None:
    tokenizer = bytes_tokenizer(PLAIN.replace("<|end|>", ""))
    tokenizer.add_special_tokens({"eos_token": "<|end|>"})
    [whole] = tokenize(tokenizer, Conversation([QUESTION, ANSWER], None))
    assert learned_text(tokenizer, whole) == "four<|end|>"


def test_a_tokenizer_without_a_chat_template_is_refused(saved: Path, tmp_path: Path) -> None:
    tokenizer = bytes_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "plain")
    with pytest.raises(UserError, match="no chat template"):
        data.load(config(write(tmp_path / "rows.jsonl", [{"messages": [QUESTION, ANSWER]}]), tmp_path / "plain"))


def test_a_run_learns_the_answers_however_its_batch_is_divided(saved: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    LlamaForCausalLM(LLAMA).save_pretrained(saved)
    rows = [
        {"messages": [{**QUESTION, "content": "x" * n}, {**ANSWER, "content": "y" * (n % 7 + 1)}]} for n in range(40)
    ]
    rows_config = config(write(tmp_path / "rows.jsonl", rows), saved, sequence_length=64)
    changes = [
        f"model={json.dumps({'kind': 'hugging-face', 'path': str(saved)})}", f"data={rows_config.model_dump_json()}",
        "optimizer.learning_rate=0.01", "steps=6", "global_batch=8", "schedule.kind=constant", "report_every_steps=1",
    ]  # fmt: skip
    for name, parts in (("whole", 1), ("divided", 4)):
        train(training_config("lora", *changes, f"accumulate={parts}"), tmp_path / name, {}, None)
    whole, divided = (
        [line["loss"] for line in metrics(tmp_path / name) if "loss" in line and "event" not in line]
        for name in ("whole", "divided")
    )

    assert whole[-1] < 0.8 * whole[0]
    assert whole == pytest.approx(divided, rel=1e-4)


def test_texts_share_batches_with_conversations_and_give_the_same_loss(saved: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LanguageModel(LlamaForCausalLM(LLAMA).float())
    (tmp_path / "text.txt").write_bytes(bytes(range(200)) * 3)
    texts = data.load(Text(path=str(tmp_path / "text.txt"), sequence_length=64))
    talks = data.load(config(write(tmp_path / "rows.jsonl", [{"messages": [QUESTION, ANSWER]}] * 3), saved))
    both = data.concatenate([talks, texts])

    assert data.example_shape(talks) == data.example_shape(texts) == (64,)
    assert both.x.shape == (len(talks) + len(texts), 2, 64)
    x, y = both.take(torch.arange(len(talks), len(both)))
    plain_x, plain_y = texts.take(torch.arange(len(texts)))
    with torch.no_grad():
        assert torch.equal(y, plain_y)
        assert torch.allclose(model(x), model(plain_x), atol=1e-5)


def test_a_model_of_texts_learns_conversations_and_replays_its_texts(saved: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    LlamaForCausalLM(LLAMA).save_pretrained(saved)
    (tmp_path / "text.txt").write_text("one and one is two. " * 200)
    text = {"kind": "text", "path": str(tmp_path / "text.txt"), "tokenizer": str(saved), "sequence_length": 64,
            "held_out": 0.2}  # fmt: skip
    quick = (f"model={json.dumps({'kind': 'hugging-face', 'path': str(saved)})}", "optimizer.learning_rate=0.01",
             "global_batch=4", "accumulate=1", "schedule.kind=constant")  # fmt: skip
    train(training_config("lora", *quick, f"data={json.dumps(text)}", "steps=20"), tmp_path / "parent", {})
    rows = [{"messages": [{**QUESTION, "content": f"{n} and two?"}, ANSWER]} for n in range(40)]
    talks = config(write(tmp_path / "rows.jsonl", rows), saved, held_out=0.3).model_dump_json()
    tuning = json.dumps({"parent": str(tmp_path / "parent"), "replay": 0.5, "may_lose": 0.1})
    train(training_config("lora", *quick, f"data={talks}", f"fine_tuning={tuning}", "steps=40"), tmp_path / "child", {})

    new, old = json.loads((tmp_path / "child" / "lineage.json").read_text())["scores"]
    assert new["loss"] < 0.5 * new["parent"]["loss"]
    assert old["accuracy"] >= old["parent"]["accuracy"] - 0.1
    assert (new["answers"] > 0, old["answers"] % 64) == (True, 0)
