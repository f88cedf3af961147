"""LoRA adapters for a language model in a local directory."""

from workloads.training.config import HuggingFace, Lora, Optimizer, Saving, Schedule, Text, TrainingConfig


def lora() -> TrainingConfig:
    """Return a configuration in which only the paths have to change for a first try.

    Source of the rate: Hu et al. 2021, arXiv:2106.09685, appendix D, tables 11 and 12.
    """
    return TrainingConfig(
        name="lora",
        model=HuggingFace(path="/srv/hot/model", lora=Lora()),
        data=Text(path="/srv/hot/text", sequence_length=1024, tokenizer="/srv/hot/model", held_out=0.05),
        steps=1000,
        global_batch=32,
        accumulate=8,
        optimizer=Optimizer(learning_rate=2e-4, weight_decay=0.01, clip_norm=1.0),
        schedule=Schedule(kind="cosine", warmup_steps=30),
        saving=Saving(every_steps=100),
    )
