"""Group relative policy optimization: a model learns from rules that score its own answers, without a critic.

Each step learns from answers that the same weights have just written. The ratio between the probabilities of the
writing and the learning model is therefore 1, and clipping it would change nothing.

Sources: Shao et al. 2024, arXiv:2402.03300, section 4.1; DeepSeek-R1, arXiv:2501.12948, version 1, section 2.2; the
mean over all tokens of a batch is that of DAPO, arXiv:2503.14476, equation 8.
"""

import torch.nn.functional as F
from torch import Tensor, nn

ADVANTAGE, REWARD, RIGHT, CUT = range(4)
"""Columns of the outcomes of answers: advantage, reward, whether all rules hold, and whether the answer was cut off."""
EPSILON = 1e-4
"""Smallest deviation of rewards that divides an advantage."""
# Shape letters: N tasks, G answers of a group, B answers, S positions of a prompt with its answer, V the vocabulary.


def advantages(rewards_NG: Tensor) -> Tensor:
    """Return advantages_NG: how far each reward is from the mean of its group, in deviations; 0 in a group of equals.

    Source: arXiv:2402.03300, section 4.1.2.
    """
    centered = rewards_NG - rewards_NG.mean(1, keepdim=True)
    return centered / (rewards_NG.std(1, keepdim=True) + EPSILON)


def loss(model: nn.Module, x_BS: Tensor, y_BS: Tensor, advantages_B: Tensor, temperature: float) -> Tensor:
    """Return the sum over all tokens of answers: the negative log-probability, times the advantage of the answer."""
    logits_BSV = model(x_BS).float() / temperature
    losses = F.cross_entropy(logits_BSV.flatten(0, 1), y_BS.flatten(), reduction="none").view(y_BS.shape)
    return (losses * advantages_B[:, None]).sum()
