"""Multi-token prediction: a module beside the model, which learns the token after the next one."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.torchrun_ranks import train_by_ranks
from tests.support.training_runs import assert_close, assert_same, config, read_metrics, weights
from workloads.checkpoint import newest
from workloads.errors import UserError
from workloads.training import memory, multi_token, sharded
from workloads.training.config import MultiTokenPrediction
from workloads.training.initial_weights import build
from workloads.training.models import blocks, build_shapes
from workloads.training.run import train

TINY = (
    "steps=4", "global_batch=4", "report_every_steps=1", "saving.every_steps=2", "data.sequence_length=32",
    "data.bytes_at_most=20000",
)  # fmt: skip
MODULE = ".model.layers.3."


def changes(**mtp: float) -> tuple[str, ...]:
    return (*TINY, f"model.mtp={json.dumps(mtp)}")


def without_module(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if MODULE not in name}


def test_its_weight_falls_as_published() -> None:
    course = [multi_token.loss_weight(MultiTokenPrediction(), step, 148) for step in range(148)]
    assert course == [0.3] * 100 + [0.1] * 48


def test_it_learns_the_next_answer_of_the_same_sequence() -> None:
    """
    Two sequences of 3 and 2 tokens share a row, and the last position of each has nothing after its answer.
    """
    y, positions = torch.tensor([[11, 12, 13, 21, 22]]), torch.tensor([[0, 1, 2, 0, 1]])
    assert multi_token.answers(y, positions).tolist() == [[12, 13, -100, 22]]
    assert multi_token.answers(y, None).tolist() == [[12, 13, 21, 22]]


def test_sequences_in_one_row_do_not_see_each_other() -> None:
    model = build(config("deepseek-v3-tiny", *changes()).model).eval()
    tokens, positions = torch.arange(10).view(1, 10), torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5]])
    changed = tokens.clone()
    changed[0, :4] += 50
    with torch.no_grad():
        one, other = (
            multi_token.features(model.model, each, positions, model.features(torch.stack([each, positions], 1)))
            for each in (tokens, changed)
        )
    assert not torch.allclose(one[:, :3], other[:, :3], atol=1e-3)
    assert torch.allclose(one[:, 4:], other[:, 4:], atol=1e-6)


def test_a_module_without_weight_changes_nothing_to_the_last_bit(tmp_path: Path) -> None:
    """
    Without clip_norm, because the norm of all gradients is a sum in another order then.
    """
    unclipped = "optimizer.clip_norm=null"
    train(config("deepseek-v3-tiny", *TINY, unclipped), tmp_path / "plain", {})
    train(config("deepseek-v3-tiny", *changes(weight=0.0, final_weight=0.0), unclipped), tmp_path / "idle", {})
    train(config("deepseek-v3-tiny", *changes(), unclipped), tmp_path / "module", {})
    plain = weights(tmp_path / "plain")
    assert not any(MODULE in name for name in plain)
    assert_same(plain, without_module(weights(tmp_path / "idle")))
    module = without_module(weights(tmp_path / "module"))
    assert any(not torch.equal(plain[name], each) for name, each in module.items())


def test_it_learns(tmp_path: Path) -> None:
    more = ("steps=40", "data.sequence_length=64", "data.bytes_at_most=100000", "saving.every_steps=40")
    train(config("deepseek-v3-tiny", *changes(), *more, "schedule.warmup_steps=5"), tmp_path, {})
    lines = [line for line in read_metrics(tmp_path) if "mtp_loss" in line]
    assert lines[-1]["mtp_loss"] < 0.75 * lines[0]["mtp_loss"]
    assert lines[-1]["mtp_accuracy"] > lines[0]["mtp_accuracy"] + 0.1
    assert read_metrics(tmp_path)[-1]["event"] == "finished"


def test_a_stop_changes_nothing(tmp_path: Path) -> None:
    train(config("deepseek-v3-tiny", *changes()), tmp_path / "whole", {})
    train(config("deepseek-v3-tiny", *changes()), tmp_path / "parts", {}, stop_at=3)
    train(config("deepseek-v3-tiny", *changes()), tmp_path / "parts", {})
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.parametrize("setting", ["chunked_loss=true", "recompute_activations=true"])
def test_it_trains_the_same_with_less_memory(setting: str, tmp_path: Path) -> None:
    train(config("deepseek-v3-tiny", *changes()), tmp_path / "plain", {})
    train(config("deepseek-v3-tiny", *changes(), setting), tmp_path / "less", {})
    assert_close(weights(tmp_path / "plain"), weights(tmp_path / "less"))


def test_two_processes_share_the_module_as_any_layer(tmp_path: Path) -> None:
    train(config("deepseek-v3-tiny", *changes()), tmp_path / "one", {})
    train_by_ranks(2, tmp_path / "two", "deepseek-v3-tiny", *changes(), "sharding=full")
    found = newest(tmp_path / "two" / "checkpoints")
    assert found
    whole = sharded.load_whole(found)["model"]
    assert_close(weights(tmp_path / "one"), whole)

    shutil.rmtree(tmp_path / "two" / "checkpoints" / "step-0000000004")
    assert "resumes after step 2" in train_by_ranks(
        2, tmp_path / "two", "deepseek-v3-tiny", *changes(), "sharding=full"
    )
    again = newest(tmp_path / "two" / "checkpoints")
    assert again
    assert_same(whole, sharded.load_whole(again)["model"])


def test_memory_counts_the_module() -> None:
    plain, module = config("deepseek-v3-tiny", *TINY), config("deepseek-v3-tiny", *changes())
    added = memory.count_parameters(build_shapes(module.model).model.model.layers[3])  # type: ignore[union-attr,index,arg-type]
    one, other = (memory.estimate(each, build_shapes(each.model)) for each in (plain, module))
    assert other.parameters - one.parameters == added
    assert (other.gradients - one.gradients, other.optimizer - one.optimizer) == (4 * added, 8 * added)
    assert len(blocks(build_shapes(module.model))) == 4


def test_the_published_module_has_its_size() -> None:
    """
    Source: README_WEIGHTS.md of DeepSeek-V3: 11.5 billion parameters without the shared embedding and head. The
    projection has 0.1 billion more.
    """
    plain, module = (build_shapes(config("deepseek-v3", *more).model) for more in ((), ("model.mtp={}",)))
    added = memory.count_parameters(module) - memory.count_parameters(plain)
    assert round((added - 2 * 7168 * 7168) / 1e8) == 115


def test_preferences_have_no_next_tokens(tmp_path: Path) -> None:
    pairs = {"kind": "preferences", "path": "x", "tokenizer": "x", "sequence_length": 32}
    with pytest.raises(UserError, match=r"model\.mtp learns the next tokens of a text, and data\.kind is preferences"):
        config("deepseek-v3-tiny", *changes(), f"data={json.dumps(pairs)}")
