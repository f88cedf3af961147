"""The page of published layouts of language models, beside ours."""

import json
from collections.abc import Mapping
from typing import Any

from tests.reference.markdown import code, page, table
from tests.support.log import ROOT
from workloads.catalogue.accelerators import gpu_memory_bytes
from workloads.errors import UserError
from workloads.serving.fit import (
    DoesNotFit,
    Gpus,
    Load,
    Sizes,
    Wish,
    best_fit,
    computed_tensors,
    layout_fields,
    reported_bytes,
    sizes,
)
from workloads.serving.fit.shape import shape_of

SOURCE = "tests/acceptance/published_layouts.json"
INTRODUCTION = """\
Layouts of published recipes for vLLM, beside the computed ones, for the tokens of a text and the number of texts at
once in the table. *Published* is the layout of the recipe. *Ours* says how much of each GPU that layout needs here, of
the 90 % for vLLM, or why it is refused. *Proposed* is the first layout of
[`workloads.serving.fit`](../guides/serve-language-model.md#gpus-that-a-model-needs) without a declared one: on the
fewest GPUs, and with parts of experts before whole ones.

> [!WARNING]
> The figures are computed. No model of this page was loaded on a GPU by us."""


def render() -> str:
    """Return docs/reference/layouts.md."""
    head = ("model", "GPUs", "tokens, texts", "published", "ours", "proposed", "source")
    rows = [_row(each) for each in json.loads((ROOT / SOURCE).read_text())]
    return page("Published layouts", SOURCE, INTRODUCTION, table(head, rows))


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    hosts = f"{row['hosts']} hosts with " if row["hosts"] > 1 else ""
    published = ", ".join(f"{name} {str(value).lower()}" for name, value in row["layout"].items())
    source = str(row.get("recipe", row["config_source"]))
    asked = f"{row['context_tokens']}, {row['parallel']}"
    return (row["name"], f"{hosts}{row['gpus']} {row['gpu']}", asked, published, *_ours(row), code(source))


def _ours(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return what the published layout needs here, and the proposed layout."""
    try:
        model = sizes(row["config"], computed_tensors(shape_of(row["config"])))
    except UserError:
        return "size unknown: the layout is declared", "none"
    memory = gpu_memory_bytes(row["gpu"])
    assert memory is not None, row["gpu"]
    gpus = Gpus(reported_bytes(memory), row["gpus"], row["hosts"])
    load = Load(row["context_tokens"], row["parallel"], batch_tokens=gpus.batch_tokens)
    published = _needs(model, gpus, load, Wish(**{"expert_parallel": False, **layout_fields(row["layout"])}))
    return published, _needs(model, gpus, load, Wish())


def _needs(model: Sizes, gpus: Gpus, load: Load, wish: Wish) -> str:
    try:
        found = best_fit(model, gpus, load, wish)
    except DoesNotFit as error:
        return f"refused: {error.diagnostic.help[0].lower()}{error.diagnostic.help[1:]}"
    needs = f"{found.bytes_per_gpu / 1e9:.1f} of {gpus.room / 1e9:.1f} GB"
    return needs if wish != Wish() else f"{found.layout}: {needs}"
