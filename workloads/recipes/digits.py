"""Handwritten digits: a complete run from data to the held-out accuracy, in seconds on a CPU."""

from workloads.training.config import Digits, ImageClassifier, Optimizer, Saving, Schedule, TrainingConfig


def digits() -> TrainingConfig:
    return TrainingConfig(
        name="digits",
        model=ImageClassifier(side=8, classes=10),
        data=Digits(),
        steps=300,
        global_batch=96,
        optimizer=Optimizer(learning_rate=2e-3, weight_decay=0.01),
        schedule=Schedule(kind="cosine", warmup_steps=20),
        report_every_steps=20,
        saving=Saving(every_steps=100),
    )
