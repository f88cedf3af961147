"""Direct preference optimization of a language model in a local directory."""

from workloads.training.config import HuggingFace, Optimizer, Preferences, Saving, Schedule, TrainingConfig


def dpo() -> TrainingConfig:
    """Return a configuration in which only the paths have to change for a first try.

    Source of beta, batch, rate and warmup: Rafailov et al. 2023, arXiv:2305.18290, appendix B.
    """
    return TrainingConfig(
        name="dpo",
        model=HuggingFace(path="/srv/hot/model"),
        data=Preferences(path="/srv/hot/pairs.jsonl", sequence_length=1024, tokenizer="/srv/hot/model"),
        steps=1000,
        global_batch=64,
        accumulate=16,
        optimizer=Optimizer(learning_rate=1e-6, clip_norm=1.0),
        schedule=Schedule(kind="cosine", warmup_steps=150),
        dpo_beta=0.1,
        saving=Saving(every_steps=100),
    )
