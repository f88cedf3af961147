"""The models that can be trained, each built from its part of the configuration. All return logits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.training import chunked_loss, lora, multi_token
from workloads.training.config import DeepseekV3, HuggingFace, ImageClassifier
from workloads.training.tokenizer import check_directory

# Shape letters: B examples, S positions of a sequence, V the vocabulary, D features of a position, C classes, H height,
# W width.

Model = ImageClassifier | DeepseekV3 | HuggingFace
BIASES = ("e_score_correction_bias", "expert_bias")
"""Names of the bias for each expert, which is added to its score, in the models of transformers."""


def build_shapes(config: Model) -> nn.Module:
    """Return the model on the meta device, without memory for its weights.

    Raises:
        UserError: The directory has no model.
    """
    with torch.device("meta"):
        if isinstance(config, ImageClassifier):
            return Classifier(config)
        if isinstance(config, DeepseekV3):
            model = LanguageModel(transformers_model(transformers_config(config)))
            if config.mtp:
                multi_token.append_module(model.model)
            return model
        model = LanguageModel(transformers_model(transformers_config(config)))
        if config.lora:
            lora.adapt(model.model, config.lora)
        return model


def materialize(model: nn.Module, device: torch.device) -> nn.Module:
    """Return *model*, which is on the meta device, with memory on *device* that has no values yet."""
    tied = tied_names(model)
    model.to_empty(device=device)
    for alias, name in tied.items():  # to_empty gives each of them a parameter of its own
        place, _, last = alias.rpartition(".")
        model.get_submodule(place)._parameters[last] = model.get_parameter(name)
    return model


def tied_names(model: nn.Module) -> dict[str, str]:
    """Return the names of weights that are the same as an earlier one, with the name of that one."""
    first: dict[int, str] = {}
    weights = model.named_parameters(remove_duplicate=False)
    names = {name: first.setdefault(id(weight), name) for name, weight in weights}
    return {name: earlier for name, earlier in names.items() if name != earlier}


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


def frozen_outside_blocks(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights outside the blocks of *model*; none if one of them is trained, or if there are no blocks."""
    inside = {id(weight) for block in blocks(model) for weight in block.parameters()}
    outside = [weight for weight in model.parameters() if id(weight) not in inside]
    return outside if inside and not any(weight.requires_grad for weight in outside) else []


def frozen_embedding(model: nn.Module) -> nn.Module | None:
    """Return the embedding of a language model whose weights outside the blocks are frozen; None if its head is it."""
    if not isinstance(model, LanguageModel) or not frozen_outside_blocks(model):
        return None
    embedding, head = model.model.get_input_embeddings(), model.model.get_output_embeddings()
    found: nn.Module | None = None if embedding.weight is head.weight else embedding
    return found


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
    """A causal language model of transformers, without a key-value cache, which training does not need.

    Its input is tokens, [B, S], or tokens and their positions, [B, 2, S]: a sequence ends where positions begin again.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(
        self,
        x: Tensor,
        y_BS: Tensor | None = None,
        counting: bool = False,
        in_chunks: bool = True,
        mtp_weight: float | None = None,
    ) -> Any:
        """Return the logits, or with the next tokens *y_BS* the loss.

        Args:
            x: Tokens, or two rows for each example: tokens and their positions.
            in_chunks: Whether the loss is computed in chunks.
            mtp_weight: Weight of the loss of multi-token prediction; None leaves it out.

        Returns:
            logits_BSV; or the sum of the losses, for the backward pass alone, and the result of `chunked_loss.count`,
            or None if neither *counting* nor evaluating. With *mtp_weight*, three more numbers follow: those of the
            module, and its number of answers.
        """
        if y_BS is None:
            return self.model(**_inputs(x)).logits
        features_BSD = self.features(x)
        loss, counted = self._loss(features_BSD, y_BS, counting, in_chunks)
        if mtp_weight is None:
            return loss, counted
        tokens_BS, positions_BS = _tokens_and_positions(x)
        predicted = multi_token.features(self.model, tokens_BS, positions_BS, features_BSD)
        answers = multi_token.answers(y_BS, positions_BS)
        added, own = self._loss(predicted, answers, counting, in_chunks)
        if counted is not None and own is not None:
            counted = torch.cat([counted, own, (answers >= 0).sum().reshape(1)])
        return loss + mtp_weight * added, counted

    def _loss(
        self, features_BSD: Tensor, y_BS: Tensor, counting: bool, in_chunks: bool
    ) -> tuple[Tensor, Tensor | None]:
        head = self.model.get_output_embeddings()
        if in_chunks:
            return chunked_loss.loss(features_BSD.flatten(0, -2), head.weight, y_BS.flatten(), counting)
        return cross_entropy(head(features_BSD), y_BS, counting)

    def features(self, x: Tensor) -> Tensor:
        """Return the features of each position, of which the head makes logits."""
        body = self.model.base_model
        if body is self.model:  # Llama 4 of transformers 5.24 names a part that the class does not have
            body = self.model.model
        features_BSD: Tensor = body(**_inputs(x)).last_hidden_state
        return features_BSD


def cross_entropy(logits: Tensor, y: Tensor, counting: bool) -> tuple[Tensor, Tensor | None]:
    """Return the sum of the losses; if *counting*, also that sum with the right answers, in fp32."""
    logits, y = logits.flatten(0, -2).float(), y.flatten()
    loss = F.cross_entropy(logits, y, reduction="sum")
    if not counting:
        return loss, None
    return loss, torch.stack([loss.detach(), (logits.detach().argmax(-1) == y).sum().float()])


def _tokens_and_positions(x: Tensor) -> tuple[Tensor, Tensor | None]:
    return (x[:, 0], x[:, 1]) if x.dim() == 3 else (x, None)


def _inputs(x: Tensor) -> dict[str, Any]:
    """Return the arguments of a model of transformers for *x*."""
    tokens_BS, positions_BS = _tokens_and_positions(x)
    return {"input_ids": tokens_BS, "position_ids": positions_BS, "use_cache": False}


def transformers_config(config: DeepseekV3 | HuggingFace) -> Any:
    """Return the configuration of *config* in transformers.

    Raises:
        UserError: The directory has none.
    """
    from transformers import AutoConfig, DeepseekV3Config

    if isinstance(config, DeepseekV3):
        values = config.model_dump(exclude={"kind", "mtp"})
        values |= {"num_key_value_heads": config.num_attention_heads, "num_mtp_layers": int(config.mtp is not None)}
        return DeepseekV3Config(**values, use_cache=False)
    check_directory(config.path, "model.path")
    try:
        return AutoConfig.from_pretrained(config.path, **SAFE)
    except (OSError, ValueError) as error:
        raise unreadable(config.path, error) from error


SAFE = {"local_files_only": True, "trust_remote_code": False}
"""No download, and no code from the directory."""


def transformers_model(settings: Any) -> nn.Module:
    """Return the causal language model of *settings* as fp32, without the weights of a file.

    Raises:
        UserError: transformers has no such model.
    """
    from transformers import AutoModelForCausalLM

    try:
        model: nn.Module = AutoModelForCausalLM.from_config(settings)
    except (OSError, ValueError) as error:
        raise unreadable(settings.name_or_path or settings.model_type, error) from error
    _as_buffers(model)
    return model.float().train()


def _as_buffers(model: nn.Module) -> None:
    """Make buffers of the biases of experts that are frozen weights, as those of Ernie 4.5.

    Their values follow the load: checkpoints have buffers but no frozen weights, and each process has them whole.
    """
    for module in model.modules():
        for name in BIASES:
            bias = module._parameters.get(name)
            if bias is not None and not bias.requires_grad:
                del module._parameters[name]
                module.register_buffer(name, bias.detach())


def load_hugging_face(path: str) -> nn.Module:
    """Return the model in the directory *path* with its weights as fp32 in host memory."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model: nn.Module = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, use_safetensors=True, **SAFE)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    return model


def unreadable(path: str, error: Exception) -> UserError:
    """Return the error of a directory without a readable model."""
    problem = f"the model in {path} cannot be loaded: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
    expected, help = "a causal language model on every host", "Name a directory that save_pretrained wrote"
    return UserError(Diagnostic("model.path", problem, expected, help))


def recompute_activations(model: nn.Module) -> None:
    """Compute the activations of each block of a language model again in the backward pass, from the block's input."""
    assert isinstance(model, LanguageModel)
    model.model.gradient_checkpointing_enable({"use_reentrant": False})


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Enable transformers to compute on the meta device, where it otherwise reads values and does not fuse attention.

    Each row of a batch is one sequence, as in all batches here, and attention keeps what its fused kernels keep.
    """
    from transformers import masking_utils

    one_sequence = mock.patch.object(masking_utils, "find_packed_sequence_indices", return_value=None)
    with one_sequence, mock.patch.object(F, "scaled_dot_product_attention", _fused_attention):
        yield


def _fused_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    output: Tensor = fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return output


def vocabulary_size(model: nn.Module) -> int | None:
    """Return the number of tokens in the model's vocabulary; None if it is not a language model."""
    return int(model.model.config.vocab_size) if isinstance(model, LanguageModel) else None


def weights_differ(saved: Mapping[str, Any], own: Mapping[str, Tensor]) -> list[str]:
    """Return the sorted names of weights that are missing from one side or differ in shape."""
    return sorted(
        name
        for name in saved.keys() | own.keys()
        if name not in saved or name not in own or saved[name].shape != own[name].shape
    )
