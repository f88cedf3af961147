"""Whether and how a language model fits the GPUs that vLLM divides it over: weights, cache and memory of each GPU.

A model that passes may still need too much memory: what vLLM needs besides weights and cache is a formula after its
sources and logs, unverified on hardware by us.
"""

from workloads.serving.fit.checkpoint import Tensors, computed_tensors, read_tensors
from workloads.serving.fit.layout import GIB, SHARE_PERCENT, Gpus, Layout, Load, Wish, layout_fields, reported_bytes
from workloads.serving.fit.memory import StageMemory, memory
from workloads.serving.fit.notes import layout_notes
from workloads.serving.fit.search import DoesNotFit, Fit, best_fit, fits
from workloads.serving.fit.sizes import UNKNOWN, Sizes, computed_sizes, parse_sizes, sizes

__all__ = [
    "GIB", "SHARE_PERCENT", "UNKNOWN", "DoesNotFit", "Fit", "Gpus", "Layout", "Load", "Sizes", "StageMemory", "Tensors",
    "Wish", "best_fit", "computed_sizes", "computed_tensors", "fits", "layout_fields", "layout_notes", "memory",
    "parse_sizes", "read_tensors", "reported_bytes", "sizes",
]  # fmt: skip
