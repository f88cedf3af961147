"""What a training run is, complete: nothing of it comes from anywhere else. No PyTorch is needed to read it."""

from collections.abc import Iterator
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


class Lora(Strict):
    """Low-rank adapters beside linear layers, which themselves are frozen.

    Source: Hu et al. 2021, arXiv:2106.09685, section 4; which layers, section 7.1.
    """

    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    """What an adapter adds is multiplied by alpha / rank."""
    layers: tuple[str, ...] = Field(default=("q_proj", "v_proj"), min_length=1)
    """The last parts of the names of linear layers."""


class HuggingFace(Strict):
    """A causal language model in a local directory, as transformers' ``save_pretrained`` writes it."""

    kind: Literal["hugging-face"] = "hugging-face"
    path: str
    lora: Lora | None = None
    """None: all weights are trained."""


class Digits(Strict):
    """scikit-learn's 1797 handwritten digits of 8 by 8 pixels; they come with the package."""

    kind: Literal["digits"] = "digits"
    held_out: Share = 0.2
    """The share at the end that is not trained on."""
    only: tuple[Annotated[int, Field(ge=0, le=9)], ...] = ()
    """Which digits; empty: all of them."""


class Text(Strict):
    """Local text files: byte by byte, a vocabulary of 256, or in the tokens of a model."""

    kind: Literal["text"] = "text"
    path: str
    """A file, or a directory that *pattern* is looked for in."""
    pattern: str = "*.txt"
    sequence_length: PositiveInt
    bytes_at_most: PositiveInt | None = None
    tokenizer: str | None = None
    """A directory with the tokenizer of a Hugging Face model; None: bytes."""
    held_out: Share = 0.0
    """The share at the end that is not trained on."""


class Rows(Strict):
    """Small grey images in a file of NumPy's (.npz), as a server of the model takes them: ``x``, and ``labels``."""

    kind: Literal["rows"] = "rows"
    path: str
    held_out: Share = 0.2
    """The share that is not trained on, by a hash of each row's content, or of its ``group``."""


Data = Annotated[Digits | Text | Rows, Field(discriminator="kind")]


class FineTuning(Strict):
    """A run that begins with the weights of an earlier one, its parent, and may not end worse."""

    parent: str
    """The directory of a run, or of one of its checkpoints."""
    old: tuple[Data, ...] = ()
    """What the parent has learned from; empty: as its checkpoint says."""
    replay: Share = 0.0
    """The share of every batch that is old examples: against forgetting."""
    may_lose: Share = 0.0
    """How much less accurate than its parent it may be, on what is held out of its own and of all old data."""
    evaluate_every_steps: PositiveInt = 50
    patience: PositiveInt | None = None
    """Evaluations without a smaller loss after which it stops; None: it takes all its steps."""


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
    model: ImageClassifier | DeepseekV3 | HuggingFace = Field(discriminator="kind")
    data: Data
    fine_tuning: FineTuning | None = None
    """None: it begins with random weights, or with those of *model*."""
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
    sharding: Literal["none", "full"] = "none"
    """full: weights, gradients and moments are divided among the processes, by PyTorch's FSDP under torchrun."""
    elastic: bool = False
    """Processes may come and go while it runs: Horovod's elastic mode, under ``horovodrun --min-np``."""
    commit_every_steps: PositiveInt = 10
    """Of an elastic run: what a lost process may cost."""
    report_every_steps: PositiveInt = 10
    """When loss and accuracy are averaged over all processes, and told."""
    saving: Saving = Saving()

    @property
    def replayed(self) -> int:
        """How many examples of a step are old ones."""
        return round(self.global_batch * self.fine_tuning.replay) if self.fine_tuning else 0

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        wrong = [*self._of_model(), *self._of_launcher()]
        if wrong:
            raise ValueError("; and ".join(wrong))
        return self

    def _of_model(self) -> Iterator[str]:
        sets = (self.data, *(self.fine_tuning.old if self.fine_tuning else ()))
        for data in sets:
            if isinstance(self.model, ImageClassifier) == isinstance(data, Text):
                yield f"a model of kind {self.model.kind} cannot learn from data of kind {data.kind}"
            elif isinstance(data, Text) and isinstance(self.model, DeepseekV3):
                if self.model.vocab_size < 256 and not data.tokenizer:
                    yield f"model.vocab_size is {self.model.vocab_size}; text has 256 bytes"
                if data.sequence_length > self.model.max_position_embeddings:
                    yield (
                        f"data.sequence_length is {data.sequence_length}, "
                        f"model.max_position_embeddings {self.model.max_position_embeddings}"
                    )
        if self.fine_tuning and self.fine_tuning.replay and not 0 < self.replayed < self.global_batch:
            yield f"of {self.global_batch} examples a share of {self.fine_tuning.replay} is {self.replayed}: not a part"
        lengths = {data.sequence_length for data in sets if isinstance(data, Text)}
        if len(lengths) > 1:
            yield f"old and new text have sequence_lengths of {sorted(lengths)}, and share batches"

    def _of_launcher(self) -> Iterator[str]:
        if self.elastic and self.launcher not in ("any", "horovod"):
            yield f"elastic is Horovod's, and launcher says {self.launcher}"
        if self.elastic and isinstance(self.model, HuggingFace) and self.model.lora:
            yield "elastic keeps a copy of the whole model at every commit, and model.lora freezes most of it"
        if self.sharding == "full":
            if self.elastic or self.launcher not in ("any", "torchrun"):
                yield "sharding is torchrun's; launcher says otherwise, or elastic does"
            if self.compression != "none":
                yield f"sharding sends gradients as they are, and compression says {self.compression}"
            if self.precision == "fp16":
                yield "sharding has no scaling of the loss, which fp16 needs; bf16 does not"
