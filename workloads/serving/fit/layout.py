"""How a language model is divided over GPUs, and what is asked of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

SHARE_PERCENT = 90
"""Percent of a GPU's memory for vLLM. Source: ``--gpu-memory-utilization`` of vLLM. Its default is 0.9 in 0.6.4 and
0.92 in 0.25, so every start of vLLM here sets it."""
GIB = 1 << 30
REPORTED = {80: 79.1, 141: 139.8, 16: 14.8}
"""GiB that CUDA reports, by the label in GB, from logs. For other labels the label's GB count as GiB."""
BATCH_TOKENS = ((160, 16384), (70, 8192), (0, 2048))
"""Tokens of one batch, by the least GiB of a GPU. Source: get_batch_defaults, vLLM 0.32, which gives an A100 less."""


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs that a model may use: equal ones, on equal hosts."""

    memory_bytes: int
    """Memory of one GPU as its driver reports it."""
    per_host: int
    hosts: int = 1

    @property
    def room(self) -> int:
        """Bytes of each GPU for vLLM."""
        return self.memory_bytes * SHARE_PERCENT // 100

    @property
    def batch_tokens(self) -> int:
        """Tokens of one batch, vLLM's default for ``--max-num-batched-tokens``."""
        return next(tokens for least, tokens in BATCH_TOKENS if self.memory_bytes >= least * GIB)


def reported_bytes(label_bytes: int) -> int:
    """Return the bytes that the driver reports for a GPU whose label says *label_bytes*, in powers of ten."""
    label = label_bytes // 10**9
    return int(REPORTED.get(label, label) * GIB)


@dataclass(frozen=True, slots=True)
class Load:
    """Demands on a server."""

    context_tokens: int
    """Tokens of a prompt and its answer together."""
    parallel: int
    """Texts that the server generates at once, over all data-parallel ranks."""
    cache_dtype: Literal["auto", "fp8"] = "auto"
    """Precision of the cache; auto: the model's own."""
    draft: bool = False
    """Whether vLLM loads the layers for multi-token prediction."""
    batch_tokens: int = 8192
    """Tokens that vLLM computes at once."""

    def texts_per_rank(self, layout: "Layout") -> int:
        return -(-self.parallel // layout.data_parallel)


@dataclass(frozen=True, slots=True)
class Layout:
    """How one replica is divided over GPUs."""

    hosts: int = 1
    tensor_parallel: int = 1
    """GPUs that divide each layer."""
    pipeline_parallel: int = 1
    """Stages of whole layers."""
    data_parallel: int = 1
    """Ranks with attention of their own, which share the experts."""
    expert_parallel: bool = False
    """Whether GPUs have whole experts instead of a part of each."""
    context_parallel: int = 1
    """GPUs of a tensor-parallel group that divide a text's cache (``--decode-context-parallel-size``)."""

    @property
    def gpus(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel

    @property
    def shards(self) -> int:
        """GPUs of a stage, which divide its experts."""
        return self.tensor_parallel * self.data_parallel

    def __str__(self) -> str:
        return ", ".join(f"{name} {str(value).lower()}" for name, value in self.settings.items())

    @property
    def settings(self) -> dict[str, int | bool]:
        """The settings of a server with this layout; those with their defaults are left out."""
        settings: dict[str, int | bool] = {"tensor_parallel": self.tensor_parallel}
        for name in ("pipeline_parallel", "data_parallel"):
            if getattr(self, name) > 1:
                settings[name] = getattr(self, name)
        if self.expert_parallel:
            settings["expert_parallel"] = True
        if self.context_parallel > 1:
            settings["decode_context_parallel"] = self.context_parallel
        return settings

    @property
    def flags(self) -> list[str]:
        """The options of ``vllm serve`` for this layout, without the addresses of hosts. Source: vLLM 0.32."""
        flags = ["--tensor-parallel-size", str(self.tensor_parallel)]
        if self.pipeline_parallel > 1:
            flags += ["--pipeline-parallel-size", str(self.pipeline_parallel)]
        if self.data_parallel > 1:
            local = max(1, self.data_parallel // self.hosts)
            flags += ["--data-parallel-size", str(self.data_parallel), "--data-parallel-size-local", str(local)]
        elif self.hosts > 1:
            flags += ["--nnodes", str(self.hosts)]
        if self.expert_parallel:
            flags += ["--enable-expert-parallel"]
        if self.context_parallel > 1:
            flags += ["--decode-context-parallel-size", str(self.context_parallel)]
        return flags


SETTINGS = {"context_parallel": "decode_context_parallel"}
"""Settings of a server whose names differ from those of a layout, by the latter."""


def layout_fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return *settings* of a server, by the names that the fields of a layout have."""
    fields = {setting: field for field, setting in SETTINGS.items()}
    return {fields.get(name, name): value for name, value in settings.items()}


@dataclass(frozen=True, slots=True)
class Wish:
    """The parts of a layout that are declared; None leaves the choice."""

    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    data_parallel: int | None = None
    expert_parallel: bool | None = None
    context_parallel: int | None = None
    hosts: int | None = None

    def allows(self, layout: Layout) -> bool:
        return all(getattr(self, name) in (None, getattr(layout, name)) for name in self.__slots__)

    def __str__(self) -> str:
        values = {name: getattr(self, name) for name in self.__slots__}
        # what is 1 or false by default is no declaration of its own
        declared = {name: value for name, value in values.items() if value not in (None, 1, False)}
        shown = declared or {"tensor_parallel": self.tensor_parallel}
        return ", ".join(f"{SETTINGS.get(name, name)} {str(value).lower()}" for name, value in shown.items())
