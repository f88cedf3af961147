"""Initial weights of a model, filled into the memory of this process: it reads or draws only its own part."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_object, read_file
from workloads.training import four_bit, models, sharded
from workloads.training.config import HuggingFace, ImageClassifier
from workloads.training.lora import LoraLinear

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


INDEX_BYTES = 64 << 20
"""Maximum size of an index of weights."""


def build(config: models.Model, seed: int = 0) -> nn.Module:
    """Return the whole model in host memory with its initial weights.

    Raises:
        UserError: The directory of the model has no model.
    """
    model = models.materialize(models.build_shapes(config), torch.device("cpu"))
    fill(model, config, seed)
    return model


def fill(model: nn.Module, config: models.Model, seed: int) -> None:
    """Fill the tensors of *model* with the values of its directory, or with random values.

    The random values of a module follow from *seed* and the name of the module, so they do not depend on the number
    of processes, and host memory for one module at a time is enough.

    Raises:
        UserError: The directory of the model has no readable weights.
    """
    if isinstance(config, ImageClassifier):
        torch.manual_seed(seed)
        sharded.copy_parts(model.state_dict(), models.Classifier(config).state_dict())
        return
    assert isinstance(model, models.LanguageModel)
    for name, module in model.model.named_modules():
        if not isinstance(config, HuggingFace) or isinstance(module, LoraLinear) or module._non_persistent_buffers_set:
            _initialize(model.model, module, sha256(f"{seed}/{name}".encode()).digest())
    if isinstance(config, HuggingFace):
        _read(model, Path(config.path))


def _read(model: models.LanguageModel, directory: Path) -> None:
    """Read this process's part of the weights from the files in *directory*, or all if they have another form."""
    tensors, files = _base_tensors(model), WeightFiles(directory, models.tied_names(model.model))
    plain = getattr(model.model.config, "quantization_config", None) is None
    packed = {_base_name(name): layer for name, layer in four_bit.layers(model.model).items()}
    names = [*tensors, *packed]
    if not plain or not all(files.sources(name, tensors.get(name)) for name in names):
        state = models.load_hugging_face(str(directory)).state_dict()
        sharded.copy_parts(tensors, state)
        for name, layer in packed.items():
            layer.quantize(state[name])
        return
    with torch.no_grad():
        for name, tensor in tensors.items():
            files.copy_into(name, tensor)
        for name, layer in packed.items():
            layer.quantize(files.read(name))


def _base_name(layer: str) -> str:
    """Return the name of the weight of *layer* of 4 bits in the files of the model."""
    return f"{layer.removesuffix('.layer')}.weight"


def _initialize(root: Any, module: nn.Module, seed: bytes) -> None:
    """Initialize the module's own tensors by the rule of its model."""
    own = _own_tensors(module)
    if not own:
        return
    whole = object.__new__(type(module))  # FSDP's own __new__ would initialize the module
    whole.__dict__ = dict(module.__dict__)  # the copy has its own tensors, of whole size and in host memory
    whole._parameters = {name: _like(weight) for name, weight in module._parameters.items()}
    whole._buffers = {name: _like(buffer) for name, buffer in module._buffers.items()}
    whole.__dict__.pop("_is_hf_initialized", None)
    torch.manual_seed(int.from_bytes(seed[:7], "big"))
    with torch.no_grad():
        whole.reset_adapter() if isinstance(whole, LoraLinear) else root._init_weights(whole)
    sharded.copy_parts(own, _own_tensors(whole))


def _like(tensor: Tensor | None) -> Tensor | None:
    if tensor is None:
        return None
    empty = torch.zeros(tensor.shape, dtype=tensor.dtype)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    both = {**module._parameters, **module._buffers}
    return {name: tensor for name, tensor in both.items() if tensor is not None}


def _base_tensors(model: models.LanguageModel) -> dict[str, Tensor]:
    """Return the tensors of a language model without its adapters, by their names in the files of the model."""
    adapted = {name for name, module in model.model.named_modules() if isinstance(module, LoraLinear)}
    tensors = {}
    for name, tensor in model.model.state_dict().items():
        parent, _, last = name.rpartition(".")
        if parent not in adapted:
            outer, _, layer = parent.rpartition(".")
            tensors[f"{outer}.{last}" if layer == "layer" and outer in adapted else name] = tensor
    return tensors


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and not set(value) & {"/", "\0"}


class WeightFiles:
    """The tensors in the safetensors files of a directory, of which each process reads its own part."""

    def __init__(self, directory: Path, tied: Mapping[str, str]) -> None:
        """
        Args:
            tied: Names of weights that are the same as an earlier one, with the name of that one.

        Raises:
            UserError: The directory has no safetensors files.
        """
        self._directory, self._tied = directory, tied
        try:
            self._files = self._read_index()
        except (OSError, ValueError, KeyError) as error:
            raise models.unreadable(str(directory), error) from error

    def names(self) -> set[str]:
        """Return the names of the files."""
        return {*self._files.values()}

    def _read_index(self) -> Mapping[str, str]:
        from safetensors import safe_open

        if (self._directory / INDEX).exists():
            index = parse_object(read_file(self._directory / INDEX, INDEX_BYTES), INDEX_BYTES, lenient=True)
            files = index["weight_map"]
            if not isinstance(files, dict) or not all(map(_is_file_name, files.values())):
                raise ValueError(f"weight_map of {INDEX} has another value than the name of a file beside it")
            return files
        with safe_open(self._directory / SINGLE, "pt") as file:
            return dict.fromkeys(file.keys(), SINGLE)

    def sources(self, name: str, tensor: Tensor | None) -> list[list[str]]:
        """Return the names in the files: one for the whole *tensor*, or those of each expert; empty if they are absent.

        transformers has the experts of a layer in one tensor, and its files have tensors for each expert.

        Args:
            tensor: The tensor of the model; None for a weight that the model has in another form.
        """
        first = self._tied.get(name, name)
        for same in (name, first, *(alias for alias, other in self._tied.items() if other == first)):
            if same in self._files:
                return [[same]]
        place, _, last = name.rpartition(".")
        layers = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}.get(last, ())
        if not place.endswith(".experts") or not layers or tensor is None:
            return []
        rows = [[f"{place}.{expert}.{layer}.weight" for layer in layers] for expert in range(len(tensor))]
        return rows if all(source in self._files for row in rows for source in row) else []

    def copy_into(self, name: str, tensor: Tensor) -> None:
        """Copy this process's part of the tensor *name* from the files.

        Raises:
            UserError: The shape in the files is another one.
        """
        sources, own = self.sources(name, tensor), sharded.local_part(tensor)
        held = None if own is tensor or not own.numel() else sharded.held_ranges(tensor)
        if own is not tensor and held is None:
            return
        rows = [slice(*each) for each in held[0]] if held else [slice(None)]
        if len(sources) == 1:
            pieces = [self._read_rows(sources[0][0], each) for each in rows]
        else:
            chosen = [source for each in rows for source in sources[each]]
            pieces = [torch.cat([self._read_rows(each) for each in source]).unsqueeze(0) for source in chosen]
        value = torch.cat(pieces)
        if held:
            value = sharded.take(value, [[[0, len(value)]], *held[1:]])
        if value.shape != own.shape:
            problem = f"the weight {name} has shape {list(value.shape)} in its files"
            raise UserError(Diagnostic("model.path", problem, f"shape {list(own.shape)}", "Save the model again"))
        own.copy_(value)

    def read(self, name: str) -> Tensor:
        """Return the whole tensor *name*, which the files have under this name or that of an equal one."""
        return self._read_rows(self.sources(name, None)[0][0])

    def _read_rows(self, name: str, rows: slice = slice(None)) -> Tensor:
        from safetensors import safe_open

        with safe_open(self._directory / self._files[name], "pt") as file:
            value: Tensor = file.get_tensor(name) if rows == slice(None) else file.get_slice(name)[rows]
        return value
