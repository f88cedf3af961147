"""Export a Hugging Face model to ONNX: a classifier, or an encoder whose tokens become one embedding.

The model is a local directory that `save_pretrained` wrote. Only safetensors are read, nothing is downloaded, and no
code of the directory runs.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workloads.checkpoint import disk
from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_json, read_file

# Shape letters: B rows, S tokens of a row, D values of a token.

CONFIG, MODULES = "config.json", "modules.json"
"""The configuration of every model, and the module list of a Sentence Transformers model."""
EXAMPLE = (2, 8)
"""Rows and tokens of the traced example; the exported graph takes any number of both."""
SIDE = 64
"""Height and width of the traced pictures if the model takes any; the exported graph then takes any, too."""


class _Logits(nn.Module):
    """A classifier that returns its logits, with inputs named as its tokenizer or image processor names them."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self._model, self._names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self._model(**dict(zip(self._names, inputs, strict=True))).logits
        return logits


class _Embedding(nn.Module):
    """An encoder that returns one vector per row: its tokens' mean or its first token, normalized if configured."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], mean: bool, normalized: bool) -> None:
        super().__init__()
        self._model, self._names, self._mean, self._normalized = model, names, mean, normalized

    def forward(self, *inputs: Tensor) -> Tensor:
        named_inputs = dict(zip(self._names, inputs, strict=True))
        tokens_BSD = self._model(**named_inputs).last_hidden_state
        if self._mean:
            mask_BS1 = named_inputs["attention_mask"].unsqueeze(-1).to(tokens_BSD.dtype)
            values_BD = (tokens_BSD * mask_BS1).sum(1) / mask_BS1.sum(1).clamp(min=1e-9)
        else:
            values_BD = tokens_BSD[:, 0]
        return nn.functional.normalize(values_BD, dim=1) if self._normalized else values_BD


def export(directory: Path, path: Path, opset: int) -> Mapping[str, Any]:
    """Export the model in *directory* to *path* as ONNX, and return its lineage.

    Raises:
        UserError: the model cannot be read, or is of an unsupported kind.
    """
    try:
        config = parse_json(read_file(directory / CONFIG), lenient=True)
        architecture = str(config["architectures"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        problem = f"the file does not name the architecture of the model: {error!r}"
        raise UserError(Diagnostic(str(directory / CONFIG), problem, help="Save the model again")) from None
    try:
        module, inputs = _module(directory, config, architecture)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:  # the library's errors for any content
        problem = f"transformers cannot read the model: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
        help = "Save the model again, as safetensors"
        raise UserError(Diagnostic(str(directory), problem, help=help)) from None
    output = "embedding" if isinstance(module, _Embedding) else "logits"
    axes = {name: {0: "batch", **_dynamic_axes(tensor, config)} for name, tensor in inputs.items()}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # constants in the trace depend on the model alone
        torch.onnx.export(
            module.eval(), tuple(inputs.values()), path, input_names=[*inputs], output_names=[output],
            opset_version=opset, dynamic_axes={**axes, output: {0: "batch"}}, dynamo=False,
        )  # fmt: skip
    files = {file.name: disk.sha256(file) for file in sorted(directory.glob("*.safetensors"))}
    return {"model": config.get("_name_or_path") or directory.name, "architecture": architecture, "files": files}


def _dynamic_axes(tensor: Tensor, config: Mapping[str, Any]) -> dict[int, str]:
    """Return the dynamic sizes of an input besides the number of rows, by axis."""
    if tensor.dim() == 2:
        return {1: "tokens"}
    return {} if "image_size" in config else {2: "height", 3: "width"}


def _module(directory: Path, config: Mapping[str, Any], architecture: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return the module to export, and example inputs by name."""
    import transformers

    local = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    text = {name: torch.ones(EXAMPLE, dtype=torch.int64) for name in _names(config)}
    if architecture.endswith("ForSequenceClassification"):
        auto = transformers.AutoModelForSequenceClassification
        return _Logits(auto.from_pretrained(directory, attn_implementation="eager", **local), tuple(text)), text
    if architecture.endswith("ForImageClassification"):
        model = transformers.AutoModelForImageClassification.from_pretrained(directory, **local)
        side = getattr(model.config, "image_size", None)
        height, width = side if isinstance(side, list | tuple) else (side or SIDE, side or SIDE)
        pixels = {"pixel_values": torch.zeros(EXAMPLE[0], model.config.num_channels, height, width)}
        return _Logits(model, tuple(pixels)), pixels
    if (directory / MODULES).is_file():
        mean, normalized = _read_pooling(directory)
        model = transformers.AutoModel.from_pretrained(directory, attn_implementation="eager", **local)
        return _Embedding(model, tuple(text), mean, normalized), text
    problem = f"a model of architecture {architecture} cannot be quantised here"
    expected = f"a classifier, or a Sentence Transformers encoder ({MODULES})"
    help = "Quantise a language model with `python -m workloads.quantize.language_model`"
    raise UserError(Diagnostic(str(directory), problem, expected, help))


def _names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a tokenizer's outputs for a model with this configuration."""
    two = config.get("type_vocab_size", 0) > 1
    return ("input_ids", "attention_mask", *(["token_type_ids"] if two else []))


def _read_pooling(directory: Path) -> tuple[bool, bool]:
    """Return whether the embedding is the mean of all tokens, or else the first one; and whether it is normalized.

    Source: the directories that Sentence Transformers write, modules.json and 1_Pooling/config.json.
    """
    modules = parse_json(read_file(directory / MODULES), lenient=True)
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        problem = f"the modules {', '.join(kinds)} are not supported"
        expected, help = "Transformer, Pooling and optionally Normalize, in this order", "Export the model to ONNX"
        raise UserError(Diagnostic(str(directory / MODULES), problem, expected, help))
    pooling = parse_json(read_file(directory / modules[1]["path"] / CONFIG), lenient=True)
    modes = {name.removeprefix("pooling_mode_") for name, on in pooling.items() if on is True}
    if not modes & {"mean_tokens", "cls_token"} or len(modes - {"include_prompt"}) != 1:
        problem = f"the pooling {modes or 'none'} is not supported"
        raise UserError(Diagnostic(str(directory), problem, "mean_tokens or cls_token", "Export the model to ONNX"))
    return "mean_tokens" in modes, bool(kinds[2:])
