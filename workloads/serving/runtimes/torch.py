"""PyTorch: a classifier from the newest checkpoint of its training, for whoever wants to see it answer at once."""

import os
from pathlib import Path

import torch
from pydantic import ValidationError

from workloads.common.checkpoint import load, newest
from workloads.common.errors import WorkloadError
from workloads.serving.batcher import Arrays
from workloads.serving.model import File, Model, Tensor, version_of
from workloads.training.config import ImageClassifier, TrainingConfig
from workloads.training.models import build


def trained(directory: Path) -> tuple[torch.nn.Module, Model]:
    """Return the newest model of the training in *directory*, and what it is.

    Raises:
        WorkloadError: there is none, or none that takes arrays and gives arrays.
    """
    path = directory / "config.json"
    try:
        config = TrainingConfig.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise WorkloadError(str(path), f"got {error}", "a training's directory has it", "Name another") from None
    if not isinstance(config.model, ImageClassifier):
        got = f"got a model of kind {config.model.kind}"
        raise WorkloadError(str(path), got, "classifiers are served from checkpoints", "Train one: the recipe digits")
    checkpoint = newest(directory / "checkpoints")
    if checkpoint is None:
        want, fix = "a trained model has a whole one", "Train it first"
        raise WorkloadError(str(directory / "checkpoints"), "got no checkpoint", want, fix)
    module = build(config.model)
    module.load_state_dict(load(checkpoint)["model"])
    side = config.model.side
    files = {name: File(bytes=entry.bytes, sha256=entry.sha256) for name, entry in checkpoint.manifest.files.items()}
    lineage = {"recipe": config.name, "step": checkpoint.step, "config": config.model_dump(mode="json")}
    return module.eval(), Model(
        name=config.name,
        version=version_of(files),
        runtime="torch",
        files=files,
        inputs=(Tensor(name="x", datatype="FP32", shape=(-1, side, side)),),
        outputs=(Tensor(name="logits", datatype="FP32", shape=(-1, config.model.classes)),),
        lineage=lineage,
    )


class TorchRuntime:
    """A classifier that PyTorch computes."""

    def __init__(self, directory: Path, threads: int) -> None:
        torch.set_num_threads(threads or os.cpu_count() or 1)
        module, self.model = trained(directory)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._module = module.to(self._device)
        self.told = f"PyTorch {torch.__version__} on {self._device.type}"

    def infer(self, inputs: Arrays) -> Arrays:
        with torch.inference_mode():
            logits = self._module(torch.from_numpy(inputs["x"]).to(self._device))
        return {"logits": logits.cpu().numpy()}
