"""The learning rate as a function of epoch and step."""

import math

from workloads.training.config import TrainingConfig


def adaptive(epoch: int) -> float:
    """Return the guide's factor for continual fine-tuning: small at first, then 1, then exponential decay."""
    if epoch < 5:
        return 0.1
    if epoch < 20:
        return 1.0
    return float(0.95 ** (epoch - 20))


def linear_ramp(step: int, warmup_steps: int) -> float:
    """Return a factor that rises in equal parts to 1 at *warmup_steps* and stays at 1; the first step has one part."""
    return min(1.0, (step + 1) / (warmup_steps + 1))


def cosine(step: int, steps: int, warmup_steps: int) -> float:
    """Return the factor of the ramp, and after the ramp of half a cosine from 1 to 0 at *steps*.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts.
    """
    if step < warmup_steps:
        return linear_ramp(step, warmup_steps)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def learning_rate(config: TrainingConfig, step: int, epoch: int, world: int) -> float:
    """Return the learning rate of the step after *step* steps, in *epoch*, with *world* processes.

    Source of the linear scaling: Goyal et al. 2017, arXiv:1706.02677, section 2.1. Its gradual warmup is linear_ramp.
    """
    schedule = config.schedule
    factor = {
        "constant": lambda: 1.0,
        "linear_ramp": lambda: linear_ramp(step, schedule.warmup_steps),
        "cosine": lambda: cosine(step, config.steps, schedule.warmup_steps),
        "adaptive": lambda: adaptive(epoch),
    }[schedule.kind]()
    return config.optimizer.learning_rate * factor * (world if schedule.scale_by_world else 1)
