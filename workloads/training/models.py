"""The models that can be trained, each built from its part of the configuration. All return logits."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.training import lora
from workloads.training.config import DeepseekV3, HuggingFace, ImageClassifier

# Shape letters: B examples, S positions of a sequence, V the vocabulary, C classes, H height, W width.

Model = ImageClassifier | DeepseekV3 | HuggingFace


def build(config: Model) -> nn.Module:
    """Return the model with its initial weights: those in its directory, or random ones.

    Raises:
        UserError: The directory has no model.
    """
    return _build(config, read=True)


def build_shapes(config: Model) -> nn.Module:
    """Return the model on the meta device, without memory for its weights."""
    with torch.device("meta"):
        return _build(config, read=False)


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the part of the model's state that training changes: all tensors except frozen weights."""
    frozen = {
        name for name, weight in model.named_parameters(remove_duplicate=False) if not weight.requires_grad
    }  # fmt: skip
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the consecutive blocks of the model: the longest list of modules in it."""
    lists = [list(module) for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=[])


def _build(config: Model, read: bool) -> nn.Module:
    if isinstance(config, ImageClassifier):
        return Classifier(config)
    if isinstance(config, DeepseekV3):
        return LanguageModel(_deepseek(config))
    model = LanguageModel(_hugging_face(config.path, read))
    if config.lora:
        lora.adapt(model.model, config.lora)
    return model


class Classifier(nn.Module):
    """Two convolutions and a linear head."""

    def __init__(self, config: ImageClassifier) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, config.channels, 3, padding=1)
        self.second = nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.head = nn.Linear(config.channels * (config.side // 2) ** 2, config.classes)

    def forward(self, x_BHW: Tensor) -> Tensor:
        x = F.relu(self.first(x_BHW.unsqueeze(1)))
        x = F.max_pool2d(F.relu(self.second(x)), 2)
        logits_BC: Tensor = self.head(x.flatten(1))
        return logits_BC


class LanguageModel(nn.Module):
    """A causal language model of transformers, without a key-value cache, which training does not need."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BS: Tensor) -> Tensor:
        logits_BSV: Tensor = self.model(input_ids=x_BS, use_cache=False).logits
        return logits_BSV


def _deepseek(config: DeepseekV3) -> nn.Module:
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    values = config.model_dump(exclude={"kind"})
    heads = config.num_attention_heads
    model: nn.Module = DeepseekV3ForCausalLM(DeepseekV3Config(**values, num_key_value_heads=heads, use_cache=False))
    return model


def _hugging_face(path: str, read: bool) -> nn.Module:
    """Return the model in the directory *path* as fp32, without downloads and without running code from it."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        if not read:
            untrained: nn.Module = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path, **safe))
            return untrained.float()
        model: nn.Module = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, use_safetensors=True, **safe)
    except (OSError, ValueError) as error:
        problem = f"the model in {path} cannot be loaded: {str(error).splitlines()[0]}"
        expected, help = "a causal language model on every host", "Name a directory that save_pretrained wrote"
        raise UserError(Diagnostic("model.path", problem, expected, help)) from error
    return model.train()


def vocabulary_size(model: nn.Module) -> int | None:
    """Return the number of tokens in the model's vocabulary; None if it is not a language model."""
    return int(model.model.config.vocab_size) if isinstance(model, LanguageModel) else None


def weights_differ(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Return the sorted names of weights that are missing from one side or differ in shape."""
    return sorted(
        name
        for name in saved.keys() | own.keys()
        if name not in saved or name not in own or saved[name].shape != own[name].shape
    )
