"""Small models of Hugging Face's, as they are saved: what ONNX Runtime computes is what transformers compute."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from workloads.errors import UserError
from workloads.quantize.source import SourceModel, source
from workloads.serving.runtimes.onnx import session

SMALL = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 32,
}  # fmt: skip
PICTURES = {"num_channels": 1, "num_labels": 3, "hidden_sizes": [4, 8], "layer_type": "basic"}
VIT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 8,
    "patch_size": 4, "num_channels": 1, "num_labels": 3,
}  # fmt: skip
IDS_BS = np.arange(1, 34).reshape(3, 11)
MASK_BS = np.arange(11) < np.array([[4], [11], [7]])
"""Another number of rows and of tokens than the graph was traced with."""


def encoder(path: Path, pooling: str = "mean_tokens", *more: str) -> BertModel:
    torch.manual_seed(0)
    model = BertModel(BertConfig(**SMALL))
    model.save_pretrained(path)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *((name, name) for name in more)]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, f"pooling_mode_{pooling}": True, "pooling_mode_max_tokens": False})
    )
    return model.eval()


def computed(found: SourceModel) -> np.ndarray:
    inputs = {
        "input_ids": IDS_BS, "attention_mask": MASK_BS.astype(np.int64), "token_type_ids": np.zeros_like(IDS_BS),
    }  # fmt: skip
    return session(found.path, 1).run(None, {tensor.name: inputs[tensor.name] for tensor in found.inputs})[0]


def tokens(model: BertModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.from_numpy(IDS_BS), torch.from_numpy(MASK_BS)).last_hidden_state


def test_the_mean_of_tokens_that_are_there_is_the_embedding(tmp_path: Path) -> None:
    values_BSD = tokens(encoder(tmp_path / "mean", "mean_tokens", "Normalize")).numpy()
    means_BD = np.stack([row[mask].mean(0) for row, mask in zip(values_BSD, MASK_BS, strict=True)])
    (tmp_path / "scratch").mkdir()
    found = source(tmp_path / "mean", tmp_path / "scratch")

    wanted = means_BD / np.linalg.norm(means_BD, axis=1, keepdims=True)
    np.testing.assert_allclose(computed(found), wanted, atol=1e-5)
    assert (found.name, [tensor.name for tensor in found.outputs]) == ("mean", ["embedding"])
    assert all(tensor.shape == (-1, -1) for tensor in found.inputs)
    assert len(found.lineage["files"]["model.safetensors"]) == 64


def test_the_first_token_is_the_embedding_where_it_is_declared(tmp_path: Path) -> None:
    values_BSD = tokens(encoder(tmp_path / "first", "cls_token")).numpy()
    (tmp_path / "scratch").mkdir()
    np.testing.assert_allclose(computed(source(tmp_path / "first", tmp_path / "scratch")), values_BSD[:, 0], atol=1e-5)


def test_a_classifier_gives_its_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SMALL, num_labels=3)).eval()
    model.save_pretrained(tmp_path / "classifier")
    (tmp_path / "scratch").mkdir()
    with torch.no_grad():
        wanted = model(torch.from_numpy(IDS_BS), torch.from_numpy(MASK_BS)).logits.numpy()
    np.testing.assert_allclose(computed(source(tmp_path / "classifier", tmp_path / "scratch")), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (ResNetForImageClassification(ResNetConfig(**PICTURES, embedding_size=4, depths=[1, 1])), (-1, 1, -1, -1)),
        (ViTForImageClassification(ViTConfig(**VIT)), (-1, 1, 8, 8)),
    ],
    ids=["of any size", "of one size"],
)  # fmt: skip
def test_a_classifier_of_pictures_gives_its_logits(model: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    model.eval().save_pretrained(tmp_path / "pictures")
    (tmp_path / "scratch").mkdir()
    found = source(tmp_path / "pictures", tmp_path / "scratch")
    pixels = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model(pixels).logits.numpy()
    given = session(found.path, 1).run(None, {"pixel_values": pixels.numpy()})[0]
    np.testing.assert_allclose(given, wanted, atol=1e-5)
    assert found.inputs[0].shape == shape


def test_other_models_are_refused_with_a_cure(tmp_path: Path) -> None:
    LlamaForCausalLM(LlamaConfig(**SMALL)).save_pretrained(tmp_path / "language")
    BertModel(BertConfig(**SMALL)).save_pretrained(tmp_path / "tokens")
    encoder(tmp_path / "dense", "mean_tokens", "Dense")
    encoder(tmp_path / "most", "max_tokens")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "config.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    wanted = {
        "language": "a model of architecture LlamaForCausalLM cannot be quantised here; a classifier",
        "tokens": "a model of architecture BertModel cannot be quantised here; a classifier",
        "dense": "the modules Transformer, Pooling, Dense are not supported; Transformer, Pooling",
        "most": "is not supported; mean_tokens or cls_token",
        "nothing": "KeyError('architectures')",
        "empty": "transformers cannot read the model",
    }
    for name, says in wanted.items():
        with pytest.raises(UserError) as raised:
            source(tmp_path / name, tmp_path)
        assert says in str(raised.value)
