"""Iterations of image classifiers: rows of NumPy, compared by the workloads, and quantised for a processor."""

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.files import write_atomic
from rackwright.foreign import InvalidData
from rackwright.iteration import gate
from rackwright.iteration.candidates import TRAINING, StartingModel
from rackwright.iteration.family import IterationContext, fine_tuning_config
from rackwright.iteration.process_runner import ProcessFailed
from rackwright.iteration.request import IterationRequest, Stage
from rackwright.iteration.work import Work
from workloads import config_file
from workloads.quantize.config import QuantizeSettings
from workloads.serving import model as model_directory
from workloads.serving.model import Model
from workloads.training.config import TrainingConfig

QUANTIZER, COMPARE = "workloads.quantize", "workloads.quantize.compare"
COMPARISONS = {Stage.GATE: "tuned.json", Stage.QUANTIZE: "made.json"}
"""File with the comparison of the new model and the served one, by the stage that writes it."""
QUANTIZE = f"{Stage.QUANTIZE}."


class Classifiers:
    """The family of image classifiers, which are quantised from a checkpoint."""

    name = "image-classifier"
    kinds = (name,)
    data: Mapping[str, str] = {".npz": "rows in a file that numpy.savez wrote (.npz)"}
    publishing = Stage.QUANTIZE
    takes_choices = False
    count_title = "rows"
    figure_keys: Mapping[str, Sequence[str]] = {"accuracy": ("before", "tuned", "after")}

    def digest(self, data: Path) -> str:
        return digest_arrays(data)

    def published_form(self, model: Model, training: Mapping[str, Any]) -> tuple[str, str]:
        return str(model.lineage.get("target", "cpu")), str(model.lineage.get("precision", "fp32"))

    def check_parent(self, training: Mapping[str, Any]) -> None:
        pass  # the checkpoint of a classifier has all its weights

    def training_config(self, request: IterationRequest, model: StartingModel, data: Path) -> TrainingConfig:
        rows = {"kind": "rows", "path": str(data)}
        return fine_tuning_config(request, model, rows, schedule={"kind": "adaptive"})

    def publishing_parameters(self, request: IterationRequest, model: StartingModel) -> dict[str, Any]:
        settings = _quantize_settings(request, model).model_dump(mode="json")
        return {"target": request.target or model.target, "settings": settings, **request.limits.as_data()}

    def gate(self, context: IterationContext) -> None:
        limits = context.request.limits
        shortfalls = _compare(context, Stage.GATE, context.training)
        shortfalls += gate.worse_than_parent(context.work.stage(Stage.TUNE)["came"]["scores"] or [], limits.may_lose)
        help = gate.HELP.format("rows")
        gate.refuse_shortfalls(shortfalls, limits, help)

    def publish(self, context: IterationContext) -> dict[str, Any]:
        parameters = self.publishing_parameters(context.request, context.work.starting_model)
        target, settings = parameters["target"], context.work.directory / "quantize.json"
        write_atomic(settings, json.dumps(parameters["settings"], indent=2) + "\n")
        argv = ("--data", TRAINING, "--target", target, "--out", context.model, "--replace", "--settings", settings)
        result = context.run_python(QUANTIZER, context.training, *argv)
        if result.is_refusal:
            problem = f"the quantised model fails its gate: {result.failure.problem}"
            help = f"Read its report, and leave more in full precision with --set {QUANTIZE}…"
            raise gate.AccuracyTooLow(Diagnostic("quantising", problem, help=help))
        if result.status:
            raise ProcessFailed(context.request, result)
        shortfalls = _compare(context, Stage.QUANTIZE, context.model)
        help = f"Read the loss by 8 bits in {context.model.name}.report, or raise --may-lose"
        gate.refuse_shortfalls(shortfalls, context.request.limits, help)
        model = model_directory.read(context.model)
        size = sum(file.bytes for file in model.files.values())
        return {"version": model.version, "bytes": size, "precision": model.lineage["precision"], "target": target}

    def figures(self, work: Work) -> list[dict[str, Any]]:
        tuned, quantized = (_read(work.directory / name) for name in COMPARISONS.values())
        return [
            {
                "data": gate.data_name(each, number == 0),
                "rows": each["rows"],
                "before": each["before"],
                "tuned": each["after"],
                "after": quantized[number]["after"] if quantized else None,
            }
            for number, each in enumerate(tuned)
        ]


def _compare(context: IterationContext, stage: Stage, candidate: Path) -> list[str]:
    """Return the shortfalls of the model in *candidate* against the served one, as texts."""
    out, served = context.work.directory / COMPARISONS[stage], context.work.starting_model
    if (version := model_directory.read(served.directory).version) != served.version:
        problem, expected = f"the directory has version {version}", f"the served version, {served.version}"
        help = "Publish the served version there again, with --replace"
        raise DeclarationError(Diagnostic(str(served.directory), problem, expected, help))
    argv = (served.directory, candidate, "--training", context.training, "--out", out)
    result = context.run_python(COMPARE, *argv)
    if result.status:
        raise ProcessFailed(context.request, result)
    return gate.shortfalls(_read(out), context.request.limits)


def _read(comparison: Path) -> list[dict[str, Any]]:
    comparisons: list[dict[str, Any]] = json.loads(comparison.read_text()) if comparison.exists() else []
    return comparisons


def _quantize_settings(request: IterationRequest, model: StartingModel) -> QuantizeSettings:
    """Return the settings of quantising: the precision of the served model, or for another target the catalogue's."""
    accuracy_kept = request.stack.fleet.servers[request.server].gate.accuracy_kept
    values = QuantizeSettings().model_dump(mode="json")
    if request.target in (None, model.target):
        values["precision"] = model.precision
    if accuracy_kept is not None:
        values["gate"]["accuracy_kept"] = accuracy_kept
    return config_file.apply_changes(QuantizeSettings, "--set quantize", values, request.changes_of(QUANTIZE))


def digest_arrays(path: Path) -> str:
    """Return the digest of the arrays in the file *path*. The dates in the file do not count.

    Raises:
        DeclarationError: The file has no arrays.
    """
    from rackwright.foreign.archives import open_zip

    digest = sha256()
    try:
        with open_zip(Path(os.path.realpath(path))) as file:
            for member in sorted(file.members, key=lambda member: member.filename):
                digest.update(f"{member.filename} {member.file_size}\n".encode(errors="surrogateescape"))
                for part in file.parts(member):
                    digest.update(part)
    except (OSError, InvalidData) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problem, expected = f"{path} cannot be read: {reason}", "a file that numpy.savez wrote"
        help = "Write the new rows with numpy.savez: `rackwright explain data-unreadable` has the format"
        raise DeclarationError(Diagnostic("--data", problem, expected, help, id="data-unreadable")) from None
    return digest.hexdigest()
