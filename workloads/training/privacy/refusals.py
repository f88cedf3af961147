"""Settings of a run that would silently break its differential privacy, with the reason for each."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from workloads.privacy_settings import Privacy

if TYPE_CHECKING:
    from workloads.training.config import TrainingConfig

DATA = ("digits", "rows", "conversations", "preferences")
"""Kinds of data that have records."""


class Refusal(NamedTuple):
    """A setting that a run with differential privacy cannot have."""

    setting: str
    """Keys and value, as in the configuration."""
    reason: str
    help: str
    """The remedy, as an imperative sentence without its full stop."""

    def __str__(self) -> str:
        return f"privacy refuses {self.setting}: {self.reason}"


def of(config: "TrainingConfig", privacy: Privacy) -> Iterator[Refusal]:
    """Yield each setting of *config* that the promise *privacy* cannot have."""
    yield from _data(config, privacy)
    yield from _model(config)
    yield from _processes(config)
    if privacy.delta > privacy.budget.delta:
        reason = f"the total of data set {privacy.data} has delta {privacy.budget.delta:g}"
        yield Refusal(f"delta {privacy.delta:g}", reason, "Write a smaller delta")
    if privacy.epsilon > privacy.budget.epsilon:
        reason = f"the total of data set {privacy.data} has epsilon {privacy.budget.epsilon:g}"
        yield Refusal(f"epsilon {privacy.epsilon:g}", reason, "Write a smaller epsilon")


def settle(config: "TrainingConfig") -> "TrainingConfig":
    """Return *config* with the only value of each automatic setting that `of` does not refuse."""
    data = config.data
    if getattr(data, "packed", False) == "auto":
        data = data.model_copy(update={"packed": False})
    return config.model_copy(update={"data": data, "compile": False, "chunked_loss": False})


def _data(config: "TrainingConfig", privacy: Privacy) -> Iterator[Refusal]:
    kind = config.data.kind
    if kind == "text":
        yield Refusal("data.kind text", "a window of a text is no record", "Use conversations, with one row a record")
    elif kind == "tasks":
        reason = "the model learns from answers that it writes itself, which no accountant follows"
        yield Refusal("data.kind tasks", reason, "Use conversations or preferences")
    elif kind not in DATA:
        yield Refusal(f"data.kind {kind}", "it has no records", f"Use one of {', '.join(DATA)}")
    if getattr(config.data, "packed", False) is True:
        reason = "several conversations in one row have one gradient, so that none of them is clipped"
        yield Refusal("data.packed true", reason, "Write packed: false")
    if privacy.unit == "person" and kind not in ("rows", "conversations"):
        yield Refusal("unit person", f"rows of data.kind {kind} name no person", "Use rows or conversations")
    if privacy.planted_records and kind == "preferences":
        reason = "the loss of a pair of random answers says little about either"
        yield Refusal(f"planted_records {privacy.planted_records}", reason, "Remove it, or use conversations")
    if config.fine_tuning:
        reason = "the comparison with the parent publishes scores of private rows without noise"
        yield Refusal("fine_tuning", reason, "Start from the model in model.path")


def _model(config: "TrainingConfig") -> Iterator[Refusal]:
    model = config.model
    if model.kind == "deepseek-v3":
        reason = "experts see tokens of several rows, and their balance counts private tokens without noise"
        yield Refusal("model.kind deepseek-v3", reason, "Use a hugging-face model without experts")
    lora = getattr(model, "lora", None)
    if lora and lora.four_bit:
        reason = "a base of 4 bits rounds by the statistics of a whole batch"
        yield Refusal("model.lora.four_bit", reason, "Use a base of 16 bits")
    for name, reason in (
        ("compile", "compiled blocks skip the hooks that compute the gradient of each row"),
        ("chunked_loss", "the loss in chunks uses the head's weight beside the hooks that compute each row's gradient"),
        ("recompute_activations", "recomputed blocks run the hooks of each row's gradient twice"),
    ):
        if getattr(config, name) is True:
            yield Refusal(f"{name} true", reason, f"Write {name}: false")
    if config.optimizer.clip_norm:
        reason = "each row is clipped by privacy.clip, and a second clip of the sum would have no effect"
        yield Refusal("optimizer.clip_norm", reason, "Write optimizer: {clip_norm: null}")


def _processes(config: "TrainingConfig") -> Iterator[Refusal]:
    for name in ("tensor_parallel", "expert_parallel"):
        if getattr(config, name) > 1:
            reason = "each process has a part of the gradient of a row, whose norm nothing adds up"
            yield Refusal(f"{name} {getattr(config, name)}", reason, f"Remove {name}")
    if config.sharding != "none":
        reason = "processes with a part of each weight do not add up the norm of a row"
        yield Refusal(f"sharding {config.sharding}", reason, "Write sharding: none")
    if config.elastic:
        reason = "a process that is lost takes a part of a charged step with it"
        yield Refusal("elastic", reason, "Remove elastic")
    if config.compression != "none":
        reason = "rounded sums of several processes are larger than the clip"
        yield Refusal(f"compression {config.compression}", reason, "Write compression: none")
    if config.precision == "fp16":
        yield Refusal("precision fp16", "overflow in a row stops the scale of all rows", "Write precision: bf16")
