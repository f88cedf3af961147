"""Registration of an export in MLflow, as a version that MLflow's transformers flavour loads."""

import json
import platform
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workloads.checkpoint import disk
from workloads.errors import Diagnostic
from workloads.tracking import provenance, registry
from workloads.tracking.registry import Version
from workloads.tracking.server import TrackingRefused, TrackingServer
from workloads.tracking.tracker import find_or_create_experiment

ARTIFACT = "export"
"""Path of the export among the artifacts of its run."""
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
             "added_tokens.json", "chat_template.jinja")  # fmt: skip


def register(server: TrackingServer, directory: Path, name: str) -> Version:
    """Register the export in *directory* as a version of the model *name*, in a run of its own, and return it.

    An export that is a version already is not registered again.

    Raises:
        UserError: The directory has no whole model in the format of transformers, or the server refuses it.
    """
    lineage = provenance.load_json(directory / "lineage.json")
    config = provenance.load_json(directory / "config.json")
    if not lineage or not config:
        problem, expected = f"{directory} is no whole model of transformers", "an export with --to huggingface"
        raise TrackingRefused(Diagnostic("--register", problem, expected, "Export the model, with merged adapters"))
    digest = disk.sha256(directory / "lineage.json")
    if version := registry.find_by_checkpoint(server, digest, name):
        return version
    tags = {**_properties(lineage), registry.CHECKPOINT: digest}
    experiment, began = find_or_create_experiment(server, lineage["run"]), int(time.time() * 1000)
    title = f"{lineage['run']} exported"
    created = server.post(
        "runs/create", experiment_id=experiment, run_name=title, start_time=began, tags=provenance.to_tags(tags)
    )
    run = created["run"]["info"]["run_id"]
    place = f"{experiment}/{run}/artifacts/{ARTIFACT}"
    model_file = directory.with_name(f".{directory.name}.MLmodel")
    model_file.write_text(json.dumps(mlmodel(config, lineage, run), indent=2) + "\n")  # JSON is YAML
    try:
        server.put_file(f"{place}/MLmodel", model_file)
    finally:
        model_file.unlink()
    for target, file in _artifacts(directory, lineage):
        server.put_file(f"{place}/{target}", file)
    server.post("runs/update", run_id=run, status="FINISHED", end_time=int(time.time() * 1000))
    return registry.create_version(server, name, place, run, tags)


def _artifacts(directory: Path, lineage: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield the place of each file in the layout of MLflow's transformers flavour, and the file."""
    yield "lineage.json", directory / "lineage.json"
    for name in lineage["files"]:
        yield f"model/{name}", directory / name
        if name in TOKENIZER:
            yield f"components/tokenizer/{name}", directory / name


def mlmodel(config: dict[str, Any], lineage: dict[str, Any], run: str) -> dict[str, Any]:
    """Return the content of the file MLmodel.

    Source: MLflow 3.17, mlflow/transformers/flavor_config.py and mlflow/models/model.py.
    """
    from transformers import __version__ as transformers_version

    transformers = {
        "task": "text-generation", "instance_type": "TextGenerationPipeline", "framework": "pt",
        "pipeline_model_type": config["architectures"][0], "model_binary": "model",
        "source_model_name": lineage["run"], "components": ["tokenizer"], "tokenizer_type": "PreTrainedTokenizerFast",
        "torch_dtype": f"torch.{config.get('dtype', 'float32')}", "transformers_version": transformers_version,
    }  # fmt: skip
    flavors = {
        "transformers": transformers,
        "python_function": {"loader_module": "mlflow.transformers", "python_version": platform.python_version()},
    }
    created = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    return {
        "artifact_path": ARTIFACT, "flavors": flavors, "model_uuid": uuid.uuid4().hex, "run_id": run,
        "utc_time_created": created, "metadata": {"checkpoint": lineage["checkpoint"]},
    }  # fmt: skip


def _properties(lineage: dict[str, Any]) -> dict[str, str]:
    """Return the origin of the export, for the tags of its version."""
    data = " ".join(str(each["sha256"]) for each in lineage.get("data", ()) if "sha256" in each)
    values = {"parent": lineage["checkpoint"], "data": data, "code": provenance.code_digest()}
    return {key: value for key, value in values.items() if value}
