"""Quantise a model in all steps: export, calibrate, search, evaluate, report, and publish if the gate passes."""

import platform
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from workloads.errors import Diagnostic, UserError
from workloads.output_directory import OutputDirectory
from workloads.quantize import report, samples, targets
from workloads.quantize.config import QuantizeSettings
from workloads.quantize.measure import judge_speed, measure
from workloads.quantize.render import Renderer, fuse, layers, preprocess, published_files
from workloads.quantize.report import QuantizationReport
from workloads.quantize.samples import Samples, Sets
from workloads.quantize.score import outputs, score, shortfalls, too_slow
from workloads.quantize.search import SearchCandidate, search
from workloads.quantize.source import SourceModel, source
from workloads.quantize.targets import CPU, PrecisionChoice
from workloads.serving.model import publish
from workloads.tracking.provenance import code_digest

THREADS = 1
"""Threads of a measurement: with all cores, other processes would distort it."""

COST_ROWS = 64
"""Rows of the search set that measure one layer's cost: a cosine needs fewer rows than an accuracy."""

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")
"""CPU features that speed up 8-bit models, as Linux names them."""


def quantize(
    model: Path,
    data: str,
    target: str,
    output: OutputDirectory,
    settings: QuantizeSettings,
    progress: Callable[[str], None],
    version: str = "",
) -> QuantizationReport:
    """Quantise *model* for *target*, publish it in *output* if it passes the gate, and write its report either way.

    Args:
        version: The model's version in the registry, if it has one: ``digits/3``.

    Raises:
        UserError: the model, the data or the settings do not fit, or *output* exists; nothing is written.
    """
    output.check()
    choice = targets.choose(target, settings.precision)
    with tempfile.TemporaryDirectory(prefix="rackwright-") as place:
        scratch = Path(place)
        original = source(model, scratch)
        sets = samples.load(data, original, settings.calibration_rows)
        if settings.gate.accuracy_kept is not None and sets.held_out.labels is None:
            problem, note = f"{data} has no labels", "the gate compares accuracies, which need labels"
            help = "Add labels, or gate by agreement and cosine alone with --set gate.accuracy_kept=null"
            raise UserError(Diagnostic("--data", problem, help=help, note=note))
        progress(f"{original.name}: {choice.precision} for {target} ({choice.why})")
        model_path, search_result, names = _quantize(original, choice, sets, settings, scratch, progress)
        outcome = _evaluate(original, choice, sets, settings, model_path, search_result, names)
        report.write(outcome, output.report)
        if outcome.has_passed:
            lineage = {
                "source": dict(original.lineage), "target": choice.target, "precision": choice.precision,
                "left_out": list(search_result.left_out), "calibration": settings.calibration, "gate": outcome.gate(),
                "data": {"name": data, "sha256": sets.sha256}, "code": code_digest(), "machine": outcome.machine,
            }  # fmt: skip
            if original.parent:
                lineage["parent"] = {"sha256": original.parent, "version": version}
            publish(
                output.path, published_files(model_path, scratch), original.name, original.inputs, original.outputs,
                lineage, replace=output.replace,
            )  # fmt: skip
    return outcome


def _quantize(
    original: SourceModel,
    choice: PrecisionChoice,
    sets: Sets,
    settings: QuantizeSettings,
    scratch: Path,
    progress: Callable[[str], None],
) -> tuple[Path, SearchCandidate, list[str]]:
    """Return the model in the chosen precision, the result of the layer search, and the quantisable layers."""
    if choice.precision == "fp32":
        return original.path, SearchCandidate((), {}), []
    base = preprocess(original.path, scratch)
    renderer = Renderer(base, sets.calibration, settings, scratch)
    if choice.precision == "fp16":
        return renderer.fp16(), SearchCandidate((), {}), []
    names = layers(base)
    if not names:
        raise UserError(
            Diagnostic(original.name, "the model has no layer to quantise to 8 bits", help="Use fp32 or fp16")
        )
    render = partial(renderer.int8, signed=choice.is_signed)
    evaluate = partial(outputs, threads=THREADS, fused=not choice.is_signed)
    search_result = (
        _search(base, names, render, evaluate, sets.search, settings, progress)
        if settings.search
        else SearchCandidate((), {})
    )
    model_path = render([name for name in names if name not in search_result.left_out])
    return model_path if choice.is_signed else fuse(model_path, scratch), search_result, names


def _search(
    base: Path, names: Sequence[str], render: Callable[[Sequence[str]], Path],
    evaluate: Callable[[Path, Samples], np.ndarray], rows: Samples, settings: QuantizeSettings,
    progress: Callable[[str], None],
) -> SearchCandidate:  # fmt: skip
    before, few = evaluate(base, rows), np.arange(min(len(rows), COST_ROWS))

    def tighten(share: float) -> float:
        return share + (1 - share) * settings.margin

    gate = settings.gate.model_copy(
        update={
            name: None if value is None else tighten(value)
            for name, value in settings.gate.model_dump(exclude={"speed"}).items()
        }
    )

    def cost(layer: str) -> float:
        return 1 - score(before[few], evaluate(render([layer]), rows.take(few)), None, settings.task).cosine

    def good_without(left_out: Sequence[str]) -> bool:
        after = evaluate(render([name for name in names if name not in left_out]), rows)
        missing = shortfalls(score(before, after, rows.labels, settings.task), gate)
        progress(f"without {len(left_out)} of {len(names)} layers: {'; '.join(missing) or 'good'}")
        return not missing

    return search(names, cost, good_without)


def _evaluate(
    original: SourceModel,
    choice: PrecisionChoice,
    sets: Sets,
    settings: QuantizeSettings,
    model_path: Path,
    search_result: SearchCandidate,
    names: list[str],
) -> QuantizationReport:
    held_out = sets.held_out
    before, after = (
        outputs(path, held_out, THREADS, fused=not choice.is_signed) for path in (original.path, model_path)
    )
    result = score(before, after, held_out.labels, settings.task)
    again = partial(measure, [original.path, model_path], held_out, settings.repeats, THREADS)
    before_figures, after_figures = figures = again()
    # the figures of this computer say nothing about a GPU, and fp32 is the original itself
    is_judged = choice.target == CPU and choice.precision != "fp32"
    speed = judge_speed(figures, again, settings.gate.speed or 0.0) if is_judged else None
    missing = [*shortfalls(result, settings.gate), *too_slow(speed, settings)]
    return QuantizationReport(
        original,
        choice,
        settings,
        sets,
        names,
        search_result,
        result,
        missing,
        before_figures,
        after_figures,
        speed,
        machine(),
    )


def machine() -> str:
    """Return the name of this computer's processor, with its instructions for 8 bits."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    cpu = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in FLAGS if flag in cpu.get("flags", "").split()]
    return f"{cpu.get('model name', platform.machine())} ({', '.join(flags) or 'no vectors of 8 bits'})"
