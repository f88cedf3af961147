"""Multi-token prediction: a module beside a language model that predicts the token after the next one.

It shares embedding and head with the model. Training alone computes it; a server can draft tokens with it.

Source: DeepSeek-V3 Technical Report, arXiv:2412.19437, section 2.2, with depth 1.
"""

import re
from typing import Any

import torch
from torch import Tensor

from workloads.training.config import MultiTokenPrediction
from workloads.training.conversations import NOT_LEARNED

# Shape letters: B examples, S positions of a sequence, D features of a position.


def loss_weight(config: MultiTokenPrediction, step: int, steps: int) -> float:
    """Return the weight of the module's loss in the step that follows *step* of *steps* steps."""
    return config.weight if step < round(config.final_from * steps) else config.final_weight


def inside(name: str) -> str:
    """Return *name*, of a part of a layer of the model, as the name of this part in the module's layer."""
    return name.replace(".layers.*.", ".layers.*.mtp_block.")


def append_module(model: Any) -> None:
    """Append the module to the layers of *model*, of transformers, which does not call it by itself.

    The place has the layer's number in the checkpoints of DeepSeek-V3, so the module is sharded, recomputed and
    initialized as any layer.
    """
    from transformers.modeling_layers import MtpLayer

    inner = model.model
    layer, norm = type(inner.layers[0]), type(inner.norm)
    inner.layers.append(MtpLayer(model.config.get_mtp_config(), layer, norm, 0))


def features(model: Any, tokens_BS: Tensor, positions_BS: Tensor | None, features_BSD: Tensor) -> Tensor:
    """Return the features of which the head predicts the token after the next one, for all positions but the last.

    Args:
        positions_BS: Positions of the tokens in their sequences; None if each row is one sequence.
        features_BSD: Features of *model* after its last norm, as servers of DeepSeek-V3 use them.
    """
    from transformers.masking_utils import create_causal_mask

    inner, config = model.model, model.config
    embedded = inner.embed_tokens(tokens_BS[:, 1:])
    if positions_BS is None:
        positions_BS = torch.arange(tokens_BS.shape[1], device=tokens_BS.device).unsqueeze(0)
    positions = positions_BS[:, :-1]
    mask = create_causal_mask(
        config=config, inputs_embeds=embedded, attention_mask=None, cache=None, position_ids=positions
    )
    predicted: Tensor = inner.layers[config.num_hidden_layers](
        embedded,
        features_BSD[:, :-1],
        position_embeddings=inner.rotary_emb(embedded, position_ids=positions),
        attention_mask=mask,
        position_ids=positions,
        cache=None,
    )
    return predicted


def answers(y_BS: Tensor, positions_BS: Tensor | None) -> Tensor:
    """Return the answers of the module: the next answer of each position in its sequence, or `NOT_LEARNED`.

    Args:
        y_BS: The next token of each position.
    """
    following = y_BS[:, 1:]
    if positions_BS is None:
        return following
    return following.masked_fill(positions_BS[:, 1:] == 0, NOT_LEARNED)  # the next position begins another sequence


def checkpoint_state(model: Any) -> dict[str, Tensor]:
    """Return the state of *model* by the names in checkpoints of DeepSeek-V3, which vLLM and SGLang read.

    Each module has copies of embedding and head there.
    """
    place = f"model.layers.{model.config.num_hidden_layers}."
    state = {_checkpoint_name(name, place): tensor for name, tensor in model.state_dict().items()}
    copies = {"embed_tokens.weight": "model.embed_tokens.weight", "shared_head.head.weight": "lm_head.weight"}
    return state | {place + name: state[source].clone() for name, source in copies.items()}


def _checkpoint_name(name: str, place: str) -> str:
    if not name.startswith(place):
        return name
    return re.sub(r"\.post_norm\.", ".shared_head.norm.", name.replace(f"{place}mtp_block.", place))


def remove_module(model: Any) -> None:
    """Remove the module from *model*, for formats that have no place for it."""
    del model.model.layers[model.config.num_hidden_layers :]
    model.config.num_mtp_layers = 0
