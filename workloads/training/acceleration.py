"""Settings that save time or memory, and whose defaults follow from the size of the model and from the device."""

import shutil
from dataclasses import dataclass
from typing import Any

from torch import nn

from workloads.errors import Diagnostic, UserError
from workloads.training.config import HuggingFace, Preferences, Tasks, Tokenized, TrainingConfig
from workloads.training.models import LanguageModel, blocks
from workloads.training.precision import Precision

CHUNKED_FROM_BYTES = 256 << 20
"""Size of the logits of a pass, in fp32, from which the loss is computed in chunks."""
COMPILED_FROM_PARAMETERS = 1_000_000_000
"""Parameters of a model from which the minutes of compilation are worth it."""
PLAIN_HEADS = frozenset(("deepseek_v2", "deepseek_v3", "llama", "mistral", "qwen2", "qwen3", "qwen3_moe"))
"""Types of models in transformers whose logits are a product with one matrix: no scale, no cap, no bias."""
GPUS = ("cuda", "rocm")


@dataclass(frozen=True, slots=True)
class Acceleration:
    """The settings of a run."""

    chunked_loss: bool = False
    """Whether the loss is computed in chunks of positions, so that the logits of a pass are never whole."""
    compiled: bool = False
    """Whether ``torch.compile`` compiles the blocks."""
    fused: bool = False
    """Whether one kernel takes the step of AdamW."""
    copies_in_step: int = 0
    """Copies of all trained weights that the step of the optimizer needs for a moment."""

    def __str__(self) -> str:
        names = {"loss in chunks": self.chunked_loss, "compiled blocks": self.compiled, "fused AdamW": self.fused}
        return ", ".join(name for name, is_on in names.items() if is_on) or "none"


def choose(config: TrainingConfig, model: nn.Module, kind: str, precision: Precision, processes: int) -> Acceleration:
    """Return the settings for *model* on a device of *kind*.

    Args:
        model: The model, which may be on the meta device.
        processes: Number of batches that processes compute at once.

    Raises:
        UserError: The model cannot have a setting that *config* requests.
    """
    on_gpu, optimizer = kind in GPUS, config.optimizer
    scaled = precision.name == "fp16" or config.compression == "fp16"
    fused = on_gpu and not scaled if optimizer.fused == "auto" else optimizer.fused
    fused = fused and optimizer.kind == "adamw"
    compiled = config.compile
    if compiled == "auto":
        parameters = sum(weight.numel() for weight in model.parameters())
        plain = config.tensor_parallel == 1 and is_dense(model)
        plain = plain and not isinstance(config.data, Tasks)  # each length of an answer would be compiled again
        compiled = on_gpu and parameters >= COMPILED_FROM_PARAMETERS and plain and _has_compiler()
    # PyTorch's step without fusion handles all weights at once on GPUs, and one after the other on CPUs
    copies = int(on_gpu and not fused and optimizer.kind == "adamw")
    return Acceleration(_is_chunked(config, model, precision, processes), compiled, fused, copies)


def _is_chunked(config: TrainingConfig, model: nn.Module, precision: Precision, processes: int) -> bool:
    if config.chunked_loss is False or not isinstance(model, LanguageModel):
        return False
    problem = _unchunkable(config, model, precision)
    if config.chunked_loss == "auto":
        vocabulary, width = model.model.config.vocab_size, model.model.config.hidden_size
        logits_bytes = positions(config, processes) * vocabulary * 4
        return not problem and vocabulary > width and logits_bytes >= CHUNKED_FROM_BYTES
    if problem:
        raise UserError(Diagnostic("chunked_loss", problem, "auto or false", "Write chunked_loss: auto"))
    return True


def _unchunkable(config: TrainingConfig, model: LanguageModel, precision: Precision) -> str:
    """Return why the loss of *model* cannot be computed in chunks; empty if it can."""
    kind, head = model.model.config.model_type, model.model.get_output_embeddings()
    if isinstance(config.data, Preferences):
        return "preferences need the log-probability of each answer"
    if isinstance(config.data, Tasks):
        return "tasks need the log-probability of each token"
    if not hasattr(nn, "LinearCrossEntropyOptions"):
        return "this PyTorch has no loss in chunks, which 2.13 has"
    if precision.name == "fp16":
        return "the sum of losses leaves the range of fp16"
    if kind not in PLAIN_HEADS or type(head) is not nn.Linear or head.bias is not None:
        return f"the logits of this {kind} are not a product with one matrix"
    if isinstance(config.model, HuggingFace) and config.model.lora and "lm_head" in config.model.lora.layers:
        return "the head has an adapter"
    return ""


def positions(config: TrainingConfig, processes: int) -> int:
    """Return the positions of one forward pass of a process: all answers of a language model."""
    return rows(config, processes) * (config.data.sequence_length if isinstance(config.data, Tokenized) else 1)


def rows(config: TrainingConfig, processes: int) -> int:
    """Return the rows of one forward pass of a process: one for an example, two for a pair, a group for a task."""
    if isinstance(config.data, Tasks):
        return -(-(-(-config.global_batch // processes) * config.grpo.group) // config.accumulate)
    examples = -(-config.global_batch // (processes * config.accumulate))
    return 2 * examples if isinstance(config.data, Preferences) else examples


def compile_blocks(model: nn.Module) -> None:
    """Compile each block of *model* at its first call. Equal blocks share the compiled code."""
    for block in blocks(model):
        compiled: Any = block
        compiled.compile()


def is_dense(model: nn.Module) -> bool:
    """Return whether the model has no experts, whose choice of tokens breaks compiled code apart."""
    return not any(name.endswith("experts") for name, _ in model.named_modules())


def _has_compiler() -> bool:
    """Return whether this host has the C compiler that Triton calls at the first run of a kernel."""
    return any(map(shutil.which, ("cc", "gcc", "clang")))
