"""Iterations of language models: conversations, the training's own scores, and an export in the served form."""

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Literal

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.files import write_atomic
from rackwright.iteration import choices, gate
from rackwright.iteration.candidates import StartingModel
from rackwright.iteration.family import IterationContext, fine_tuning_config
from rackwright.iteration.process_runner import ProcessFailed
from rackwright.iteration.request import TUNE, IterationRequest, Stage
from rackwright.iteration.work import Work
from workloads import config_file
from workloads.checkpoint import disk
from workloads.config_schema import ConfigSchema
from workloads.serving import model as model_directory
from workloads.serving.model import Model
from workloads.training.config import TrainingConfig

EXPORTER, QUANTIZER = "workloads.export", "workloads.quantize.language_model"
PUBLISH = f"{Stage.PUBLISH}."
HELD_OUT = 0.2
"""Share of the new conversations that judges and is never learned from: as many as of a classifier's new rows."""
LEAST_ANSWERS = 100
"""Smallest number of scored tokens for a verdict: the standard error of a share of 100 is 0.05 at most."""
NEW, CARD = "new conversations", "card.md"
QUANTIZED = {"huggingface": ("int8", "int4", "fp8"), "gguf": ("q8_0",)}
"""Number formats of fewer bits, by the format of the export. The quantiser makes the first ones from an export in
`EXPORTED`; the exporter itself rounds to the others."""
EXPORTED = "bf16"
MORE_BITS = f"Choose a format with more bits, such as --set {PUBLISH}dtype=bf16, or raise --may-lose"
EXPORT, QUANTIZATION = "export", "quantised"
"""Names of directories in that of the iteration."""
REPORT, LINEAGE = f"{QUANTIZATION}.report.json", "lineage.json"
"""Name of the report of the quantisation, beside them, and of the lineage in an export."""


class PublishSettings(ConfigSchema):
    """The settings of stage publish."""

    dtype: Literal["fp32", "bf16", "fp16", "int8", "int4", "fp8", "q8_0"] = "fp32"
    """Number format of the weights; int8, int4 and fp8 are for vLLM alone, q8_0 for llama.cpp."""


@dataclass(frozen=True)
class ServedForm:
    """The form in which a runtime serves a language model."""

    export: str
    """Format of `python -m workloads.export --to`."""
    publisher: str
    """Module that publishes the export."""
    file: str = ""
    """Name of the exported file; empty for the whole directory."""


FORMS = {
    "vllm": ServedForm("huggingface", "workloads.serving.vllm"),
    "llama.cpp": ServedForm("gguf", "workloads.serving.gguf", "model.gguf"),
}
"""Served forms by runtime."""


class LanguageModels:
    """The family of language models, whose weights can be quantised."""

    name = "language-model"
    kinds = ("deepseek-v3", "hugging-face")
    data: Mapping[str, str] = dict.fromkeys((".jsonl", ".parquet"), "conversations in JSON Lines or Parquet")
    publishing = Stage.PUBLISH
    takes_choices = True
    count_title = "answer tokens"
    figure_keys: Mapping[str, Sequence[str]] = {
        "accuracy": ("before", "tuned", "after"),
        "perplexity": ("perplexity_before", "perplexity_tuned"),
    }

    def digest(self, data: Path) -> str:
        try:
            with data.open("rb") as file:
                return file_digest(file, "sha256").hexdigest()
        except OSError as error:
            problem, expected = f"{data} cannot be read: {error.strerror}", self.data[data.suffix]
            raise DeclarationError(Diagnostic("--data", problem, expected, "Correct the path")) from None

    def published_form(self, model: Model, training: Mapping[str, Any]) -> tuple[str, str]:
        return model.runtime, str(training.get("dtype", PublishSettings().dtype))

    def check_parent(self, training: Mapping[str, Any]) -> None:
        # adapters with another base are another model than the served one, and the gate would compare with that
        base = training.get("base") or {}
        wrong = [name for name, digest in base.get("files", {}).items() if _sha256(Path(base["path"], name)) != digest]
        if wrong:
            problem = f"files of the base model are missing or have changed: {', '.join(wrong)}"
            expected = "the base model from which the served model was trained"
            raise DeclarationError(Diagnostic(str(base["path"]), problem, expected, "Restore the base model"))

    def training_config(self, request: IterationRequest, model: StartingModel, data: Path) -> TrainingConfig:
        old = model.config["data"]
        conversations = {
            "kind": "conversations",
            "path": str(data),
            "tokenizer": old.get("tokenizer") or model.config["model"].get("path"),
            "sequence_length": old["sequence_length"],
            "held_out": HELD_OUT,
        }
        if not conversations["tokenizer"] and not request.changes_of(f"{TUNE}data.tokenizer="):
            problem, expected = "the training of the served model read bytes", "a tokenizer with a chat template"
            help = f"Name the directory of one with its vocabulary: --set {TUNE}data.tokenizer=DIR"
            raise DeclarationError(Diagnostic(request.server, problem, expected, help))
        return fine_tuning_config(request, model, conversations)

    def publishing_parameters(self, request: IterationRequest, model: StartingModel) -> dict[str, Any]:
        if request.target is not None:
            problem, expected = f"got {request.target}", f"no target: {request.server} is served by {model.target}"
            raise DeclarationError(Diagnostic("--target", problem, expected, "Leave --target out"))
        values = {"dtype": model.precision}
        changes = request.changes_of(PUBLISH)
        settings = config_file.apply_changes(PublishSettings, "--set publish", values, changes)
        parameters = {"target": model.target, "settings": settings.model_dump(mode="json")}
        form = FORMS[model.target].export
        runtime = next((name for name, each in FORMS.items() if settings.dtype in QUANTIZED[each.export]), None)
        if runtime is None:
            return parameters
        if settings.dtype not in QUANTIZED[form]:
            fitting = ", ".join(("fp32", "bf16", "fp16", *QUANTIZED[form]))
            problem, expected = f"{settings.dtype} is for {runtime}", f"one of {fitting} for {model.target}"
            raise DeclarationError(Diagnostic("--set publish.dtype", problem, expected, "Choose one of these"))
        return {**parameters, **request.data_limits.as_data()}  # the gate of the quantisation depends on it

    def gate(self, context: IterationContext) -> None:
        (context.work.directory / choices.FIGURES).unlink(missing_ok=True)  # of an earlier gate
        limits = context.request.data_limits
        scores = context.work.stage(Stage.TUNE)["came"]["scores"] or []
        help = gate.HELP.format("conversations")
        gate.refuse_shortfalls(shortfalls(scores, limits), limits, help, NEW)
        if context.questions is not None:
            choices.judge(context, context.questions)

    def publish(self, context: IterationContext) -> dict[str, Any]:
        served = context.work.starting_model
        parameters = self.publishing_parameters(context.request, served)
        form, dtype = FORMS[served.target], parameters["settings"]["dtype"]
        report = context.work.directory / REPORT
        report.unlink(missing_ok=True)  # of an earlier choice of the format
        for name in (EXPORT, QUANTIZATION):  # of an earlier start, which may have ended while it removed them
            shutil.rmtree(context.work.directory / name, ignore_errors=True)
        is_converted, is_rounded = (dtype in QUANTIZED[each] for each in ("huggingface", "gguf"))
        exported = self._export(context, form.export, EXPORTED if is_converted else dtype, is_rounded)
        if is_rounded:
            record = json.loads((exported / LINEAGE).read_text())["quantization"]
            write_atomic(report, json.dumps(record, indent=2) + "\n")
        made = self._quantize(context, exported, dtype) if is_converted else exported
        if is_converted or is_rounded:
            _check_quantized(context)
        card = ("--card", served.directory / CARD) if (served.directory / CARD).is_file() else ()
        source = made / form.file
        argv = ("--name", served.name, "--out", context.model, "--replace", *card)
        result = context.run_python(form.publisher, source, *argv)
        if result.status:
            raise ProcessFailed(context.request, result)
        for directory in {exported, made}:
            shutil.rmtree(directory)  # the published model is a copy
        model = model_directory.read(context.model)
        size = sum(file.bytes for file in model.files.values())
        return {"version": model.version, "bytes": size, "precision": dtype, "target": served.target}

    def _export(self, context: IterationContext, to: str, dtype: str, is_rounded: bool) -> Path:
        """Return the directory of the exported model.

        Raises:
            AccuracyTooLow: The export is not the tuned model, or rounding loses too much.
        """
        exported = context.work.directory / EXPORT
        has_adapters = context.work.starting_model.config["model"].get("lora")
        options = [*(("--may-lose", str(context.request.limits.may_lose)) if is_rounded else ())]
        options += ["--merge-adapters"] if has_adapters else []
        argv = ("--to", to, "--dtype", dtype, "--out", exported, *options)
        result = context.run_python(EXPORTER, context.training, *argv)
        if result.is_refusal:
            problem, note = f"the export fails its check: {result.failure.problem}", "the model is not promoted"
            expected = "the accuracy of the trained model" if is_rounded else "the logits of the trained model"
            help = f"Choose another number format with --set {PUBLISH}dtype=fp32, or report the architecture"
            raise gate.AccuracyTooLow(Diagnostic("export", problem, expected, help, note))
        if result.status:
            raise ProcessFailed(context.request, result)
        return exported

    def _quantize(self, context: IterationContext, exported: Path, dtype: str) -> Path:
        """Return the directory of the export with its weights in *dtype*.

        Raises:
            AccuracyTooLow: The quantised model falls short of the tuned one.
        """
        made, may_lose = context.work.directory / QUANTIZATION, str(context.request.limits.may_lose)
        argv = ("--to", dtype, "--training", context.training, "--may-lose", may_lose, "--out", made)
        result = context.run_python(QUANTIZER, exported, *argv)
        if result.is_refusal:
            problem, note = f"the quantised model fails its gate: {result.failure.problem}", "the model is not promoted"
            raise gate.AccuracyTooLow(Diagnostic("quantising", problem, help=MORE_BITS, note=note))
        if result.status:
            raise ProcessFailed(context.request, result)
        return made

    def figures(self, work: Work) -> list[dict[str, Any]]:
        scores = work.stage(Stage.TUNE)["came"].get("scores") or []
        quantized = dict(enumerate(_quantized_results(work)))
        return [
            {
                "data": data_name(each, number == 0),
                "rows": each["answers"],
                "before": each["parent"]["accuracy"],
                "tuned": each["accuracy"],
                "after": quantized[number]["accuracy"] if number in quantized else None,
                "perplexity_before": perplexity(each["parent"]["loss"]),
                "perplexity_tuned": perplexity(each["loss"]),
            }
            for number, each in enumerate(scores)
        ]


def _check_quantized(context: IterationContext) -> None:
    """Compare the quantised model with the served one.

    Raises:
        AccuracyTooLow: It falls short.
    """
    scores, limits = context.work.stage(Stage.TUNE)["came"]["scores"] or [], context.request.data_limits
    quantized = [
        {**score, "accuracy": each["accuracy"], "loss": each["loss"]}
        for score, each in zip(scores, _quantized_results(context.work), strict=True)
    ]
    gate.refuse_shortfalls(shortfalls(quantized, limits), limits, MORE_BITS, NEW)


def _quantized_results(work: Work) -> list[dict[str, Any]]:
    """Return the results of the quantised model, by data set in the order of the training's scores."""
    try:
        report = json.loads((work.directory / REPORT).read_text())
    except FileNotFoundError:
        return []
    results: list[dict[str, Any]] = report["gate"]["after"]
    return results


def _sha256(path: Path) -> str | None:
    return disk.sha256(path) if path.is_file() else None


def perplexity(loss: float) -> float:
    """Return the perplexity of a mean *loss* in nats per token; more than 700 count as 700, which a float has."""
    return math.exp(min(loss, 700.0))


def data_name(score: Mapping[str, Any], new: bool) -> str:
    return NEW if new else str(score["data"])


def shortfalls(scores: Sequence[Mapping[str, Any]], limits: gate.Limits) -> list[str]:
    """Return a text for each data set on which the tuned model falls short of its parent, which is the served model.

    Token accuracy judges, in the unit of *limits*. On new conversations perplexity must not rise either, because it
    changes before the most likely tokens do.

    Args:
        scores: Scores of a fine-tuning, those on the new conversations first.
    """
    if not scores:
        return ["the training has no scores"]
    return [text for number, each in enumerate(scores) for text in _shortfalls(each, number == 0, limits)]


def _shortfalls(score: Mapping[str, Any], new: bool, limits: gate.Limits) -> Iterator[str]:
    name, parent = data_name(score, new), score["parent"]
    if score["answers"] < LEAST_ANSWERS:
        yield f"{score['answers']} answer tokens of {name}, of at least {LEAST_ANSWERS}"
        return
    if not limits.allow(parent["accuracy"], score["accuracy"], new):
        yield f"token accuracy {score['accuracy']:.4f} on {name}, where the served model has {parent['accuracy']:.4f}"
    elif new and not score["loss"] <= parent["loss"] + gate.ROUNDING:
        before, after = perplexity(parent["loss"]), perplexity(score["loss"])
        yield f"perplexity {after:.4f} on {name}, where the served model has {before:.4f}"
    if new and not limits.reach_floor(score["accuracy"]):
        yield f"token accuracy {score['accuracy']:.4f} on {name}, of at least {limits.at_least:g}"
