"""Conversations share a row only if the model is proved to keep them apart, and the run says so."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import families
from tests.support.chat_tokenizer import bytes_tokenizer
from tests.support.chat_tokenizer import write_rows as write
from tests.support.training_runs import config, read_metrics
from workloads.errors import UserError
from workloads.training import conversations, isolation
from workloads.training.config import Conversations, DeepseekV3, HuggingFace
from workloads.training.conversations import NOT_LEARNED, PackedConversations
from workloads.training.run import train

CPU = torch.device("cpu")
TALKS = [
    {"messages": [{"role": "user", "content": f"{n} and two?"}, {"role": "assistant", "content": str(n + 2)}]}
    for n in range(24)
]


def shape(family: str, directory: Path, **changes: Any) -> HuggingFace:
    families.settings(family, **changes).save_pretrained(directory)
    return HuggingFace(path=str(directory))


def without_positions(given: Any, length: int) -> PackedConversations:
    """Pack as `conversations.pack`, but number the positions of a row through."""
    x, y = conversations.pack(given, length)
    x[:, 1] = torch.arange(length)
    return PackedConversations(x, y)


@pytest.mark.parametrize("family", sorted(families.APART))
def test_most_models_are_proved_to_keep_neighbours_apart(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shape(family, tmp_path)
    assert isolation.measure(model, 4096, CPU).is_proved
    monkeypatch.setattr(isolation, "pack", without_positions)  # then each conversation sees the ones before it
    blurred = isolation.measure(model, 4096, CPU)
    assert not blurred.is_proved and blurred.change is not None and blurred.change > 0.01


@pytest.mark.parametrize("family", sorted(families.LEAKING))
def test_models_with_recurrent_layers_or_masks_of_their_own_are_found(family: str, tmp_path: Path) -> None:
    found = isolation.measure(shape(family, tmp_path), 4096, CPU)
    assert not found.is_proved and found.change is not None and found.change > 0.01


def test_a_layer_that_comes_late_is_part_of_the_proof(tmp_path: Path) -> None:
    kinds = ["full_attention"] * 5 + ["linear_attention"]
    found = isolation.measure(shape("qwen3_next", tmp_path, num_hidden_layers=6, layer_types=kinds), 64, CPU)
    assert (found.is_proved, found.layers) == (False, 6)


def test_multi_token_prediction_is_part_of_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = config("deepseek-v3-tiny", "model.mtp={}").model
    assert isinstance(recipe, DeepseekV3)
    assert isolation.measure(recipe, 64, CPU).is_proved
    features = isolation.multi_token.features
    monkeypatch.setattr(
        isolation.multi_token, "features", lambda model, tokens, positions, each: features(model, tokens, None, each)
    )
    assert not isolation.measure(recipe, 64, CPU).is_proved


def test_a_model_that_cannot_be_measured_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise RuntimeError("this type needs a kernel")

    monkeypatch.setattr(isolation, "_change", refuse)
    found = isolation.measure(shape("llama", tmp_path), 64, CPU)
    assert (found.is_proved, found.change) == (False, None)
    assert "unknown" in f"{found}" and "this type needs a kernel" in f"{found}"


def data(tmp_path: Path, **values: Any) -> str:
    bytes_tokenizer().save_pretrained(tmp_path / "model")
    path = write(tmp_path / "rows.jsonl", TALKS)
    kept = {"sequence_length": 64, "held_out": 0.2, **values}
    return Conversations(path=path, tokenizer=str(tmp_path / "model"), **kept).model_dump_json()


def changes(tmp_path: Path, family: str, **values: Any) -> list[str]:
    families.save(family, tmp_path / "model", num_hidden_layers=2)
    model = json.dumps({"kind": "hugging-face", "path": str(tmp_path / "model")})
    return [f"model={model}", f"data={data(tmp_path, **values)}", "steps=2", "global_batch=4", "accumulate=1"]


@pytest.mark.parametrize(("family", "rows"), [("llama", "several in a row"), ("gpt_oss", "one in a row")])
def test_the_run_prints_and_records_how_conversations_share_rows(
    family: str, rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config("lora", *changes(tmp_path, family)), tmp_path / "out", {})
    assert f"conversations: {rows}" in capsys.readouterr().out
    [start] = [line for line in read_metrics(tmp_path / "out") if line.get("event") == "start"]
    lineage = json.loads((tmp_path / "out" / "lineage.json").read_text())
    assert lineage["isolation"] == start["isolation"]
    packed = family == "llama"
    assert start["isolation"]["proved"] is lineage["data"][0]["packed"] is packed
    assert json.loads((tmp_path / "out" / "config.json").read_text())["data"]["packed"] is packed
    assert (start["examples"] < 12) == packed


def test_shared_rows_that_are_demanded_are_refused_for_a_model_that_mixes_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a neighbour changes the logits"):
        train(config("lora", *changes(tmp_path, "gpt_oss", packed=True)), tmp_path / "out", {})


def test_conversations_in_rows_of_their_own_end_with_the_longest_of_a_batch() -> None:
    from workloads.training.data import Examples

    given = [conversations.Tokens([1, 2, 3], [False, True, True]), conversations.Tokens([4, 5], [False, True])]
    examples = Examples(*conversations.pad(given, 8))
    assert examples.x.shape == (2, 8)
    x, y = examples.take(torch.tensor([0, 1]))
    assert x.tolist() == [[1, 2], [4, 0]]
    assert y.tolist() == [[2, 3], [5, NOT_LEARNED]]
