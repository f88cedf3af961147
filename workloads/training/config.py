"""The complete configuration of a training run, readable without PyTorch."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from workloads.config_schema import Automatic, ConfigSchema, NotNegative, Positive, Share
from workloads.privacy_settings import Privacy
from workloads.training.privacy import refusals


def _inside(pattern: str) -> str:
    path = PurePosixPath(pattern)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ValueError("a pattern selects files below the directory, such as *.jsonl or */train.jsonl")
    return pattern


FilePattern = Annotated[str, AfterValidator(_inside)]
"""Pattern of file names below a directory, as of `pathlib.Path.glob`."""


class ImageClassifier(ConfigSchema):
    """Two convolutions and a linear head, for small grey images."""

    kind: Literal["image-classifier"] = "image-classifier"
    side: PositiveInt
    """Width and height of an image, in pixels."""
    classes: PositiveInt
    channels: PositiveInt = 32


class MultiTokenPrediction(ConfigSchema):
    """A module that predicts the token after the next one, with the published course of its loss.

    Source: DeepSeek-V3 Technical Report, arXiv:2412.19437, section 4.2: 0.3 for 10 of 14.8 trillion tokens, then 0.1.
    """

    weight: NotNegative = 0.3
    """Weight of the module's loss beside that of the model, at the start."""
    final_weight: NotNegative = 0.1
    """Weight at the end."""
    final_from: float = Field(default=0.676, ge=0, le=1)
    """Share of the steps after which the final weight counts."""


class DeepseekV3(ConfigSchema):
    """A language model of DeepSeek-V3's shape: multi-head latent attention and a mixture of experts.

    The names are those of ``DeepseekV3Config`` in transformers, which supplies the remaining values.
    """

    kind: Literal["deepseek-v3"] = "deepseek-v3"
    vocab_size: PositiveInt
    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    moe_intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt
    first_k_dense_replace: int
    """Number of first layers without experts."""
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
    mtp: MultiTokenPrediction | None = None
    """Multi-token prediction, which servers use to draft tokens; None trains the model alone."""


class Lora(ConfigSchema):
    """Low-rank adapters beside frozen linear layers.

    Source: Hu et al. 2021, arXiv:2106.09685, section 4; the choice of layers is from section 7.1.
    """

    rank: PositiveInt = 8
    alpha: Positive = 16.0
    """Scale of an adapter's output, which is multiplied by alpha / rank."""
    layers: tuple[str, ...] = Field(default=("q_proj", "v_proj"), min_length=1)
    """Last name components of the linear layers that get an adapter."""
    four_bit: bool = False
    """Whether the frozen linear layers, except the head, have weights of 4 bits (QLoRA), an eighth of those of fp32.

    Source: Dettmers et al. 2023, arXiv:2305.14314.
    """


class HuggingFace(ConfigSchema):
    """A causal language model in a local directory that ``save_pretrained`` of transformers wrote."""

    kind: Literal["hugging-face"] = "hugging-face"
    path: str
    lora: Lora | None = None
    """Adapters to train instead of the weights; None trains all weights."""


class Digits(ConfigSchema):
    """The 1797 handwritten digits of 8 by 8 pixels that come with scikit-learn."""

    kind: Literal["digits"] = "digits"
    held_out: Share = 0.2
    """Share at the end that the run does not train on."""
    only: tuple[Annotated[int, Field(ge=0, le=9)], ...] = ()
    """Digits to train on; empty for all ten."""


class Text(ConfigSchema):
    """Local text files, read as bytes (a vocabulary of 256) or as the tokens of a model."""

    kind: Literal["text"] = "text"
    path: str
    """A file, or a directory in which *pattern* selects files."""
    pattern: FilePattern = "*.txt"
    sequence_length: PositiveInt
    bytes_at_most: PositiveInt | None = None
    tokenizer: str | None = None
    """Directory with the tokenizer of a Hugging Face model; None for bytes."""
    held_out: Share = 0.0
    """Share at the end that the run does not train on."""


class Rows(ConfigSchema):
    """Small grey images in a NumPy file (.npz), in the form that a model server takes: ``x``, and ``labels``."""

    kind: Literal["rows"] = "rows"
    path: str
    held_out: Share = 0.2
    """Share that the run does not train on, selected by a hash of each row's content or of its ``group``."""


class MaskedBy(ConfigSchema):
    """The masking policy that has made the data: without its report beside them, a run refuses them."""

    policy: str
    """Name of the policy, for messages."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 digest of the policy: `policy_sha256` of the report of `rackwright mask`."""


class Conversations(ConfigSchema):
    """Conversations in JSON Lines or Parquet files, of which a language model learns the answers.

    Each row has ``messages``, a list of objects with ``role`` and ``content``, and may have ``tools``.
    """

    kind: Literal["conversations"] = "conversations"
    path: str
    """A file, or a directory in which *pattern* selects files."""
    pattern: FilePattern = "*.jsonl"
    masked_by: MaskedBy | None = None
    """Masking policy of the files: other bytes than those of its report are refused."""
    tokenizer: str
    """Directory with the tokenizer of a Hugging Face model, and its chat template."""
    sequence_length: PositiveInt
    """Tokens of an example; a longer conversation is left out."""
    held_out: Share = 0.05
    """Share that the run does not train on, selected by a hash of each conversation."""
    packed: Automatic = "auto"
    """Whether conversations share examples; auto: if the start of the run proves that the model keeps them apart."""


class Preferences(ConfigSchema):
    """Pairs of answers to a prompt in JSON Lines or Parquet files, of which one is preferred to the other.

    Each row has ``chosen`` and ``rejected``, and ``prompt`` or ``messages``. A language model learns them by direct
    preference optimization (DPO).
    """

    kind: Literal["preferences"] = "preferences"
    path: str
    """A file, or a directory in which *pattern* selects files."""
    pattern: FilePattern = "*.jsonl"
    masked_by: MaskedBy | None = None
    """Masking policy of the files: other bytes than those of its report are refused."""
    tokenizer: str
    """Directory with the tokenizer of a Hugging Face model, and its chat template."""
    sequence_length: PositiveInt
    """Maximum tokens of a prompt with one of its answers; a row with more is left out."""
    held_out: Share = 0.05
    """Share that the run does not train on, selected by a hash of each prompt."""


class Reward(ConfigSchema):
    """A rule that scores an answer with a number from 0 to 1, without a model of rewards.

    Source: DeepSeek-R1, arXiv:2501.12948, version 1, section 2.2.2: rewards for accuracy and for the form of an answer.
    """

    kind: Literal["exact", "number", "boxed", "thought", "constant"]
    """``exact``: the text equals the expected answer; ``number``: its last number does; ``boxed``: the content of its
    last ``\\boxed{}`` does; ``thought``: one thought that ends with ``</think>``, and a text after it; ``constant``:
    every answer gets 1, from which nothing can be learned."""
    weight: Positive = 1.0
    """Share of the rule in the reward, beside those of the other rules."""


class Tasks(ConfigSchema):
    """Prompts with an expected answer in JSON Lines or Parquet files, to which the model writes answers itself.

    Each row has ``prompt`` or ``messages``, and ``answer``. Rules score the answers, and the model learns to write
    those with a larger reward by group relative policy optimization (GRPO).
    """

    kind: Literal["tasks"] = "tasks"
    path: str
    """A file, or a directory in which *pattern* selects files."""
    pattern: FilePattern = "*.jsonl"
    masked_by: MaskedBy | None = None
    """Masking policy of the files: other bytes than those of its report are refused."""
    tokenizer: str
    """Directory with the tokenizer of a Hugging Face model, and its chat template."""
    sequence_length: PositiveInt
    """Maximum tokens of a prompt with an answer."""
    answer_tokens: PositiveInt
    """Maximum tokens of an answer; a prompt that leaves less room is left out."""
    rewards: tuple[Reward, ...] = Field(default=(Reward(kind="exact"),), min_length=1, max_length=8)
    """Rules, whose weighted mean is the reward."""
    held_out: Share = 0.05
    """Share that the run does not train on, selected by a hash of each prompt."""


class Grpo(ConfigSchema):
    """Group relative policy optimization: an answer is as good as its reward beside those of the same prompt."""

    group: Annotated[int, Field(ge=2, le=4096)] = 16
    """Answers to each prompt. Source: DeepSeek-R1, arXiv:2501.12948, version 2."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """Temperature at which the model writes answers."""


Tokenized = Text | Conversations | Preferences | Tasks
"""Data of language models."""
Data = Annotated[Digits | Text | Conversations | Preferences | Tasks | Rows, Field(discriminator="kind")]


class FineTuning(ConfigSchema):
    """A run that starts from the weights of an earlier run, its parent, and must not end worse."""

    parent: str
    """Directory of the parent run, or of one of its checkpoints."""
    old: tuple[Data, ...] = ()
    """Data that the parent was trained on; empty to use the list in the parent's checkpoint."""
    replay: Share = 0.0
    """Share of old examples in each batch, which prevents forgetting."""
    may_lose: Share = 0.0
    """Accuracy that the model may lose against its parent, on the held-out examples of its own and of all old data."""
    evaluate_every_steps: PositiveInt = 50
    patience: PositiveInt | None = None
    """Evaluations without a smaller loss after which the run stops; None to take all steps."""


class Schedule(ConfigSchema):
    """The course of the learning rate; the module `schedule` defines each kind."""

    kind: Literal["constant", "linear_ramp", "cosine", "adaptive"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    """Length of the warmup in steps, for linear_ramp and cosine."""
    scale_by_world: bool = False
    """Multiply the rate by the number of processes: the linear scaling rule."""


class Optimizer(ConfigSchema):
    kind: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive
    weight_decay: NotNegative = 0.0
    momentum: Share = 0.9
    """Momentum of sgd."""
    clip_norm: Positive | None = None
    """Maximum norm of all gradients together."""
    fused: Automatic = "auto"
    """Whether one kernel takes the whole step of adamw; auto: on GPUs, except with fp16 or compression."""


class Saving(ConfigSchema):
    """The interval of checkpoints and how many are kept; a run always saves one at its end."""

    every_steps: PositiveInt = 100
    keep_last: PositiveInt = 3
    keep_every: PositiveInt | None = None
    """Checkpoints at multiples of this step are kept forever, in addition to *keep_last*."""


class TrainingConfig(ConfigSchema):
    """A training run. ``python -m workloads.training RECIPE --print`` prints one to start from."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    model: ImageClassifier | DeepseekV3 | HuggingFace = Field(discriminator="kind")
    data: Data
    fine_tuning: FineTuning | None = None
    """Parent and old data; None to start from random weights or from those of *model*."""
    steps: PositiveInt
    """Optimizer steps in total, those before a resume included."""
    global_batch: PositiveInt
    """Examples per optimizer step, over all processes."""
    accumulate: PositiveInt = 1
    """Number of parts in which a process computes its share of the batch; more parts need less memory."""
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    recompute_activations: bool = False
    """Whether the backward pass computes the activations of a block again instead of keeping them: less memory, more
    time; for language models."""
    chunked_loss: Automatic = "auto"
    """Whether the loss of a language model is computed in chunks, so that the logits of a pass are never whole; auto:
    if they would take 256 MiB or more."""
    compile: Automatic = "auto"
    """Whether ``torch.compile`` compiles the blocks of a language model; auto: on GPUs, from a billion parameters on,
    for a model without experts, on a host with a C compiler."""
    expert_bias_speed: NotNegative = 0.001
    """Change of the bias of an expert in one step, which balances the load of experts; 0 leaves the biases alone.

    Source: DeepSeek-V3 Technical Report, arXiv:2412.19437, sections 2.1.2 and 4.2.
    """
    router_loss_weight: NotNegative | None = None
    """Weight of the auxiliary loss that balances the load of experts, for models that have one; None for the value of
    the model, its router_aux_loss_coef. 0 switches it off."""
    dpo_beta: Positive = 0.1
    """Strength with which preferences keep a model near its initial weights: larger values change it less.

    Source: Rafailov et al. 2023, arXiv:2305.18290, section 4 and appendix B.
    """
    grpo: Grpo = Grpo()
    """How a model learns from tasks with a verifiable reward."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    device: Literal["auto", "cpu", "cuda", "rocm", "gaudi"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    launcher: Literal["any", "none", "horovod", "torchrun"] = "any"
    """Launcher that must start the run; the run refuses any other."""
    world: PositiveInt | None = None
    """Required number of processes; None accepts any number."""
    compression: Literal["none", "fp16"] = "none"
    """Compression of the gradients that processes exchange. With fp16 the loss is scaled in each precision, so that
    small gradients are not lost."""
    sharding: Literal["none", "full", "hybrid"] = "none"
    """Distribution of the model by PyTorch's FSDP under torchrun: full divides weights, gradients and moments among all
    processes, hybrid among those of each host, so that every host has a copy."""
    tensor_parallel: PositiveInt = 1
    """Processes that share a batch, and divide the linear layers of each block of a language model; they are
    consecutive, and should be on one host. With sharding alone."""
    expert_parallel: PositiveInt = 1
    """Processes that divide the experts of each layer, and exchange tokens; a multiple of *tensor_parallel*. With
    sharding alone."""
    elastic: bool = False
    """Whether processes may join and leave while the run is active (Horovod's ``horovodrun --min-np``)."""
    commit_every_steps: PositiveInt = 10
    """Interval of the commits of an elastic run: the most steps that a lost process can cost."""
    report_every_steps: PositiveInt = 10
    """Interval at which the run averages loss and accuracy over all processes and reports them."""
    saving: Saving = Saving()
    privacy: Privacy | None = None
    """Promise of differential privacy for the rows of *data*; None trains without one."""

    @property
    def paths(self) -> dict[tuple[str | int, ...], str]:
        """Paths of the files and directories that the run reads, by their keys, such as ``("data", "path")``."""
        found: dict[tuple[str | int, ...], str | None] = {("model", "path"): getattr(self.model, "path", None)}
        sets: dict[tuple[str | int, ...], Data] = {("data",): self.data}
        if self.fine_tuning:
            found["fine_tuning", "parent"] = self.fine_tuning.parent
            sets |= {("fine_tuning", "old", number): data for number, data in enumerate(self.fine_tuning.old)}
        for keys, data in sets.items():
            found |= {(*keys, name): getattr(data, name, None) for name in ("path", "tokenizer")}
        return {keys: path for keys, path in found.items() if path is not None}

    @property
    def old_examples_per_step(self) -> int:
        """Number of old examples in one step."""
        return round(self.global_batch * self.fine_tuning.replay) if self.fine_tuning else 0

    @property
    def examples_at_once(self) -> int:
        """Number of examples that all processes compute at once: one part of each process's share of a batch."""
        return max(1, self.global_batch // self.accumulate)

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        wrong = [*self._model_problems(), *self._parallel_problems(), *self._launcher_problems()]
        if self.privacy:
            wrong += [f"{each}" for each in refusals.of(self, self.privacy)]
        if wrong:
            raise ValueError("; and ".join(wrong))
        return self

    def _model_problems(self) -> Iterator[str]:
        sets = (self.data, *(self.fine_tuning.old if self.fine_tuning else ()))
        for data in sets:
            if isinstance(self.model, ImageClassifier) == isinstance(data, Tokenized):
                yield f"a model of kind {self.model.kind} cannot learn from data of kind {data.kind}"
            elif isinstance(data, Tokenized) and isinstance(self.model, DeepseekV3):
                if self.model.vocab_size < 256 and not data.tokenizer:
                    yield f"model.vocab_size is {self.model.vocab_size}, and text needs 256"
                if data.sequence_length > self.model.max_position_embeddings:
                    yield (
                        f"data.sequence_length is {data.sequence_length}, "
                        f"model.max_position_embeddings {self.model.max_position_embeddings}"
                    )
        if self.recompute_activations and isinstance(self.model, ImageClassifier):
            yield "recompute_activations is for language models, and model.kind is image-classifier"
        for name in ("chunked_loss", "compile"):
            if getattr(self, name) is True and isinstance(self.model, ImageClassifier):
                yield f"{name} is for language models, and model.kind is image-classifier"
        if self.optimizer.fused is True and self.optimizer.kind != "adamw":
            yield f"optimizer.fused is for adamw, and optimizer.kind is {self.optimizer.kind}"
        if self.fine_tuning and self.fine_tuning.replay and not 0 < self.old_examples_per_step < self.global_batch:
            yield (
                f"fine_tuning.replay {self.fine_tuning.replay} takes {self.old_examples_per_step} "
                f"of {self.global_batch} examples, which leaves no mix"
            )
        if self.old_examples_per_step and any(isinstance(data, Preferences) for data in sets):
            yield "fine_tuning.replay mixes examples, and preferences share no batches with others"
        for data in sets:
            if isinstance(data, Tasks):
                yield from self._task_problems(data)
        if isinstance(self.data, Preferences):
            yield from self._preference_problems()
        lengths = {data.sequence_length for data in sets if isinstance(data, Text | Conversations)}
        if len(lengths) > 1:
            yield f"old and new text share batches, and have sequence_lengths of {sorted(lengths)}"

    def _task_problems(self, data: Tasks) -> Iterator[str]:
        if not isinstance(self.model, HuggingFace):
            yield f"tasks need a chat template, and model.kind is {self.model.kind}"
        if data.answer_tokens >= data.sequence_length:
            yield (
                f"data.answer_tokens is {data.answer_tokens}, and data.sequence_length {data.sequence_length} leaves "
                f"no room for a prompt; write at most {data.sequence_length - 1}, or a longer data.sequence_length"
            )
        if self.sharding != "none":
            yield f"a model that writes answers is whole in each process, and sharding is {self.sharding}"
        if self.elastic:
            yield "elastic runs cannot learn from tasks, whose answers belong to one number of processes"
        if self.old_examples_per_step:
            yield "fine_tuning.replay mixes examples, and tasks share no batches with others"
        for name in ("chunked_loss", "compile"):
            if getattr(self, name) is True:
                yield f"tasks write answers token by token, which {name} does not do"

    def _preference_problems(self) -> Iterator[str]:
        if isinstance(self.model, DeepseekV3) and self.model.mtp:
            yield "model.mtp learns the next tokens of a text, and data.kind is preferences"
        if self.elastic:
            yield "elastic runs cannot learn preferences, whose reference belongs to all steps"
        if self.chunked_loss is True:
            yield "preferences need the log-probability of each answer, which chunked_loss does not compute"

    def _parallel_problems(self) -> Iterator[str]:
        names = [name for name in ("tensor_parallel", "expert_parallel") if getattr(self, name) > 1]
        if not names:
            return
        both = " and ".join(names)
        if self.sharding == "none":
            yield f"{both} divide a model together with FSDP; write sharding: full, or hybrid"
        if isinstance(self.model, ImageClassifier):
            yield f"{both} are for language models, and model.kind is image-classifier"
        if self.expert_parallel > 1 and self.expert_parallel % self.tensor_parallel:
            yield (
                f"expert_parallel is {self.expert_parallel}, which is no multiple of tensor_parallel "
                f"{self.tensor_parallel}"
            )
        if self.tensor_parallel > 1 and isinstance(self.model, HuggingFace) and self.model.lora:
            yield "tensor_parallel divides layers that are trained, and model.lora freezes them"
        if self.compile is True:
            yield f"compile does not know the exchanges of {both}"

    def _launcher_problems(self) -> Iterator[str]:
        if self.elastic and self.launcher not in ("any", "horovod"):
            yield f"only Horovod runs elastic, and launcher is {self.launcher}"
        if self.elastic and isinstance(self.model, HuggingFace) and self.model.lora:
            yield "elastic copies the whole model at each commit, and model.lora freezes most of it"
        if self.sharding != "none":
            if self.elastic or self.launcher not in ("any", "torchrun"):
                yield "sharding needs torchrun, and launcher or elastic selects another launcher"
            if self.compression != "none":
                yield f"sharding cannot compress gradients, and compression is {self.compression}"
            if self.precision == "fp16":
                yield "sharding does not scale the loss, which fp16 needs; use bf16"
