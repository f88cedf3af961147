"""Adapters of a local model: nothing else is trained, nothing else is saved, and others can read them."""

import json
from pathlib import Path

import pytest
import torch

from tests.support.training_runs import assert_same, config, read_metrics, weights
from workloads.errors import UserError
from workloads.training.config import HuggingFace, Lora
from workloads.training.initial_weights import build
from workloads.training.models import trainable_state
from workloads.training.run import train as train_whole

WORDS = "the cat sat on the mat and the dog lay by the door . "
QUICK = (
    "steps=8", "global_batch=4", "accumulate=1", "schedule.kind=constant", "report_every_steps=1",
    "saving.every_steps=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny model and its tokenizer, as save_pretrained writes them, and a text beside it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("model")
    words = {word: number for number, word in enumerate(dict.fromkeys(["?", *WORDS.split()]))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(path)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=64,
        )
    ).save_pretrained(path)  # fmt: skip
    (path / "words.txt").write_text(WORDS * 40)
    return path


def changes(directory: Path, lora: bool = True) -> list[str]:
    model = {"kind": "hugging-face", "path": str(directory), **({"lora": {"rank": 4}} if lora else {})}
    data = {
        "kind": "text", "path": str(directory / "words.txt"), "sequence_length": 16, "tokenizer": str(directory),
        "held_out": 0.2,
    }  # fmt: skip
    return [f"model={json.dumps(model)}", f"data={json.dumps(data)}", "optimizer.learning_rate=0.05", *QUICK]


def train(out: Path, *more: str, stop_at: int | None = None) -> bool:
    return train_whole(config("lora", *more), out, {}, stop_at)


def test_it_learns_with_adapters_alone(directory: Path, tmp_path: Path) -> None:
    train(tmp_path, *changes(directory), "steps=40")
    lines = [line for line in read_metrics(tmp_path) if "rank" not in line and "event" not in line]
    assert lines[-1]["accuracy"] > lines[0]["accuracy"] + 0.2  # of a model that knew nothing, and stays as it is
    assert set(weights(tmp_path)) == {
        f"model.model.layers.{layer}.self_attn.{name}.{part}"
        for layer in (0, 1)
        for name in ("q_proj", "v_proj")
        for part in ("a_RI", "b_OR")
    }


def test_a_stop_changes_nothing(directory: Path, tmp_path: Path) -> None:
    train(tmp_path / "whole", *changes(directory))
    train(tmp_path / "parts", *changes(directory), stop_at=5)
    train(tmp_path / "parts", *changes(directory))
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_adapters_begin_as_nothing_and_end_as_what_is_written(directory: Path, tmp_path: Path) -> None:
    """
    What others read, added to the weights of the directory, is the model that was trained.
    """
    from safetensors.torch import load_file

    x = torch.tensor([[1, 2, 3, 4]])
    plain = build(HuggingFace(path=str(directory))).eval()
    model = build(HuggingFace(path=str(directory), lora=Lora(rank=4))).eval()
    with torch.no_grad():
        assert torch.equal(plain(x), model(x))

    train(tmp_path, *changes(directory))
    with torch.no_grad():
        for name, tensor in trainable_state(model).items():
            tensor.copy_(weights(tmp_path)[name])
        adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
        report = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
        layers = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in adapter}
        for layer in layers:
            a, b = (adapter[f"base_model.model.{layer}.lora_{letter}.weight"] for letter in "AB")
            plain.model.get_submodule(layer).weight += report["lora_alpha"] / report["r"] * b @ a  # type: ignore[union-attr]
        assert len(layers) == 4
        torch.testing.assert_close(plain(x), model(x))


def test_all_weights_are_trained_without_adapters(directory: Path, tmp_path: Path) -> None:
    before = build(HuggingFace(path=str(directory)))
    train(tmp_path, *changes(directory, lora=False))
    after = weights(tmp_path)
    assert after.keys() == before.state_dict().keys()
    assert not any(torch.equal(value, after[name]) for name, value in before.named_parameters())


@pytest.mark.parametrize("adapters", [False, True])
def test_a_parent_of_the_other_form_is_refused_with_the_way_out(
    adapters: bool, directory: Path, tmp_path: Path
) -> None:
    """
    Before, the message was about the shape of the first weight, and no change of a shape would have helped.
    """
    train(tmp_path / "parent", *changes(directory, lora=not adapters), "steps=2")
    tuning = f"fine_tuning={json.dumps({'parent': str(tmp_path / 'parent')})}"
    with pytest.raises(UserError) as error:
        train(tmp_path / "child", *changes(directory, lora=adapters), tuning)
    forms = ["adapters", "the whole model"]
    own, other = forms if adapters else reversed(forms)
    merging = "" if adapters else " --merge-adapters"
    assert f"it trained {other}; {own}, as in this run. Export the parent with" in str(error.value)
    assert f"--to huggingface{merging} --out DIR`, and write model.path=DIR in place of fine_tuning" in str(error.value)


def test_its_base_is_written_down_by_content(directory: Path, tmp_path: Path) -> None:
    train(tmp_path, *changes(directory))
    base = json.loads((tmp_path / "lineage.json").read_text())["base"]
    assert base["path"] == str(directory) and len(base["files"]["model.safetensors"]) == 64


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('model={"kind": "hugging-face", "path": "/gone"}', "model.path: /gone is no directory; "),
        ('model.lora={"layers": ["query"]}', "model.lora.layers: the model has no linear layers query; some of "),
        ('data.tokenizer="/gone"', "data.tokenizer: /gone is no directory; "),
        ("data.tokenizer=null", "; tokens below 12. Name the model's own tokenizer."),
    ],
)
def test_what_cannot_be_is_refused(directory: Path, tmp_path: Path, change: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        train(tmp_path, *changes(directory), change)
    assert says in str(error.value)


def test_memory_counts_what_is_trained(directory: Path) -> None:
    from workloads.training import memory
    from workloads.training.models import build_shapes

    run = config("lora", *changes(directory))
    needed = memory.estimate(run, build_shapes(run.model))
    model = build(run.model)
    assert needed.trainable == sum(tensor.numel() for tensor in trainable_state(model).values())
    assert needed.parameters == sum(weight.numel() for weight in model.parameters()) > 10 * needed.trainable
    assert needed.optimizer == 2 * needed.gradients == 8 * needed.trainable
