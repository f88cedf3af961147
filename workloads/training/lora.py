"""Low-rank adapters: small trained matrices beside frozen linear layers."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.training import four_bit
from workloads.training.config import Lora

# Shape letters: I and O features in and out of a layer, R the adapter's rank.


class LoraLinear(nn.Module):
    """A frozen linear layer and its adapter, which adds zero at the start."""

    def __init__(self, layer: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.layer, self.scale = layer, scale
        self.a_RI = nn.Parameter(layer.weight.new_empty(rank, layer.in_features))
        self.b_OR = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))
        self.reset_adapter()

    def reset_adapter(self) -> None:
        """Draw the initial weights of the adapter."""
        nn.init.kaiming_uniform_(self.a_RI, a=math.sqrt(5))  # as PyTorch initializes a linear layer
        nn.init.zeros_(self.b_OR)

    def forward(self, x: Tensor) -> Tensor:
        added = F.linear(F.linear(x, self.a_RI), self.b_OR)
        y: Tensor = self.layer(x) + added * self.scale
        return y


def adapt(model: nn.Module, config: Lora) -> None:
    """Freeze *model*, and put an adapter beside each layer that *config* names.

    Raises:
        UserError: The model has none of these layers.
    """
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    selected = {name: layer for name, layer in linear.items() if name.rpartition(".")[2] in config.layers}
    if not selected:
        names = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        problem = f"the model has no linear layers {', '.join(config.layers)}"
        raise UserError(Diagnostic("model.lora.layers", problem, f"some of {names}", "Name some of these"))
    model.requires_grad_(False)
    for name, layer in selected.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, LoraLinear(layer, config.rank, config.alpha / config.rank))
    if config.four_bit:
        four_bit.convert(model)


def merge(model: nn.Module) -> None:
    """Add each adapter of *model* to its layer, which takes the adapter's place; layers of 4 bits become plain ones."""
    four_bit.restore(model)
    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear)]
    for name, module in adapted:
        with torch.no_grad():
            module.layer.weight += module.b_OR @ module.a_RI * module.scale
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, module.layer)


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the adapters of *model* by their names in PEFT; if it is sharded, all processes call it."""
    adapters = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            for letter, weight in (("A", module.a_RI), ("B", module.b_OR)):
                whole = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
                inner = name.removeprefix("model.")  # LanguageModel wraps the model
                adapters[f"base_model.model.{inner}.lora_{letter}.weight"] = whole.detach().cpu().contiguous()
    return adapters


def write_adapters(adapters: Mapping[str, Tensor], config: Lora, base: str, directory: Path) -> None:
    """Write *adapters* to *directory* in the format of PEFT.

    Args:
        base: Directory of the model that the adapters belong to.
    """
    from safetensors.torch import save_file

    adapter_config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": config.rank,
        "lora_alpha": config.alpha, "lora_dropout": 0.0, "bias": "none", "target_modules": list(config.layers),
        "inference_mode": True, "fan_in_fan_out": False,
    }  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    save_file(dict(adapters), directory / "adapter_model.safetensors", {"format": "pt"})
    (directory / "adapter_config.json").write_text(json.dumps(adapter_config, indent=2) + "\n")
