"""Tensor and expert parallelism of a language model, by the plans of transformers and PyTorch's distributed tensors.

Tensor parallelism divides the linear layers of each block: a group of processes computes parts of the features of one
batch. Expert parallelism divides the experts: each process has some of them, and receives the tokens that they get.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from workloads.errors import Diagnostic, UserError
from workloads.training import multi_token
from workloads.training.config import TrainingConfig
from workloads.training.models import LanguageModel

Plan = Mapping[str, str]
"""The style of each module and weight, by name in the model of transformers."""
EXCHANGE = "ep_dispatch_experts"
"""Style of a module that exchanges tokens between the processes that have its experts."""
DIMENSIONS = {"colwise": -2, "packed_colwise": -2, "rowwise": -1, "packed_rowwise": -1, "grouped_gemm": 0}
"""The dimension of a weight that each style divides; other styles leave weights whole."""


def tensor_plan(model: nn.Module, with_experts: bool = True) -> Plan:
    """Return the plan of tensor parallelism for the blocks of *model*; embedding and head stay whole.

    Args:
        with_experts: Whether the plan divides experts; otherwise expert parallelism does.
    """
    plan = _plan_of(model, "tp_plan")
    other = {} if with_experts else expert_plan(model)
    return {name: style for name, style in plan.items() if name not in other}


def expert_plan(model: nn.Module) -> Plan:
    """Return the plan of expert parallelism for *model*; empty if it has no experts or transformers no plan."""
    return _plan_of(model, "ep_plan")


def _plan_of(model: nn.Module, name: str) -> Plan:
    """Return a plan of transformers for the blocks of *model*, with the number of each layer in the place of ``*``."""
    if not isinstance(model, LanguageModel):
        return {}
    plan = getattr(model.model, name, None) or {}
    inside = {each: style for each, style in plan.items() if ".layers.*." in each}
    both = inside | {multi_token.inside(each): style for each, style in inside.items()}
    expanded: Plan = model.model._expand_parallel_plan(both)
    return expanded


def check(config: TrainingConfig, model: nn.Module) -> None:
    """Raise if transformers has no plan for *model*, or its layers cannot be divided.

    Args:
        model: The model on the meta device.

    Raises:
        UserError: The message gives the numbers that do not fit. All problems are reported.
    """
    problems = [*_tensor_problems(config, model), *_expert_problems(config, model)]
    if problems:
        raise UserError(*problems)


def _tensor_problems(config: TrainingConfig, model: nn.Module) -> Iterator[Diagnostic]:
    parts = config.tensor_parallel
    if parts == 1 or not isinstance(model, LanguageModel):
        return
    settings = model.model.config
    plan = tensor_plan(model, config.expert_parallel == 1)
    if not plan:
        problem = f"transformers has no plan for a model of type {settings.model_type}"
        yield Diagnostic("tensor_parallel", problem, "1 for this model", "Write tensor_parallel: 1")
        return
    sizes = {f"{name} of size {size}": size for name, size in _divided_weights(model, plan)}
    if any(name.endswith(".k_proj") for name in plan):  # a part has whole heads
        heads = {"attention heads": settings.num_attention_heads, "key-value heads": settings.num_key_value_heads}
        sizes |= {f"{number} {name}": number for name, number in heads.items()}
    wrong = [name for name, size in sizes.items() if size % parts]
    if wrong:
        more = f", and {len(wrong) - 1} others" if wrong[1:] else ""
        problem = f"{parts} parts do not divide {wrong[-1]}{more}"
        yield Diagnostic("tensor_parallel", problem, "a divisor of these numbers", "Write a smaller tensor_parallel")


def _expert_problems(config: TrainingConfig, model: nn.Module) -> Iterator[Diagnostic]:
    parts = config.expert_parallel
    if parts == 1 or not isinstance(model, LanguageModel):
        return
    plan = expert_plan(model)
    if not plan:
        problem = f"a model of type {model.model.config.model_type} has no experts that transformers can divide"
        yield Diagnostic("expert_parallel", problem, "1 for this model", "Write expert_parallel: 1")
        return
    numbers = {size for _, size in _divided_weights(model, plan)}
    if any(number % parts for number in numbers):
        problem = f"{parts} parts do not divide {' and '.join(map(str, sorted(numbers)))} experts"
        yield Diagnostic("expert_parallel", problem, "a divisor of the number of experts", "Write another number")


def _divided_weights(model: LanguageModel, plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield the weights of *model* that *plan* divides, and the size of the dimension that it divides."""
    weights = dict(model.model.named_parameters())
    for name, style in plan.items():
        dimension = _dimension(name, style)
        if name in weights and dimension is not None:
            yield name, weights[name].shape[dimension]


def _dimension(name: str, style: str) -> int | None:
    """Return the dimension of the weight *name* that *style* divides; None if the weight stays whole."""
    if name.endswith(".bias"):
        return -1 if DIMENSIONS.get(style) == -2 else None
    return DIMENSIONS.get(style)


def local_model(config: TrainingConfig, model: nn.Module) -> nn.Module:
    """Return *model*, on the meta device, with the weights of one process before FSDP divides their rows."""
    if config.tensor_parallel == config.expert_parallel == 1 or not isinstance(model, LanguageModel):
        return model
    local = copy.deepcopy(model)
    plans = [(tensor_plan(model, config.expert_parallel == 1), config.tensor_parallel)] * (config.tensor_parallel > 1)
    plans += [(expert_plan(model), config.expert_parallel)] * (config.expert_parallel > 1)
    for plan, parts in plans:
        for name, size in _divided_weights(local, plan):
            dimension = _dimension(name, plan[name])
            weight = local.model.get_parameter(name)
            assert dimension is not None
            weight.data = weight.data.narrow(dimension, 0, -(-size // parts))
    return local


def exchanged_weights(config: TrainingConfig, model: nn.Module) -> list[Tensor]:
    """Return the weights of *model* that expert parallelism divides among processes."""
    if config.expert_parallel == 1 or not isinstance(model, LanguageModel):
        return []
    return [model.model.get_parameter(name) for name, _ in _divided_weights(model, expert_plan(model))]


def divide(config: TrainingConfig, model: nn.Module, tensor_mesh: Any, expert_mesh: Any) -> list[nn.Module]:
    """Divide the layers of *model*, on the meta device; return the modules whose experts are divided.

    Args:
        tensor_mesh: The processes that share a batch; one process without tensor parallelism.
        expert_mesh: The processes that have all experts together.
    """
    from transformers.distributed.expert_parallel import apply_expert_parallelism
    from transformers.distributed.tensor_parallel import apply_tensor_parallelism

    assert isinstance(model, LanguageModel)
    if config.tensor_parallel > 1:
        apply_tensor_parallelism(model.model, tensor_mesh, dict(tensor_plan(model, config.expert_parallel == 1)))
    if config.expert_parallel == 1:
        return []
    plan = dict(expert_plan(model))
    apply_expert_parallelism(model.model, expert_mesh, tensor_mesh, plan)
    return [model.model.get_submodule(name) for name, style in plan.items() if style == EXCHANGE]
