"""Direct preference optimization: a model learns which of two answers is preferred, without a model of rewards.

The reference is the model at the start of the run. Its log-probabilities are computed once, before the first step, so
no second copy of the model exists.

Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7.
"""

import torch.nn.functional as F
from torch import Tensor, nn

# Shape letters: B pairs, 2 answers of a pair, the chosen one first, S positions, V the vocabulary.


def answer_log_probs(model: nn.Module, x_B2S: Tensor, y_B2S: Tensor) -> Tensor:
    """Return log_probs_B2 in fp32: for each answer the sum over its tokens; the prompt does not count.

    Args:
        y_B2S: The token of the answer that comes next; negative elsewhere.
    """
    logits_NSV = model(x_B2S.flatten(0, 1)).float()
    losses = F.cross_entropy(logits_NSV.flatten(0, 1), y_B2S.flatten(), reduction="none")
    return -losses.view(y_B2S.shape).sum(-1)


def loss(policy_B2: Tensor, reference_B2: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Return losses_B, and margins_B: how much more the model prefers the chosen answer than the reference does.

    Args:
        policy_B2: Log-probabilities of the answers by the model.
        reference_B2: Log-probabilities of the answers by the reference.
        beta: Strength with which the loss keeps the model near the reference.
    """
    rewards_B2 = beta * (policy_B2 - reference_B2)
    margins_B = rewards_B2[:, 0] - rewards_B2[:, 1]
    return -F.logsigmoid(margins_B), margins_B
