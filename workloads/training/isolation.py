"""Proof that conversations in one row of a model do not see each other, on a small copy of its shape.

Recurrent and linear layers, and some masks of transformers, do not start again where positions do. The result follows
from what the model computes, not from a list of its types.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.training import multi_token
from workloads.training.config import Conversations, Data, DeepseekV3, HuggingFace, TrainingConfig
from workloads.training.conversations import Tokens, pack
from workloads.training.models import LanguageModel, transformers_config, transformers_model

BOUND = 1e-4
"""Largest change that rounding explains, as a part of the standard deviation of the logits.

Mixtures of experts and fused kernels add numbers in another order in another row. Measured: 2e-6 in fp32 on a CPU, and
6e-3 for the smallest leak, that of Falcon-H1.
"""
LENGTHS = (40, 33, 27)
"""Tokens of the conversations in the row: the first two share a chunk of 64, the usual one of linear attention."""
FREE = 12
"""Positions after the last conversation, which a row has, too."""
VOCABULARY = 64
SMALL: Mapping[str, int] = {
    **dict.fromkeys(("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "top_k_experts", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    "n_shared_experts": 1,
}
"""Largest values of the copy for settings that only make layers wider: no token sees another one in them."""
REACHES = ("sliding_window", "attention_chunk_size", "index_topk")
"""Settings that bound how far a token sees. One that acts in a row of the run acts in the row of the proof."""
REACH = 8
S = TypeVar("S", bound=Data)


@dataclass(frozen=True, slots=True)
class Isolation:
    """The result of the proof."""

    is_proved: bool
    change: float | None
    """Largest difference of a logit from that of the same conversation alone, or with other neighbours, as a part of
    the standard deviation of all logits; None if the copy cannot be computed."""
    layers: int
    """Layers of the copy: the first ones, up to one of each sort."""
    problem: str = ""
    """Why the copy cannot be computed."""

    def __str__(self) -> str:
        if self.is_proved:
            return f"several in a row: in a copy of {self.layers} layers, neighbours change the logits by {self.figure}"
        if self.change is None:
            return f"one in a row: it is unknown whether the model keeps neighbours apart ({self.problem})"
        return f"one in a row: in a copy of {self.layers} layers, a neighbour changes the logits by {self.figure}"

    @property
    def figure(self) -> str:
        return f"{self.change:.2g} of their deviation, and rounding explains {BOUND:g}"

    def as_data(self) -> dict[str, Any]:
        """Return the record of the proof."""
        return {"proved": self.is_proved, "change": self.change, "bound": BOUND, "layers": self.layers}


def prove(config: TrainingConfig, sets: Sequence[Data], device: torch.device) -> Isolation | None:
    """Return whether the model of *config* keeps the conversations of *sets* apart; None if nothing depends on it.

    Raises:
        UserError: The data has to share rows, and the model does not keep conversations apart.
    """
    talks = [each for each in sets if isinstance(each, Conversations) and each.packed is not False]
    if not talks or not isinstance(config.model, DeepseekV3 | HuggingFace):
        return None
    result = measure(config.model, max(each.sequence_length for each in talks), device)
    if not result.is_proved and any(each.packed is True for each in talks):
        help = "Write packed: auto or packed: false"
        raise UserError(Diagnostic("data.packed", f"{result}", "a model that keeps conversations apart", help))
    return result


def settle(data: S, isolation: Isolation | None) -> S:
    """Return *data* with the decision whether conversations share rows."""
    if isolation is None or not isinstance(data, Conversations) or data.packed != "auto":
        return data
    return data.model_copy(update={"packed": isolation.is_proved})


def measure(model: DeepseekV3 | HuggingFace, sequence_length: int, device: torch.device) -> Isolation:
    """Return the proof for *model* with rows of *sequence_length* tokens, computed in fp32 on *device*.

    Raises:
        UserError: The directory has no model.
    """
    layers, changed = 0, None
    settings = transformers_config(model)
    try:
        layers, copied = _copy(settings, sequence_length, device)
        if isinstance(model, DeepseekV3) and model.mtp:
            with torch.random.fork_rng():
                multi_token.append_module(copied.model)
            draw_weights(copied)
        changed = _change(copied.to(device).eval(), device)
    except Exception as error:  # a type of model may refuse the small numbers, each in its own way
        return Isolation(False, None, layers, f"{type(error).__name__}: {error}".splitlines()[0][:200])
    return Isolation(changed <= BOUND, changed, layers)


def _copy(settings: Any, sequence_length: int, device: torch.device) -> tuple[int, LanguageModel]:
    """Return the number of layers of a small copy, and the copy with random weights."""
    with torch.device("meta"):
        whole = transformers_model(settings)
    layers = _first_layers(whole, settings.get_text_config())
    small = copy.deepcopy(settings)
    text = small.get_text_config()
    count = text.num_hidden_layers
    for name, value in vars(text).items():
        if isinstance(value, list) and len(value) == count:
            setattr(text, name, value[:layers])
        elif name in SMALL and isinstance(value, int) and value > SMALL[name]:
            setattr(text, name, SMALL[name])
        elif name in REACHES and isinstance(value, int) and REACH < value < sequence_length:
            setattr(text, name, REACH)
        elif name.endswith("_token_id"):
            setattr(text, name, None)
    text.num_hidden_layers, text.vocab_size = layers, VOCABULARY
    with torch.random.fork_rng():
        torch.manual_seed(0)
        copied = LanguageModel(transformers_model(small).float())
    draw_weights(copied)
    return layers, copied


def _first_layers(model: Any, text: Any) -> int:
    """Return the number of first layers that have a layer of each sort of *model*, at least two."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    blocks = next(each for each in lists if len(each) == text.num_hidden_layers)
    settings = [value for value in vars(text).values() if isinstance(value, list) and len(value) == len(blocks)]
    sorts = [
        (tuple((name, type(part)) for name, part in block.named_modules()), *(str(each[n]) for each in settings))
        for n, block in enumerate(blocks)
    ]
    return min(len(blocks), max(2, 1 + max(sorts.index(sort) for sort in set(sorts))))


@torch.no_grad()
def draw_weights(model: nn.Module) -> None:
    """Draw the matrices of *model* so large that each layer changes the features as much as the embedding does."""
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.copy_(torch.randn(weight.shape, generator=generator) * weight[0].numel() ** -0.5)


@torch.no_grad()
def _change(model: LanguageModel, device: torch.device) -> float:
    """Return the largest change of a logit, as a part of the standard deviation of all logits."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> list[list[int]]:
        return [torch.randint(1, VOCABULARY, (size + 1,), generator=generator).tolist() for size in LENGTHS]

    talks, others = draw(), draw()
    row = _row(talks).to(device)
    whole = _logits(model, row, slice(sum(LENGTHS)))
    deviation, largest = float(whole.std()), 0.0
    for other in _others(model, talks, others, device):
        for place, logits in other:
            largest = max(largest, float((whole[place, : logits.shape[1]] - logits).abs().max()) / deviation)
        if largest > BOUND:
            break  # one leak is enough, and linear layers are slow without their kernels
    if not math.isfinite(largest) or not math.isfinite(deviation):
        raise ValueError("the logits of the copy are not finite")
    return largest


def _others(
    model: LanguageModel, talks: list[list[int]], others: list[list[int]], device: torch.device
) -> Iterator[list[tuple[slice, Tensor]]]:
    """Yield places in the row of *talks* with the logits of the same conversations beside *others*, and alone."""
    places = list(_places())
    for number, place in enumerate(places):
        row = _row([*others[:number], talks[number], *others[number + 1 :]]).to(device)
        yield [(place, _logits(model, row, place))]
    for talk, place in zip(talks, places, strict=True):
        tokens = torch.tensor([talk[:-1]], device=device)
        yield [(place, model.model(input_ids=tokens, use_cache=False).logits[0].float().unsqueeze(1))]


def _row(talks: Sequence[Sequence[int]]) -> Tensor:
    """Return a row of *talks* as runs pack it, [1, 2, S]."""
    packed = pack([Tokens(list(each), [True] * len(each)) for each in talks], sum(LENGTHS) + FREE)
    return packed.x.long()


def _places() -> Iterator[slice]:
    """Yield the place of each conversation in the row."""
    first = 0
    for size in LENGTHS:
        yield slice(first, first + size)
        first += size


def _logits(model: LanguageModel, row: Tensor, place: slice) -> Tensor:
    """Return the logits at *place*, [S, 1 or 2, V]: those of the model, then those of multi-token prediction."""
    logits = model(row)[0, place].float()
    inner, settings = model.model, model.model.config
    if not getattr(settings, "num_mtp_layers", 0) or len(inner.model.layers) == settings.num_hidden_layers:
        return logits.unsqueeze(1)
    drafts = inner.get_output_embeddings()(multi_token.features(inner, row[:, 0], row[:, 1], model.features(row)))[0]
    drafts = torch.cat([drafts, torch.zeros_like(drafts[:1])])
    for each in _places():
        drafts[each.stop - 1] = 0  # the draft after the last token of a conversation is not learned
    return torch.stack([logits, drafts[place].float()], 1)
