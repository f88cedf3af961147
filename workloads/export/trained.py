"""The trained language model of a run, loaded into host memory with its lineage."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from workloads.checkpoint import Checkpoint, at_step, disk, layout, manifest
from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_object, read_file
from workloads.training import four_bit, initial_weights, multi_token, sharded
from workloads.training.checkpointing import check_weights_match
from workloads.training.config import DeepseekV3, HuggingFace, Lora, Tokenized, TrainingConfig
from workloads.training.lineage import NAME as LINEAGE
from workloads.training.models import LanguageModel, trainable_state
from workloads.training.parent_model import checkpoint_digest
from workloads.training.tokenizer import TOKENIZER_FILES

WORDS = {"base": "base model", "tokenizer": "tokenizer"}
"""Words for the entries of a lineage with files."""
NO_FILE = "missing"
"""Word in place of a digest."""


class ExportDiffers(UserError):
    """An export that is not the trained model when it is loaded again."""

    exit_status = 1


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained language model in host memory."""

    model: LanguageModel
    config: TrainingConfig
    lineage: dict[str, Any]
    """The origin of the weights: run, checkpoint, base and data by their digests."""

    @property
    def lora(self) -> Lora | None:
        return self.config.model.lora if isinstance(self.config.model, HuggingFace) else None

    @property
    def has_mtp(self) -> bool:
        """Whether the model has a module of multi-token prediction."""
        return isinstance(self.config.model, DeepseekV3) and self.config.model.mtp is not None

    def without_mtp(self) -> "TrainedModel":
        """Return the model without its module of multi-token prediction, which is removed from the model itself."""
        multi_token.remove_module(self.model.model)
        config = self.config.model_copy(update={"model": self.config.model.model_copy(update={"mtp": None})})
        return replace(self, config=config)

    @property
    def tokenizer(self) -> Path | None:
        """Directory with the tokenizer of the training; None for bytes."""
        directory = self.config.data.tokenizer if isinstance(self.config.data, Tokenized) else None
        return Path(directory) if directory else None


def load(run: Path) -> TrainedModel:
    """Return the model of the final checkpoint of the directory *run*, or of the checkpoint that *run* is.

    Raises:
        UserError: The run has no such model, or has not published it, or its base has changed.
    """
    record = _read_lineage(run) if not (run / manifest.NAME).is_file() else {}
    checkpoint = _final_checkpoint(run, record) if record else Checkpoint(run, manifest.read(run))
    return _load(run, checkpoint, record or _read_lineage(run.parent.parent))


def load_parent(run: Path) -> TrainedModel:
    """Return the model of the checkpoint from which the directory *run* of a fine-tuning started.

    The parent's directory may have no lineage, as in the cache of registered models: the run's own names the base.

    Raises:
        UserError: The run has no parent, or the parent has changed.
    """
    record = _read_lineage(run)
    parent = record.get("parent")
    if not isinstance(parent, dict):
        problem, help = "the run has no parent", "Name the directory of a fine-tuning"
        raise UserError(Diagnostic(str(run), problem, "a run that started from a checkpoint", help))
    path = Path(parent["path"])
    checkpoint = Checkpoint(path, manifest.read(path))
    if checkpoint_digest(checkpoint) != parent["sha256"]:
        problem, expected = "it is another checkpoint than at the start of the run", f"{parent['sha256'][:12]}"
        raise UserError(Diagnostic(str(path), problem, expected, "Restore the checkpoint"))
    return _load(path, checkpoint, record)


def _load(place: Path, checkpoint: Checkpoint, record: dict[str, Any]) -> TrainedModel:
    """Return the language model of *checkpoint*.

    Args:
        place: The path that the caller named, for messages.
        record: The lineage of its run.
    """
    state = sharded.load_whole(checkpoint)
    config = TrainingConfig.model_validate_json(json.dumps(state["config"]))
    if isinstance(config.model, HuggingFace):
        _check_files("base", record)
        four_bit.check(config, "cpu")
    _check_files("tokenizer", record)
    model = initial_weights.build(config.model)
    if not isinstance(model, LanguageModel):
        help = "Serve the run itself, or quantise it with `python -m workloads.quantize`"
        problem = f"the run trained a model of kind {config.model.kind}"
        raise UserError(Diagnostic(str(place), problem, "a language model", help))
    own = trainable_state(model)
    check_weights_match(state["model"], own, str(checkpoint.path), "Export the run with the version that trained it")
    sharded.copy_into(own, state["model"])
    lineage: dict[str, Any] = {
        "run": config.name,
        "step": checkpoint.step,
        "checkpoint": checkpoint_digest(checkpoint),
        "config": config.model_dump(mode="json"),
        **{key: record[key] for key in ("base", "parent", "data", "published", "forced") if key in record},
    }
    return TrainedModel(model.eval().requires_grad_(False), config, lineage)


def _read_lineage(run: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = parse_object(read_file(run / LINEAGE))
    except (OSError, ValueError):
        problem, expected = f"the directory has no readable {LINEAGE}", "the directory of a run, or of its checkpoint"
        raise UserError(Diagnostic(str(run), problem, expected, "Correct the path")) from None
    return record


def _final_checkpoint(run: Path, record: dict[str, Any]) -> Checkpoint:
    checkpoints = run / "checkpoints"
    if "step" not in record:
        raise _open_end_error(run, checkpoints)
    if record.get("published") is False:
        problem = f"the run has not published it: {record.get('refused') or 'it is worse than its parent'}"
        help = "Train longer, or start the run again with --publish-worse REASON"
        raise UserError(Diagnostic(str(run), problem, "a model that the run published", help))
    return at_step(checkpoints, record["step"])


def _open_end_error(run: Path, checkpoints: Path) -> UserError:
    """Return the error of a run without an end: it may be running, stopped or diverged, which its files do not say."""
    if not (steps := layout.steps(checkpoints)):
        problem, help = "the run has not ended, and has no checkpoint", "Train to the end"
        return UserError(Diagnostic(str(run), problem, "a finished run", help))
    problem = f"the run has not ended; its last checkpoint is that of step {steps[-1]}"
    help = f"Train to the end, or export {checkpoints / layout.step_name(steps[-1])}"
    return UserError(Diagnostic(str(run), problem, "a finished run, or one of its checkpoints", help))


def _check_files(source: str, record: dict[str, Any]) -> None:
    """Raise if a file of the base model or of the tokenizer has changed since the training.

    Adapters belong to the weights of their base; the model belongs to the tokens of its tokenizer and chat template.
    """
    recorded = record.get(source) or {"path": "", "files": {}}
    directory, expected = Path(recorded["path"]), recorded["files"]
    present = {name: NO_FILE for name in TOKENIZER_FILES if "tokenizer" in record and (directory / name).is_file()}
    for name, digest in (present | expected if expected else expected).items():
        actual = disk.sha256(directory / name) if (directory / name).is_file() else NO_FILE
        if actual != digest:
            problem = f"the file is {actual[:12]}, which is not what the run was trained from"
            raise UserError(Diagnostic(str(directory / name), problem, digest[:12], f"Restore the {WORDS[source]}"))


def fixed_tokens(vocabulary: int) -> torch.Tensor:
    """Return two rows of tokens, the same for each export."""
    return (torch.arange(64).reshape(2, 32) * 7919 + 13) % vocabulary


def logits(model: torch.nn.Module, vocabulary: int) -> torch.Tensor:
    """Return the logits of *model*, in fp32, for the fixed tokens."""
    with torch.inference_mode():
        result: torch.Tensor = model(input_ids=fixed_tokens(vocabulary), use_cache=False).logits.float()
    return result


def draft_logits(model: Any) -> torch.Tensor:
    """Return the logits of the module of multi-token prediction of *model*, in fp32, for the fixed tokens."""
    tokens = fixed_tokens(model.config.vocab_size)
    with torch.inference_mode():
        features = model.model(input_ids=tokens, use_cache=False).last_hidden_state
        result: torch.Tensor = model.lm_head(multi_token.features(model, tokens, None, features)).float()
    return result
