"""The whole way: export, calibrate, search, judge, report, and publish where the gate is passed."""

import platform
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from workloads.errors import WorkloadError
from workloads.quantize import report, samples, targets
from workloads.quantize.config import Settings
from workloads.quantize.measure import measure
from workloads.quantize.render import Renderer, fused, layers, parts, prepared
from workloads.quantize.report import Report
from workloads.quantize.samples import Samples, Sets
from workloads.quantize.score import outputs, score, shortfalls
from workloads.quantize.search import SearchCandidate, search
from workloads.quantize.source import Source, source
from workloads.quantize.targets import Chosen
from workloads.serving.model import publish
from workloads.tracking.provenance import code_digest

THREADS = 1
"""Of what is measured: two of two cores would measure who else is there."""

COST_ROWS = 64
"""Of the rows of the search, so many say what one layer costs: a cosine needs fewer than an accuracy."""

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")
"""What 8 bits gain by, as Linux names it."""


def quantize(
    what: Path, data: str, target: str, out: Path, settings: Settings, say: Callable[[str], None], version: str = ""
) -> Report:
    """Quantise *what* for *target* and publish it in *out* if it passes; the report is in ``OUT.report`` either way.

    Args:
        version: As what the registry has it, if that is where it comes from: ``digits/3``.

    Raises:
        WorkloadError: it cannot be done so; nothing is written.
    """
    chosen = targets.choose(target, settings.precision)
    with tempfile.TemporaryDirectory(prefix="rackwright-") as place:
        scratch = Path(place)
        original = source(what, scratch)
        sets = samples.load(data, original, settings.calibration_rows)
        if settings.gate.accuracy_kept is not None and sets.held_out.labels is None:
            fix = "Add them, or gate by agreement and cosine alone: --set gate.accuracy_kept=null"
            raise WorkloadError("--data", f"got no labels in {data}", "without them no accuracy is known", fix)
        say(f"{original.name}: {chosen.precision} for {target} ({chosen.why})")
        made, found, names = _made(original, chosen, sets, settings, scratch, say)
        told = _judged(original, chosen, sets, settings, made, found, names)
        report.write(told, out.with_name(f"{out.name}.report"))
        if told.passed:
            lineage = {
                "source": dict(original.lineage), "target": chosen.target, "precision": chosen.precision,
                "left_out": list(found.left_out), "calibration": settings.calibration, "gate": told.gate(),
                "data": {"name": data, "sha256": sets.sha256}, "code": code_digest(), "machine": told.machine,
            }  # fmt: skip
            if original.parent:
                lineage["parent"] = {"sha256": original.parent, "version": version}
            publish(out, parts(made, scratch), original.name, original.inputs, original.outputs, lineage)
    return told


def _made(
    original: Source, chosen: Chosen, sets: Sets, settings: Settings, scratch: Path, say: Callable[[str], None]
) -> tuple[Path, SearchCandidate, list[str]]:
    """Return the model in the precision that was chosen, what was left out of it, and what could have been in."""
    if chosen.precision == "fp32":
        return original.path, SearchCandidate((), {}), []
    base = prepared(original.path, scratch)
    renderer = Renderer(base, sets.calibration, settings, scratch)
    if chosen.precision == "fp16":
        return renderer.fp16(), SearchCandidate((), {}), []
    names = layers(base)
    if not names:
        raise WorkloadError(original.name, "got no layer", "there are some that 8 bits are for", "Take fp32 or fp16")
    render = partial(renderer.int8, signed=chosen.signed)
    judged = partial(outputs, threads=THREADS, fused=not chosen.signed)
    found = (
        _searched(base, names, render, judged, sets.search, settings, say)
        if settings.search
        else SearchCandidate((), {})
    )
    made = render([name for name in names if name not in found.left_out])
    return made if chosen.signed else fused(made, scratch), found, names


def _searched(
    base: Path, names: Sequence[str], render: Callable[[Sequence[str]], Path],
    judged: Callable[[Path, Samples], np.ndarray], rows: Samples, settings: Settings, say: Callable[[str], None],
) -> SearchCandidate:  # fmt: skip
    before, few = judged(base, rows), np.arange(min(len(rows), COST_ROWS))

    def tightened(share: float) -> float:
        return share + (1 - share) * settings.margin

    gate = settings.gate.model_copy(
        update={name: None if value is None else tightened(value) for name, value in settings.gate.model_dump().items()}
    )

    def cost(layer: str) -> float:
        return 1 - score(before[few], judged(render([layer]), rows.take(few)), None, settings.task).cosine

    def good_without(left_out: Sequence[str]) -> bool:
        after = judged(render([name for name in names if name not in left_out]), rows)
        lacks = shortfalls(score(before, after, rows.labels, settings.task), gate)
        say(f"without {len(left_out)} of {len(names)} layers: {'; '.join(lacks) or 'good'}")
        return not lacks

    return search(names, cost, good_without)


def _judged(
    original: Source,
    chosen: Chosen,
    sets: Sets,
    settings: Settings,
    made: Path,
    found: SearchCandidate,
    names: list[str],
) -> Report:
    judge = sets.held_out
    before, after = (outputs(path, judge, THREADS, fused=not chosen.signed) for path in (original.path, made))
    result = score(before, after, judge.labels, settings.task)
    was, now = measure([original.path, made], judge, settings.repeats, THREADS)
    lacks = shortfalls(result, settings.gate)
    return Report(original, chosen, settings, sets, names, found, result, lacks, was, now, machine())


def machine() -> str:
    """Return the processor of this computer, and those of its instructions that 8 bits gain by."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in FLAGS if flag in told.get("flags", "").split()]
    return f"{told.get('model name', platform.machine())} ({', '.join(flags) or 'no vectors of 8 bits'})"
