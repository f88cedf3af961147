"""What a training run is, complete: nothing of it comes from anywhere else. No PyTorch is needed to read it."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Share = Annotated[float, Field(ge=0, lt=1)]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class ImageClassifier(Strict):
    """Two convolutions and a linear head, for small grey images."""

    kind: Literal["image-classifier"] = "image-classifier"
    side: PositiveInt
    """Pixels of a side, of which there are as many in width as in height."""
    classes: PositiveInt
    channels: PositiveInt = 32


class DeepseekV3(Strict):
    """A language model of DeepSeek-V3's shape: multi-head latent attention and a mixture of experts.

    The names are those of transformers' ``DeepseekV3Config``, which has the rest of the values.
    """

    kind: Literal["deepseek-v3"] = "deepseek-v3"
    vocab_size: PositiveInt
    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    moe_intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt
    first_k_dense_replace: int
    """Layers at the beginning that have no experts."""
    num_attention_heads: PositiveInt
    n_routed_experts: PositiveInt
    n_shared_experts: PositiveInt
    num_experts_per_tok: PositiveInt
    n_group: PositiveInt
    topk_group: PositiveInt
    q_lora_rank: PositiveInt
    kv_lora_rank: PositiveInt
    qk_nope_head_dim: PositiveInt
    qk_rope_head_dim: PositiveInt
    v_head_dim: PositiveInt
    max_position_embeddings: PositiveInt


class Digits(Strict):
    """scikit-learn's 1797 handwritten digits of 8 by 8 pixels; they come with the package."""

    kind: Literal["digits"] = "digits"
    held_out: Share = 0.2
    """The share at the end that is not trained on."""


class Text(Strict):
    """Local text files, byte by byte: the vocabulary is 256 bytes."""

    kind: Literal["text"] = "text"
    path: str
    """A file, or a directory that *pattern* is looked for in."""
    pattern: str = "*.txt"
    sequence_length: PositiveInt
    bytes_at_most: PositiveInt | None = None


class Schedule(Strict):
    """How the learning rate goes; `schedule` says what each of the kinds is."""

    kind: Literal["constant", "linear_ramp", "cosine", "adaptive"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    """Of linear_ramp and cosine."""
    scale_by_world: bool = False
    """Multiply the rate by the number of processes: the linear scaling rule."""


class Optimizer(Strict):
    kind: Literal["adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: Share = 0.9
    """Of sgd."""
    clip_norm: PositiveFloat | None = None
    """The most that the norm of all gradients may be."""


class Saving(Strict):
    """Checkpoints: one every so many steps and one at the end."""

    every_steps: PositiveInt = 100
    keep_last: PositiveInt = 3
    keep_every: PositiveInt | None = None
    """Besides, those of every so many steps for good."""


class TrainingConfig(Strict):
    """A training run. ``python -m workloads.training RECIPE --print`` writes one to begin with."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    model: ImageClassifier | DeepseekV3 = Field(discriminator="kind")
    data: Digits | Text = Field(discriminator="kind")
    steps: PositiveInt
    """Optimizer steps from the very beginning, resumed or not."""
    global_batch: PositiveInt
    """Examples per optimizer step, of all processes together."""
    accumulate: PositiveInt = 1
    """Parts that a process computes its share of the batch in, one after the other: less memory."""
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    seed: int = Field(default=0, ge=0, lt=2**31)
    device: Literal["auto", "cpu", "cuda", "rocm", "gaudi"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    launcher: Literal["any", "none", "horovod", "torchrun"] = "any"
    """Who has to have started it; anybody else's start is refused."""
    world: PositiveInt | None = None
    """Processes that there have to be at the start; None: as many as there are."""
    compression: Literal["none", "fp16"] = "none"
    """Of gradients on their way between processes."""
    elastic: bool = False
    """Processes may come and go while it runs: Horovod's elastic mode, under ``horovodrun --min-np``."""
    commit_every_steps: PositiveInt = 10
    """Of an elastic run: what a lost process may cost."""
    report_every_steps: PositiveInt = 10
    """When loss and accuracy are averaged over all processes, and told."""
    saving: Saving = Saving()

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if isinstance(self.model, ImageClassifier) != isinstance(self.data, Digits):
            raise ValueError(f"a model of kind {self.model.kind} cannot learn from data of kind {self.data.kind}")
        if isinstance(self.model, DeepseekV3) and isinstance(self.data, Text):
            if self.model.vocab_size < 256:
                raise ValueError(f"model.vocab_size is {self.model.vocab_size}; text has 256 bytes")
            if self.data.sequence_length > self.model.max_position_embeddings:
                raise ValueError(
                    f"data.sequence_length is {self.data.sequence_length}, "
                    f"model.max_position_embeddings {self.model.max_position_embeddings}"
                )
        if self.elastic and self.launcher not in ("any", "horovod"):
            raise ValueError(f"elastic is Horovod's, and launcher says {self.launcher}")
        return self
