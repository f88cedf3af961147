"""Line 4: layouts beside published recipes, for the models of today.

`published_layouts.json` has the shapes and their sources. `kind`: equal, the recipe's layout fits; unknown, the size is
not computed and the layout is declared; refused, the layout cannot work, and another one or more hosts do.
"""

import json
from pathlib import Path
from typing import Any

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from workloads.catalogue.accelerators import gpu_memory_bytes
from workloads.errors import UserError
from workloads.serving.fit import (
    DoesNotFit,
    Fit,
    Gpus,
    Load,
    Wish,
    best_fit,
    computed_tensors,
    fits,
    layout_fields,
    reported_bytes,
    sizes,
)
from workloads.serving.fit.shape import shape_of

SHAPES = Path(__file__).with_name("published_layouts.json")
LEAST, LEAST_EQUAL = 25, 20


@line("models2", 4)
def test_layouts_equal_those_of_published_recipes(log: Log) -> str:
    rows: list[dict[str, Any]] = json.loads(SHAPES.read_text())
    wrong, counts = [], {"equal": 0, "unknown": 0, "refused": 0}
    models = {each["config_source"] for each in rows}
    for each in rows:
        if problem := _problem(each, log):
            wrong.append(f"{each['name']}: {problem}")
        else:
            counts[each["kind"]] += 1
    need(not wrong, "; ".join(wrong))
    equal = {each["config_source"] for each in rows if each["kind"] == "equal"}
    need(len(models) >= LEAST and len(equal) >= LEAST_EQUAL, f"{len(models)} shapes, {len(equal)} of them equal")
    return f"{len(models)} shapes, {len(rows)} layouts: " + ", ".join(f"{n} {kind}" for kind, n in counts.items())


def _problem(row: dict[str, Any], log: Log) -> str:
    """Return how a layout differs from the recipe; empty if it does not."""
    try:
        model = sizes(row["config"], computed_tensors(shape_of(row["config"])))
    except UserError as error:
        return "" if row["kind"] == "unknown" else f"its size is unknown: {error}"
    memory = gpu_memory_bytes(row["gpu"])
    if memory is None or row["kind"] == "unknown":
        return "its size is known" if memory else f"the catalogue has no memory of {row['gpu']}"
    gpus = Gpus(reported_bytes(memory), row["gpus"], row["hosts"])
    load = Load(row["context_tokens"], row["parallel"], batch_tokens=gpus.batch_tokens)
    wish = Wish(**{"expert_parallel": False, **layout_fields(row["layout"])})
    try:
        found: Fit = best_fit(model, gpus, load, wish)
    except DoesNotFit as error:
        works = any(each.fits for each in fits(model, gpus, load)) or "serve it on" in str(error)
        return "" if row["kind"] == "refused" and works else str(error)
    log(f"{row['name']}: {found.text}")
    if row["kind"] == "refused":
        return f"{found.layout} fits"
    own = {name: value for name, value in found.layout.settings.items() if value != 1}
    recipe = {name: value for name, value in row["layout"].items() if value != 1}
    return "" if own == recipe else f"{own}, and the recipe has {recipe}"
