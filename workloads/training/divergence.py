"""Detection of a diverged training: a loss, gradient or weight that is not a finite number."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.training.sharded import local_part


class DivergenceError(UserError):
    """A loss, gradient or weight that is not a finite number."""

    exit_status = 4


def divergence(step: int, problem: str, last_good: int | None) -> DivergenceError:
    """Return the error of a training that diverged at *step*.

    Args:
        last_good: Step of the newest checkpoint, all of whose numbers are finite; None if there is none.
    """
    note = f"the last good checkpoint is that of step {last_good}" if last_good else "the run has no checkpoint yet"
    help = "Lower the learning rate, or set clip_norm, and start the run again"
    return DivergenceError(Diagnostic(f"step {step}", problem, "finite numbers", help, note))


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether all numbers in this process's parts of *tensors* are finite."""
    parts = [part for part in map(local_part, tensors) if part.is_floating_point() and part.numel()]
    # the norm with the largest value: unlike a sum of squares it does not overflow
    norm = nn.utils.get_total_norm([part.detach() for part in parts], norm_type=torch.inf)
    return bool(torch.isfinite(norm))
