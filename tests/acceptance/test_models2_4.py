"""Line 4: layouts beside published recipes, for the models of today.

`published_layouts.json` has the shapes and their sources. `kind`: equal, the recipe's layout fits; unknown, the size is
not computed and the layout is declared; refused, the layout cannot work, and another one or more hosts do. `cache`,
counted by hand from the published description: layers that keep the whole text, layers that keep a window, its tokens,
and the bytes of a token in one layer.
"""

import json
from collections.abc import Mapping
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
    Sizes,
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
LEAST, LEAST_EQUAL, LEAST_CACHES = 25, 20, 10


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
    caches = [each["cache"] for each in rows if "cache" in each]
    windows = sum(bool(each["window"]) for each in caches)
    need(len(caches) >= LEAST_CACHES and windows, f"{len(caches)} caches are counted by hand, {windows} with windows")
    kinds = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    return f"{len(models)} shapes, {len(rows)} layouts: {kinds}; {len(caches)} caches equal, {windows} with windows"


def _cache_problem(counted: Mapping[str, int], model: Sizes) -> str:
    """Return how the cache of *model* differs from the counted one; empty if it does not."""
    layer = counted["layer_bytes"]
    wanted = (counted["layers"] * layer, counted["window_layers"] * layer, counted["window"])
    found = (model.cache_bytes_per_token, model.window_bytes_per_token, model.window_tokens)
    return "" if found == wanted else f"its cache has {found}, counted {wanted}: token, token of windows, window"


def _problem(row: dict[str, Any], log: Log) -> str:
    """Return how a layout differs from the recipe; empty if it does not."""
    try:
        model = sizes(row["config"], computed_tensors(shape_of(row["config"])))
    except UserError as error:
        return "" if row["kind"] == "unknown" else f"its size is unknown: {error}"
    if "cache" in row and (problem := _cache_problem(row["cache"], model)):
        return problem
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
