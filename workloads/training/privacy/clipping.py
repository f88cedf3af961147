"""Gradients of records and persons, clipped and summed, with the gradients of single rows by opacus.

The gradient of a row is that of its sum of losses. The rows of a record, such as both answers of a pair, are added
before the norm is taken, so that the clip bounds the record and not its parts.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.training.lora import LoraLinear

# Shape letters: N rows of a pass, I and O features in and out of a layer, R the adapter's rank.

PROOF_ROWS = 3
PROOF_BOUND = 1e-3
"""Largest difference of a row's gradient from the one that PyTorch computes of this row alone, as a part of its norm.

Measured: 1e-6 in fp32 on a CPU."""


class RowGradients:
    """The gradients of single rows, which the backward pass leaves at each trained weight."""

    def __init__(self, model: nn.Module) -> None:
        """
        Raises:
            UserError: The model has a layer whose rows share a gradient.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # opacus imports more than is used here
            from opacus.grad_sample import GradSampleHooks
            from opacus.validators import ModuleValidator

        warnings.filterwarnings("ignore", "Full backward hook is firing")  # images need no gradient
        GradSampleHooks.GRAD_SAMPLERS.setdefault(LoraLinear, _adapter_gradients)
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        if errors := ModuleValidator.validate(model.train()):
            raise _model_error(f"{errors[0]}".splitlines()[0])
        try:
            self._hooks = GradSampleHooks(model, loss_reduction="sum")
        except NotImplementedError as error:
            raise _model_error(f"{error}".splitlines()[0]) from error

    def take(self) -> list[Tensor | None]:
        """Return the gradients of the rows of the last backward pass, and forget them; None for an unused weight."""
        taken: list[Tensor | None] = []
        for weight in self.weights:
            each: Any = weight
            rows = getattr(each, "grad_sample", None)
            if isinstance(rows, list):
                raise RuntimeError("two passes before the gradients of the first one were taken")
            taken.append(None if rows is None else rows.float())
            each.grad_sample = each.grad = None
        return taken

    def enable(self, enabled: bool) -> None:
        """Compute the gradients of rows from now on, or not."""
        self._hooks.enable_hooks() if enabled else self._hooks.disable_hooks()


def _adapter_gradients(
    layer: LoraLinear, activations: Sequence[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """Return the gradients of each row for both matrices of an adapter; its frozen layer has none."""
    x_NSI, g_NSO = (each.float().reshape(len(each), -1, each.shape[-1]) for each in (activations[0], backprops))
    g_NSO = g_NSO * layer.scale
    a_RI, b_OR = layer.a_RI.float(), layer.b_OR.float()
    return {
        layer.a_RI: torch.einsum("nsr,nsi->nri", g_NSO @ b_OR, x_NSI),
        layer.b_OR: torch.einsum("nso,nsr->nor", g_NSO, x_NSI @ a_RI.T),
    }


def _model_error(problem: str) -> UserError:
    expected, help = "layers with a gradient for each row", "Train a part of the model with LoRA, or another model"
    return UserError(Diagnostic("privacy", f"the model cannot be trained privately: {problem}", expected, help))


@torch.no_grad()
def clipped_sum(rows: Sequence[Tensor | None], owners: Tensor, count: int, clip: float) -> list[Tensor | None]:
    """Return the sum over *count* records or persons of their gradients, each with a norm of at most *clip*.

    An owner whose gradient is not finite counts as zero: a stop because of it would be seen.

    Args:
        rows: Gradients of single rows for each weight; None for a weight that the pass did not use.
        owners: Number of the owner of each row.
    """
    summed = [None if each is None else _by_owner(each, owners, count) for each in rows]
    squares = [each.flatten(1).double().square().sum(1) for each in summed if each is not None]
    if not squares:
        return [None for _ in rows]
    norms = torch.stack(squares).sum(0).sqrt()
    finite = norms.isfinite()
    # the margin covers the rounding of the sum below
    factors = torch.where(finite, (clip * (1 - 1e-6) / norms.clamp(min=1e-30)).clamp(max=1.0), 0.0)
    return [
        None
        if each is None
        else torch.einsum("n,n...->...", factors.to(each.dtype), torch.where(_like(finite, each), each, 0.0))
        for each in summed
    ]


def _by_owner(rows: Tensor, owners: Tensor, count: int) -> Tensor:
    if count == len(rows):  # each row is an owner, in this order
        return rows
    return torch.zeros(count, *rows.shape[1:], device=rows.device).index_add_(0, owners, rows)


def _like(flags: Tensor, tensor: Tensor) -> Tensor:
    return flags.reshape(-1, *[1] * (tensor.dim() - 1))


def prove(gradients: RowGradients, loss: Callable[[slice], Tensor], rows_each: int = 1) -> None:
    """Raise unless the gradient of each record is the one that PyTorch computes of this record alone.

    Layers whose rows see each other, weights that two layers share, and functions beside the hooks fail here. The
    weights are disturbed during the proof: those of a new adapter are zero, and so would its gradients be.

    Args:
        loss: Function that returns the sum of losses of some of `PROOF_ROWS` records of random numbers.
        rows_each: Rows of the model for one record.

    Raises:
        UserError: They differ.
    """
    kept = [weight.detach().clone() for weight in gradients.weights]
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for weight in gradients.weights:
                weight += 0.02 * torch.randn(weight.shape, generator=generator).to(weight)
        wrong = _difference(gradients, loss, rows_each)
    finally:
        gradients.take()
        gradients.enable(True)
        with torch.no_grad():
            for weight, before in zip(gradients.weights, kept, strict=True):
                weight.copy_(before)
    if wrong > PROOF_BOUND:
        raise _model_error(f"the gradient of a row differs by {wrong:.2g} of its norm from that of the row alone")


def _difference(gradients: RowGradients, loss: Callable[[slice], Tensor], rows_each: int) -> float:
    gradients.enable(True)
    try:
        loss(slice(0, PROOF_ROWS)).backward()
    except Exception as error:  # functorch and the samplers of opacus refuse layers, each in its own way
        raise _model_error(f"{type(error).__name__}: {error}".splitlines()[0][:200]) from error
    owners = torch.arange(PROOF_ROWS).repeat_interleave(rows_each)
    rows = gradients.take()
    if any(each is not None and len(each) != len(owners) for each in rows):
        return float("inf")
    records = [None if each is None else _by_owner(each, owners.to(each.device), PROOF_ROWS) for each in rows]
    gradients.enable(False)
    largest = 0.0
    for number in range(PROOF_ROWS):
        alone = torch.autograd.grad(loss(slice(number, number + 1)), gradients.weights, allow_unused=True)
        pairs = [*zip(alone, records, strict=True)]
        norm = torch.stack([each.double().square().sum() for each in alone if each is not None]).sum().sqrt()
        for one, each in pairs:
            if one is not None:
                other = torch.zeros_like(one) if each is None else each[number]
                largest = max(largest, float((one.double() - other.double()).norm() / norm))
    return largest
