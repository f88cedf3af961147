"""Recipes: functions that return a complete configuration, by name. To add a recipe, add a function."""

from collections.abc import Callable

from workloads.recipes.deepseek import deepseek_v3, deepseek_v3_tiny
from workloads.recipes.digits import digits
from workloads.recipes.dpo import dpo
from workloads.recipes.grpo import grpo
from workloads.recipes.lora import lora
from workloads.training.config import TrainingConfig

RECIPES: dict[str, Callable[[], TrainingConfig]] = {
    "digits": digits,
    "deepseek-v3-tiny": deepseek_v3_tiny,
    "deepseek-v3": deepseek_v3,
    "lora": lora,
    "dpo": dpo,
    "grpo": grpo,
}
