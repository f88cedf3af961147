"""The load of experts: counted for each router, and balanced by the way of the model.

DeepSeek's routers have a bias for each expert, which follows its load (DeepSeek-V3 Technical Report, arXiv:2412.19437,
section 2.1.2). Others have an auxiliary loss (Fedus et al. 2021, arXiv:2101.03961, section 2.2), which transformers
defines beside each model, and which each layer gets here.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from workloads.training.models import BIASES, LanguageModel
from workloads.training.workers import Workers

# Shape letters: T tokens, E experts of a router, K experts of a token.

LossFunction = Callable[..., Tensor]


class ExpertBalancer:
    """Counts the tokens that each expert of a model gets, and balances the routers that are trained."""

    def __init__(self, model: nn.Module, speed: float, weight: float | None = None) -> None:
        """
        Args:
            speed: Change of a bias in one step.
            weight: Weight of the auxiliary loss; None for that of the model.
        """
        self._speed = speed
        self._routers = routers(model)
        trained = [router.is_trained for router in self._routers]
        self._biases = [router.bias if router.is_trained else None for router in self._routers]
        own = _own_weight(model) if weight is None else weight
        self._function = _loss_function(model)
        self._weight = own if self._function and any(trained) else 0.0
        self._counts: list[Tensor | None] = [None] * len(self._routers)
        """Tokens of each expert of each router in this step, in this process."""
        self._loads: list[Tensor] = []
        """Tokens over all processes since the last report."""
        self._losses = torch.zeros(2)
        """Sum of the auxiliary losses since the last report, and their number."""
        self._is_recording = False
        self._mask_T: Tensor | None = None
        self._logits: list[Tensor] = []
        self._chosen = 0
        for number, router in enumerate(self._routers):
            router.module.register_forward_hook(partial(self._record, number))

    @property
    def has_routers(self) -> bool:
        return bool(self._routers)

    def __str__(self) -> str:
        ways = ["a bias for each expert"] * (self._speed > 0 and any(bias is not None for bias in self._biases))
        ways += [f"the model's auxiliary loss with weight {self._weight:g}"] * (self._weight > 0)
        return f"{len(self._routers)} routers, " + (f"balanced by {' and '.join(ways)}" if ways else "not balanced")

    @contextmanager
    def recording(self, y: Tensor | None) -> Iterator[None]:
        """Count the tokens of the forward pass in this context, which is one of training.

        Args:
            y: The answers of the batch, to leave out the positions after the last answer of a row, which have no
                tokens; None if all positions have tokens.
        """
        self._logits.clear()
        self._mask_T = None if y is None else (y >= 0).flip(-1).cummax(-1).values.flip(-1).flatten()
        self._is_recording = bool(self._routers)
        try:
            yield
        finally:
            self._is_recording = False  # the backward pass may compute the routers again

    def _record(self, number: int, module: nn.Module, inputs: object, outputs: Tensor | tuple[Any, ...]) -> None:
        if not self._is_recording:
            return
        logits_TE, chosen_TK = self._routers[number].choice(outputs)
        ones = torch.ones_like(chosen_TK)
        mask_T = self._mask_T
        if mask_T is not None and len(mask_T) == len(logits_TE):
            ones = ones * mask_T.to(ones.device).unsqueeze(1)
        counts = self._counts[number]
        if counts is None:
            counts = torch.zeros(logits_TE.shape[-1], dtype=torch.long, device=chosen_TK.device)
        self._counts[number] = counts.scatter_add(0, chosen_TK.flatten(), ones.flatten())
        if self._weight and torch.is_grad_enabled():
            self._logits.append(logits_TE)
            self._chosen = chosen_TK.shape[1]

    def loss(self) -> Tensor | None:
        """Return the weighted auxiliary loss of the last recorded pass; None if the model has none."""
        logits, self._logits = self._logits, []
        if not logits or not len(logits[0]) or self._function is None:
            return None
        mask_T = self._mask_T
        mask = mask_T if mask_T is not None and len(mask_T) == len(logits[0]) else None
        # each layer by itself: over all layers together, the load of one may make up for that of another
        losses = [self._function((each.float(),), each.shape[-1], self._chosen, mask) for each in logits]
        loss = torch.stack(losses).mean()
        self._losses = self._losses.to(loss.device) + torch.stack([loss.detach(), torch.ones_like(loss.detach())])
        return self._weight * loss

    @torch.no_grad()
    def adjust(self, workers: Workers) -> None:
        """Add the load of a step over all processes, and move each bias against it; all processes call it."""
        counts = [each for each in self._counts if each is not None]
        if not counts:
            return
        loads = workers.all_reduce_sum(torch.cat(counts)).split([len(each) for each in counts])
        known = [bias for bias, each in zip(self._biases, self._counts, strict=True) if each is not None]
        for bias, load in zip(known, loads, strict=True):
            if bias is not None:
                bias.sub_((load - load.float().mean()).sign().view_as(bias), alpha=self._speed)
        self._loads = [old + new for old, new in zip(self._loads or [0] * len(loads), loads, strict=True)]
        self._counts = [None if each is None else torch.zeros_like(each) for each in self._counts]

    def metrics(self) -> dict[str, float]:
        """Return the load since the last call: extremes as multiples of the mean, and the experts without a token.

        With an auxiliary loss, its mean in this process follows.
        """
        loads, self._loads = self._loads, []
        if not loads:
            return {}
        shares = torch.cat([load / load.float().mean() for load in loads])
        values = {
            "expert_load_max": float(shares.max()),
            "expert_load_min": float(shares.min()),
            "experts_unused": int(sum((load == 0).sum() for load in loads)),
        }
        total, number = self._losses.tolist()
        self._losses = torch.zeros(2)
        return values | ({"router_loss": total / number} if number else {})


@dataclass(frozen=True, slots=True)
class Router:
    """A module that chooses the experts of each token."""

    module: nn.Module
    block: nn.Module | None
    """The module around it, which has the experts; some have the bias of each expert as well."""
    place: int
    """Place of the logits in the outputs of the module."""

    @property
    def is_trained(self) -> bool:
        return all(weight.requires_grad for weight in self.module.parameters())

    @property
    def bias(self) -> Tensor | None:
        """The bias of each expert; None without one."""
        own = [module._buffers.get(name) for module in self.module.modules() for name in BIASES]
        around = [self.block._buffers.get(name) for name in BIASES] if self.block else []
        return next((bias for bias in (*own, *around) if bias is not None), None)

    def choice(self, outputs: Tensor | tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Return logits_TE and the chosen experts, chosen_TK, in *outputs* of the module.

        Outputs without them, as those of Llama 4, JetMoe and DBRX, choose the experts of the largest logits.
        """
        parts = (outputs,) if isinstance(outputs, Tensor) else outputs
        logits_TE: Tensor = parts[self.place].flatten(0, -2)
        indices = [] if self.place else [each for each in parts if not each.is_floating_point()]
        if indices:
            return logits_TE, indices[0].reshape(len(logits_TE), -1)
        number: Any = getattr(self.module, "top_k", None) or getattr(self.block, "top_k", 1)
        return logits_TE, logits_TE.topk(number).indices


def routers(model: nn.Module) -> list[Router]:
    """Return the routers of *model*: those that transformers records, else those with a bias for each expert.

    Routers of product keys are left out: their logits are not those of experts (arXiv:2407.04153).
    """
    places = _logit_places(model)
    blocks = {id(child): module for module in model.modules() for child in module.children()}
    found = []
    for module in model.modules():
        place = next((place for kind, place in places.items() if isinstance(module, kind)), None)
        if place is None and not places and "e_score_correction_bias" in module._buffers:
            place = 0
        if place is not None and not hasattr(module, "num_keys"):
            found.append(Router(module, blocks.get(id(module)), place))
    return found


def _logit_places(model: nn.Module) -> dict[type[nn.Module], int]:
    """Return the classes of routers that transformers records in *model*, with the places of their logits.

    The class of a whole model may leave that to the one inside it, as Llama 4 does.
    """
    found: dict[type[nn.Module], int] = {}
    for module in model.modules():
        entries = (getattr(module, "_can_record_outputs", None) or {}).get("router_logits") or ()
        for entry in entries if isinstance(entries, list | tuple) else [entries]:
            kind = getattr(entry, "target_class", entry)
            if isinstance(kind, type):
                found[kind] = getattr(entry, "index", 0)
    return found


def _own_weight(model: nn.Module) -> float:
    """Return the weight of the auxiliary loss in the configuration of *model*; 0 if it has none."""
    settings = model.model.config.get_text_config() if isinstance(model, LanguageModel) else None
    return float(getattr(settings, "router_aux_loss_coef", None) or 0)


def _loss_function(model: nn.Module) -> LossFunction | None:
    """Return the auxiliary loss that transformers defines beside the class of *model*; None if it defines none."""
    classes = type(model.model).__mro__ if isinstance(model, LanguageModel) else ()
    modules = (sys.modules.get(each.__module__) for each in classes)  # FSDP derives a class of its own
    return next((f for module in modules if (f := getattr(module, "load_balancing_loss_func", None))), None)
