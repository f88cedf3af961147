"""Group relative policy optimization of a language model in a local directory, by rules that score its answers."""

from workloads.training.config import Grpo, HuggingFace, Optimizer, Reward, Saving, Schedule, Tasks, TrainingConfig


def grpo() -> TrainingConfig:
    """Return a configuration in which only the paths have to change for a first try.

    Source of the group, temperature, rate and batch of 32 prompts: DeepSeek-R1, arXiv:2501.12948, version 2, on
    DeepSeek-R1-Zero.
    """
    return TrainingConfig(
        name="grpo",
        model=HuggingFace(path="/srv/hot/model"),
        data=Tasks(
            path="/srv/hot/tasks.jsonl", tokenizer="/srv/hot/model", sequence_length=2048, answer_tokens=1536,
            rewards=(Reward(kind="boxed"), Reward(kind="thought", weight=0.1)),
        ),
        grpo=Grpo(group=16, temperature=1.0),
        steps=500,
        global_batch=32,
        accumulate=32,  # a prompt, with all its answers, at once
        optimizer=Optimizer(learning_rate=3e-6, clip_norm=1.0),
        schedule=Schedule(kind="linear_ramp", warmup_steps=10),
        report_every_steps=1,
        saving=Saving(every_steps=50),
    )  # fmt: skip
