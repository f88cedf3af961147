"""Cross-entropy of a language model in chunks of positions: the logits of a whole pass never exist.

Logits of 4096 positions and 128,256 tokens take 2.1 GB in fp32, and their gradient as much again. PyTorch's function
computes the gradients of a chunk with its logits, and keeps the gradients alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Shape letters: N positions, V the vocabulary, D features of a position.

COUNTED_BYTES = 64 << 20
"""Size of the logits of a chunk in `count`."""


def loss(hidden_ND: Tensor, head_VD: Tensor, y_N: Tensor, counting: bool) -> tuple[Tensor, Tensor | None]:
    """Return the sum of the losses for the backward pass, and the result of `count` if *counting* or evaluating.

    PyTorch returns the sum in the type of the features, which in bf16 has three digits, so a report takes that of
    `count`. The gradient of the sum has that type, too: all gradients have a common factor between 0.996 and 1.004.
    """
    kind = hidden_ND.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        hidden_ND, head_VD = hidden_ND.to(dtype), head_VD.to(dtype)
    if not torch.is_grad_enabled():
        counted = count(hidden_ND, head_VD, y_N)
        return counted[0], counted
    with torch.autocast(kind, enabled=False):
        options = torch.nn.LinearCrossEntropyOptions()
        summed: Tensor = F.linear_cross_entropy(hidden_ND, head_VD, y_N, reduction="sum", options=options)
    return summed, count(hidden_ND, head_VD, y_N) if counting else None


@torch.no_grad()
def count(hidden_ND: Tensor, head_VD: Tensor, y_N: Tensor) -> Tensor:
    """Return the sum of the losses and the number of right answers, in fp32."""
    rows = max(1, COUNTED_BYTES // (4 * len(head_VD)))
    totals = torch.zeros(2, device=hidden_ND.device)
    for features, answers in zip(hidden_ND.split(rows), y_N.split(rows), strict=True):
        logits = F.linear(features, head_VD).float()
        right = (logits.argmax(-1) == answers).sum()
        totals += torch.stack([F.cross_entropy(logits, answers, reduction="sum"), right.float()])
    return totals


def chunk_rows(positions: int, vocabulary: int, width: int) -> int:
    """Return the positions of a chunk, by PyTorch's rule: its logits take as much as all features.

    Source: PyTorch 2.13, torch.nn.LinearCrossEntropyOptions, chunking_method aspect_ratio.
    """
    rows = -(-positions // -(-vocabulary // width))
    return min(positions, 1 << max(0, rows - 1).bit_length())


def flops(features_shape: torch.Size, head_shape: torch.Size, *_: object, **__: object) -> int:
    """Return the operations of PyTorch's function: the logits and both gradients, each a product of two matrices."""
    positions, width = map(int, features_shape)
    return 6 * positions * width * int(head_shape[0])
