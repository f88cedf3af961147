"""Each family's chat template: answers follow the prompt that a server makes, with their thoughts, calls and ends."""

import json
import re
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat_templates import FAMILIES, conversations, tokenizer
from workloads.errors import UserError
from workloads.training import chat_template
from workloads.training.conversations import CALLS, THOUGHT, Conversation, Tokens, tokenize

ROOT = Path(__file__).parents[3]
USER = {"role": "user", "content": "two and two?"}
CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 2}'}}]}


def learned_texts(given: Any, examples: list[Tokens]) -> list[tuple[str, str]]:
    """Return each learned text with the text before it."""
    found = []
    for tokens, learned in examples:
        place = 0
        for is_learned, group in groupby(learned):
            size = len(list(group))
            if is_learned:
                before = tokens[:place]
                found.append((given.decode(before), given.decode(tokens[place : place + size])))
            place += size
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_every_answer_follows_its_prompt_and_has_its_thought_its_calls_and_its_end(family: str) -> None:
    chosen, given = FAMILIES[family], tokenizer(family)
    answers = dropped = 0
    for name, row in conversations(family):
        left_out: Counter[str] = Counter()
        messages = row["messages"]
        found = learned_texts(given, tokenize(given, Conversation(messages, row.get("tools")), left_out=left_out))
        wanted = [each for each in messages if each["role"] == "assistant"]
        assert len(found) == len(wanted), name
        for (before, text), message in zip(found, wanted, strict=True):
            thought = chat_template.thought_of(message)
            content = message.get("content", "").rpartition("</think>")[2].strip()
            assert content in text and text.endswith(chosen.end if chosen.end in text else "|>"), name
            assert not chosen.thoughts or thought in text, name
            assert not message.get("tool_calls") or '"gpu-' in text or ">gpu-" in text, name
            assert not any(each["content"] in text for each in messages if each["role"] in ("user", "system")), name
            assert content not in before.rpartition("question")[2] or not content, name
        if "call" not in name:
            prompt = given.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
            question = messages[-2]["content"]
            assert found[-1][0].rpartition(question)[2] == prompt.rpartition(question)[2], name
            assert found[-1][0] == prompt or "thought" in name, name
        answers += len(found)
        dropped += left_out[THOUGHT]
        assert not left_out[CALLS], name
    assert answers >= 50
    assert not chosen.thoughts or not dropped
    assert chosen.thoughts or dropped


@pytest.mark.parametrize("family", ["deepseek-r1", "qwen3-thinking", "minimax-m2"])
@pytest.mark.parametrize("thought", ["", "count"])
def test_a_prompt_that_opens_a_thought_is_continued_with_it(family: str, thought: str) -> None:
    given = tokenizer(family)
    answer = {"role": "assistant", "content": "four"} | ({"reasoning_content": thought} if thought else {})
    [(before, text)] = learned_texts(given, tokenize(given, Conversation([USER, answer], None)))
    assert before.endswith("<think>\n")
    assert text == f"{thought}\n</think>\n\nfour{FAMILIES[family].end}"


def test_the_guide_has_the_text_that_is_learned() -> None:
    guide = (ROOT / "docs/guides/fine-tune.md").read_text()
    row = re.search(r'```json\n(\{"messages": .*?reasoning_content.*?)```', guide, re.DOTALL)
    assert row
    given = tokenizer("deepseek-r1")
    [(before, text)] = learned_texts(given, tokenize(given, Conversation(json.loads(row[1])["messages"], None)))
    for name, written in (("prompt", before.removeprefix("<｜begin▁of▁sentence｜>")), ("answer", text)):
        assert f"{name}: {json.dumps(written, ensure_ascii=False)}\n" in guide


@pytest.mark.parametrize("field", [*chat_template.THOUGHTS, "content"])
def test_the_place_of_a_thought_does_not_matter(field: str) -> None:
    given = tokenizer("qwen3")
    inline = "<think>\ncount\n</think>\n\nfour"
    answer = {"role": "assistant", "content": inline if field == "content" else "four"}
    answer |= {} if field == "content" else {field: "count"}
    [(_, text)] = learned_texts(given, tokenize(given, Conversation([USER, answer], None)))
    assert text.startswith("<think>\ncount\n</think>\n\nfour<|im_end|>")


@pytest.mark.parametrize("arguments", [{"a": 2}, '{"a": 2}'], ids=["object", "text"])
@pytest.mark.parametrize("family", [name for name, each in FAMILIES.items() if each.tools])
def test_arguments_of_calls_are_json_in_both_forms_of_them(family: str, arguments: Any) -> None:
    given = tokenizer(family)
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": arguments}}]}
    [(_, text)] = learned_texts(given, tokenize(given, Conversation([USER, call], None)))
    assert "add" in text and "'a'" not in text and '\\"' not in text
    assert '"a": 2' in text or ">2<" in text


def test_an_answer_whose_call_the_template_does_not_write_is_not_learned() -> None:
    left_out: Counter[str] = Counter()
    given = tokenizer("phi-4")
    given.chat_template = given.chat_template.replace("m.content", "(m.content or '')")
    answer = {"role": "assistant", "content": "four"}
    [(_, text)] = learned_texts(given, tokenize(given, Conversation([USER, CALL, answer], None), left_out=left_out))
    assert (text, left_out[CALLS]) == ("four<|im_end|>", 1)
    assert tokenize(given, Conversation([USER, CALL], None)) == []


def test_a_template_that_refuses_a_conversation_says_why() -> None:
    with pytest.raises(UserError, match="roles must alternate"):
        tokenize(tokenizer("gemma-3"), Conversation([USER, USER, {"role": "assistant", "content": "four"}], None))


def test_a_token_across_the_end_of_the_prompt_is_none_that_a_server_sends() -> None:
    """Byte-pair encoding may join the last line feed of a prompt with that of an empty thought."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: n for n, letter in enumerate([*alphabet, "ĊĊ"])}
    joined = Tokenizer(models.BPE(vocabulary, [("Ċ", "Ċ")]))
    joined.pre_tokenizer, joined.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    given = PreTrainedTokenizerFast(tokenizer_object=joined)
    given.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "eos_token": "<|im_end|>"})
    given.chat_template = FAMILIES["qwen3-thinking"].template
    answer = {"role": "assistant", "content": "four"}
    [each] = tokenize(given, Conversation([USER, answer], None))
    prompt = given.apply_chat_template([USER], add_generation_prompt=True, tokenize=True, return_dict=False)
    assert each.tokens[: len(prompt)] == prompt and not any(each.learned[: len(prompt)])
    assert given.decode(each.tokens[len(prompt) :]) == "\n</think>\n\nfour<|im_end|>"
