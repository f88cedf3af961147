"""A model of Hugging Face's as ONNX: a classifier, or an encoder whose tokens become one embedding.

It is read from a local directory as `save_pretrained` writes it: safetensors alone, nothing is fetched, and no code of
the directory is run.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workloads.checkpoint import disk
from workloads.errors import WorkloadError

# Shape letters: B rows, S tokens of a row, D values of a token.

CONFIG, MODULES = "config.json", "modules.json"
"""What every model has; what Sentence Transformers write of one whose tokens become an embedding."""
EXAMPLE = (2, 8)
"""Rows and tokens that the graph is traced with; it takes any number of both."""
SIDE = 64
"""Of pictures that the graph is traced with where its model takes any; then it takes any, too."""


class _Logits(nn.Module):
    """What a classifier answers, by the names that its tokenizer or image processor gives its inputs."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self._model, self._names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self._model(**dict(zip(self._names, inputs, strict=True))).logits
        return logits


class _Embedding(nn.Module):
    """One vector for a row: the mean of its tokens' or that of its first, of length 1 where that is asked for."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], mean: bool, normalized: bool) -> None:
        super().__init__()
        self._model, self._names, self._mean, self._normalized = model, names, mean, normalized

    def forward(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self._names, inputs, strict=True))
        tokens_BSD = self._model(**given).last_hidden_state
        if self._mean:
            mask_BS1 = given["attention_mask"].unsqueeze(-1).to(tokens_BSD.dtype)
            values_BD = (tokens_BSD * mask_BS1).sum(1) / mask_BS1.sum(1).clamp(min=1e-9)
        else:
            values_BD = tokens_BSD[:, 0]
        return nn.functional.normalize(values_BD, dim=1) if self._normalized else values_BD


def export(what: Path, path: Path, opset: int) -> Mapping[str, Any]:
    """Write the model in the directory *what* into *path* as ONNX, and return what it was made from.

    Raises:
        WorkloadError: it cannot be read, or is of another sort.
    """
    try:
        config = json.loads((what / CONFIG).read_text())
        architecture = str(config["architectures"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        want = "it says which architecture the model has"
        raise WorkloadError(str(what / CONFIG), f"got {error!r}", want, "Save the model again") from None
    try:
        module, inputs = _module(what, config, architecture)
    except (OSError, ValueError, KeyError) as error:  # of a library that reads whatever is there
        got = f"got {str(error).strip().splitlines()[0]}"
        raise WorkloadError(str(what), got, "transformers reads it", "Save it again, as safetensors") from None
    output = "embedding" if isinstance(module, _Embedding) else "logits"
    axes = {name: {0: "batch", **_free(tensor, config)} for name, tensor in inputs.items()}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # constants in the trace, which follow from the model alone
        torch.onnx.export(
            module.eval(), tuple(inputs.values()), path, input_names=[*inputs], output_names=[output],
            opset_version=opset, dynamic_axes={**axes, output: {0: "batch"}}, dynamo=False,
        )  # fmt: skip
    files = {file.name: disk.sha256(file) for file in sorted(what.glob("*.safetensors"))}
    return {"model": config.get("_name_or_path") or what.name, "architecture": architecture, "files": files}


def _free(tensor: Tensor, config: Mapping[str, Any]) -> dict[int, str]:
    """Return which sizes of an input vary beside the number of rows."""
    if tensor.dim() == 2:
        return {1: "tokens"}
    return {} if "image_size" in config else {2: "height", 3: "width"}


def _module(what: Path, config: Mapping[str, Any], architecture: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return what is exported, and inputs to trace it with by their names."""
    import transformers

    local = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    text = {name: torch.ones(EXAMPLE, dtype=torch.int64) for name in _names(config)}
    if architecture.endswith("ForSequenceClassification"):
        auto = transformers.AutoModelForSequenceClassification
        return _Logits(auto.from_pretrained(what, attn_implementation="eager", **local), tuple(text)), text
    if architecture.endswith("ForImageClassification"):
        model = transformers.AutoModelForImageClassification.from_pretrained(what, **local)
        side = getattr(model.config, "image_size", None)
        height, width = side if isinstance(side, list | tuple) else (side or SIDE, side or SIDE)
        pixels = {"pixel_values": torch.zeros(EXAMPLE[0], model.config.num_channels, height, width)}
        return _Logits(model, tuple(pixels)), pixels
    if (what / MODULES).is_file():
        mean, normalized = _pooled(what)
        model = transformers.AutoModel.from_pretrained(what, attn_implementation="eager", **local)
        return _Embedding(model, tuple(text), mean, normalized), text
    want = f"classifiers are quantised, and encoders of Sentence Transformers ({MODULES})"
    fix = "A language model is served from a GGUF file: see workloads.serving.gguf"
    raise WorkloadError(str(what), f"got {architecture}", want, fix)


def _names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a tokenizer gives a model like this for a row."""
    two = config.get("type_vocab_size", 0) > 1
    return ("input_ids", "attention_mask", *(["token_type_ids"] if two else []))


def _pooled(what: Path) -> tuple[bool, bool]:
    """Return whether the mean of all tokens is taken, or else the first; and whether its length becomes 1.

    Source: the directories that Sentence Transformers write, modules.json and 1_Pooling/config.json.
    """
    modules = json.loads((what / MODULES).read_text())
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        want = "known are Transformer, Pooling and Normalize, in this order"
        raise WorkloadError(str(what / MODULES), f"got {', '.join(kinds)}", want, "Export it to ONNX yourself")
    pooling = json.loads((what / modules[1]["path"] / CONFIG).read_text())
    modes = {name.removeprefix("pooling_mode_") for name, on in pooling.items() if on is True}
    if not modes & {"mean_tokens", "cls_token"} or len(modes - {"include_prompt"}) != 1:
        want = "known are mean_tokens and cls_token, one of them"
        raise WorkloadError(str(what), f"got a pooling by {modes or 'nothing'}", want, "Export it to ONNX yourself")
    return "mean_tokens" in modes, bool(kinds[2:])
