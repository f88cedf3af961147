"""PyTorch: a classifier from the newest checkpoint of its training, to try it out at once."""

import json
import os
from pathlib import Path

import torch
from pydantic import ValidationError

from workloads.checkpoint import Checkpoint, disk, manifest, newest
from workloads.errors import Diagnostic, UserError
from workloads.serving.batcher import Arrays
from workloads.serving.model import Model, ModelFile, Tensor, version_of
from workloads.training.config import ImageClassifier, TrainingConfig
from workloads.training.initial_weights import build
from workloads.training.sharded import load_whole


def load_trained(directory: Path) -> tuple[torch.nn.Module, Model]:
    """Return the newest model of the training in *directory*, or the checkpoint in *directory*, and its metadata.

    Raises:
        UserError: there is no checkpoint, or its model does not map arrays to arrays.
    """
    checkpoint = _find_checkpoint(directory)
    state = load_whole(checkpoint)
    try:
        config = TrainingConfig.model_validate_json(json.dumps(state["config"]))
    except ValidationError as error:
        problem, help = f"the settings of its training are invalid: {error}", "Train the model with this version"
        raise UserError(Diagnostic(str(checkpoint.path), problem, help=help)) from None
    if not isinstance(config.model, ImageClassifier):
        problem = f"a model of kind {config.model.kind} cannot be served from a checkpoint"
        help = "Export a language model with `python -m workloads.export`, and publish the export"
        raise UserError(Diagnostic(str(checkpoint.path), problem, "a classifier", help))
    module = build(config.model)
    module.load_state_dict(state["model"])
    side = config.model.side
    files = {
        name: ModelFile(bytes=entry.bytes, sha256=entry.sha256) for name, entry in checkpoint.manifest.files.items()
    }
    lineage = {
        "recipe": config.name,
        "step": checkpoint.step,
        "config": config.model_dump(mode="json"),
        "data": state.get("data", [state["config"]["data"]]),
        "checkpoint": disk.sha256(checkpoint.path / manifest.NAME),
    }
    return module.eval(), Model(
        name=config.name,
        version=version_of(files),
        runtime="torch",
        files=files,
        inputs=(Tensor(name="x", datatype="FP32", shape=(-1, side, side)),),
        outputs=(Tensor(name="logits", datatype="FP32", shape=(-1, config.model.classes)),),
        lineage=lineage,
    )


def _find_checkpoint(directory: Path) -> Checkpoint:
    if (directory / manifest.NAME).is_file():
        return Checkpoint(directory, manifest.read(directory))
    found = newest(directory / "checkpoints")
    if found is None:
        problem = "the training has no complete checkpoint"
        raise UserError(Diagnostic(str(directory / "checkpoints"), problem, help="Train the model first"))
    return found


class TorchRuntime:
    """A classifier that PyTorch runs."""

    def __init__(self, directory: Path, threads: int) -> None:
        torch.set_num_threads(threads or os.cpu_count() or 1)
        module, self.model = load_trained(directory)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._module = module.to(self._device)
        self.description = f"PyTorch {torch.__version__} on {self._device.type}"

    def infer(self, inputs: Arrays) -> Arrays:
        with torch.inference_mode():
            logits = self._module(torch.from_numpy(inputs["x"]).to(self._device))
        return {"logits": logits.cpu().numpy()}
