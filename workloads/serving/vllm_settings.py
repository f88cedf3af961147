"""The settings of a server that only vLLM has, and the options and variables of vLLM that follow from them."""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationInfo, field_validator, model_validator

from workloads.serving.fit.layout import Layout
from workloads.serving.kv_cache import GIB, KvTransferSettings, transfer_option, transfer_variables
from workloads.serving.model import NAME_PATTERN, StrictModel
from workloads.serving.vllm_options import PROCESSORS, SPECULATIVE, OptionValue, option_problem

PORTS = 3
"""Ports of a replica over several hosts, from `port` on: of the rendezvous, of data parallelism, of the leases."""


class Adapter(StrictModel):
    """A LoRA adapter, in the form of PEFT."""

    directory: Annotated[str, Field(pattern=r"^/")]
    """Directory of the adapter on the host."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of its adapter_model.safetensors."""
    rank: PositiveInt = 16
    """Rank of the adapter; `r` of its adapter_config.json."""


class ReplicaSettings(StrictModel):
    """One replica over several hosts, as one of them has it."""

    addresses: Annotated[tuple[str, ...], Field(min_length=2, strict=False)]
    """Addresses of all hosts on the network between them; the first is the leader's."""
    rank: NonNegativeInt
    """Place of this host in `addresses`; the leader has 0."""
    interface: str
    """Interface with this host's address."""
    key_file: Annotated[str, Field(pattern=r"^/")]
    """File with the key of the leases, the same on all hosts of the replica."""
    port: Annotated[int, Field(ge=1024, le=65535 - PORTS)] = 29500
    """The first of three ports for the hosts of the replica."""

    @model_validator(mode="after")
    def _check_rank(self) -> Self:
        if self.rank >= len(self.addresses):
            raise ValueError(f"rank {self.rank} is none of {len(self.addresses)} hosts")
        return self

    @property
    def leader(self) -> str:
        return self.addresses[0]

    @property
    def lease_port(self) -> int:
        return self.port + 2


class VllmSettings(StrictModel):
    pipeline_parallel: PositiveInt = 1
    """Stages of whole layers."""
    data_parallel: PositiveInt = 1
    """Ranks with attention of their own, which share the experts."""
    expert_parallel: bool = False
    """Whether GPUs have whole experts instead of a part of each."""
    decode_context_parallel: PositiveInt = 1
    """GPUs of a tensor-parallel group that divide a text's cache."""
    devices: Annotated[tuple[NonNegativeInt, ...], Field(strict=False)] = ()
    """Numbers of the host's GPUs for this server, in the order of the PCI bus; empty: from the first one on."""
    cpu_cache_gib: PositiveInt | None = None
    """Memory for the cache, in GiB, of a vLLM that computes on processors; None: it computes on GPUs."""
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    """Precision of the cache; auto: the model's own."""
    kv_offload_gib: PositiveInt | None = None
    """Host memory for blocks of the cache that leave the GPUs, in GiB on each host; None: none."""
    kv_transfer: KvTransferSettings | None = None
    """Exchange of caches with servers of the other role, of which one computes prompts and the other one answers."""
    code_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Digest of the model's own code, as `python -m workloads.serving.vllm` prints it; None: the model has none."""
    reasoning_parser: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None
    """Parser that separates reasoning from the answer, such as deepseek_r1."""
    tool_parser: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None
    """Parser of calls of tools, such as deepseek_v3; None: models call no tools by themselves."""
    speculative_tokens: NonNegativeInt = 0
    """Tokens that layers for multi-token prediction propose at once; 0: none."""
    prefix_cache: bool | None = None
    """Whether prompts with an equal beginning share cache; None: vLLM's own default."""
    adapters: dict[str, Adapter] = Field(default_factory=dict)
    """LoRA adapters, by the name of the model that clients ask for."""
    adapters_file: Annotated[str, Field(pattern=r"^/")] | None = None
    """File with further adapters, as JSON in the form of `adapters`; the server loads them again after SIGHUP."""
    adapters_rank: PositiveInt | None = None
    """The largest rank of an adapter in that file; a larger one needs another start."""
    options: dict[str, OptionValue] = Field(default_factory=dict)
    """Further options of `vllm serve`, by their names without the two hyphens."""
    replica: ReplicaSettings | None = None
    """The hosts of the replica, if it has several."""

    @field_validator("adapters")
    @classmethod
    def _check_names(cls, adapters: dict[str, Adapter]) -> dict[str, Adapter]:
        if odd := [name for name in adapters if not re.match(NAME_PATTERN, name)]:
            raise ValueError(f"{', '.join(map(repr, odd))}: a name has letters, digits and . _ -")
        return adapters

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, OptionValue], info: ValidationInfo) -> dict[str, OptionValue]:
        others: tuple[str, ...] = SPECULATIVE if info.data.get("speculative_tokens") else ()
        others += PROCESSORS if info.data.get("cpu_cache_gib") is not None else ()
        if problems := [text for name, value in options.items() if (text := option_problem(name, value, others))]:
            raise ValueError("; ".join(problems))
        return options

    @model_validator(mode="after")
    def _check_adapters_file(self) -> Self:
        if (self.adapters_file is None) != (self.adapters_rank is None):
            raise ValueError("adapters_file and adapters_rank go together")
        return self

    @model_validator(mode="after")
    def _check_kv_cache(self) -> Self:
        names = [name for name in ("kv_offload_gib", "kv_transfer") if getattr(self, name) is not None]
        if len(names) > 1:
            raise ValueError("kv_offload_gib and kv_transfer are two connectors, and a server has one")
        if names and self.cpu_cache_gib is not None:
            raise ValueError(f"{names[0]} moves blocks from and to GPUs, and cpu_cache_gib computes without any")
        if self.kv_offload_gib and self.prefix_cache is False:
            raise ValueError("kv_offload_gib extends the cache of prefixes, which prefix_cache: false switches off")
        return self

    @property
    def has_adapters(self) -> bool:
        """Whether vLLM makes room for adapters."""
        return bool(self.adapters) or self.adapters_file is not None

    @property
    def largest_rank(self) -> int:
        """The largest rank for which vLLM has room."""
        return lora_rank(max([self.adapters_rank or 1, *(adapter.rank for adapter in self.adapters.values())]))

    @property
    def offload_bytes(self) -> int | None:
        """Host memory of all processes of one engine, which may be on several hosts; each rank has an engine."""
        if self.kv_offload_gib is None:
            return None
        hosts = len(self.replica.addresses) if self.replica else 1
        return self.kv_offload_gib * GIB * hosts // self.data_parallel

    @property
    def follows(self) -> bool:
        """Whether the host is a worker of a replica with another leader."""
        return self.replica is not None and self.replica.rank > 0


def arguments(settings: VllmSettings, tensor_parallel: int) -> list[str]:
    """Return the arguments of `vllm serve` for *settings*. Source: vLLM 0.32."""
    return [
        *_layout(settings, tensor_parallel).flags[2:],
        *_replica(settings),
        *_processors(settings),
        *_features(settings),
        *transfer_option(settings.offload_bytes, settings.kv_transfer),
        *_adapters(settings),
        *_options(settings),
    ]


def _layout(settings: VllmSettings, tensor_parallel: int) -> Layout:
    return Layout(
        hosts=len(settings.replica.addresses) if settings.replica else 1,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=settings.pipeline_parallel,
        data_parallel=settings.data_parallel,
        expert_parallel=settings.expert_parallel,
        context_parallel=settings.decode_context_parallel,
    )


def _replica(settings: VllmSettings) -> Iterator[str]:
    replica = settings.replica
    if replica is None:
        return
    if settings.data_parallel > 1:
        yield from ("--data-parallel-address", replica.leader, "--data-parallel-rpc-port", str(replica.port + 1))
        if replica.rank:
            first = settings.data_parallel // len(replica.addresses) * replica.rank
            yield from ("--data-parallel-start-rank", str(first))
    else:
        yield from ("--distributed-executor-backend", "mp", "--node-rank", str(replica.rank))
        yield from ("--master-addr", replica.leader, "--master-port", str(replica.port))
    if replica.rank:
        yield "--headless"
    elif settings.data_parallel > 1:
        yield from ("--api-server-count", "1")


def _processors(settings: VllmSettings) -> Iterator[str]:
    """Yield the options for processors: nothing is compiled, because hosts have no compiler.

    With stages, --enforce-eager fails at the first request, and this form of the same does not. vLLM's own rotary
    embedding for processors rotates the queries of latent attention wrongly, so that PyTorch does it. Source: vLLM
    0.32, and the outputs of its layers beside those of transformers.
    """
    if settings.cpu_cache_gib is None:
        return
    yield from ("--worker-extension-cls", "workloads.serving.vllm_worker.Worker")
    compilation: dict[str, object] = {"custom_ops": ["-rotary_embedding"]}
    if settings.pipeline_parallel == 1:
        yield "--enforce-eager"
    else:
        compilation |= {"mode": 2, "backend": "eager"}
    yield from ("--compilation-config", json.dumps(compilation))


def _features(settings: VllmSettings) -> Iterator[str]:
    if settings.kv_cache_dtype != "auto":
        yield from ("--kv-cache-dtype", settings.kv_cache_dtype)
    if settings.reasoning_parser:
        yield from ("--reasoning-parser", settings.reasoning_parser)
    if settings.tool_parser:
        yield from ("--enable-auto-tool-choice", "--tool-call-parser", settings.tool_parser)
    if settings.speculative_tokens:
        config = {"method": "mtp", "num_speculative_tokens": settings.speculative_tokens}
        yield from ("--speculative-config", json.dumps(config))
    if settings.prefix_cache is not None:
        yield "--enable-prefix-caching" if settings.prefix_cache else "--no-enable-prefix-caching"


def _adapters(settings: VllmSettings) -> Iterator[str]:
    if settings.has_adapters:
        yield from ("--enable-lora", "--max-lora-rank", str(settings.largest_rank))
    if settings.adapters:
        yield "--lora-modules"
        yield from (f"{name}={adapter.directory}" for name, adapter in sorted(settings.adapters.items()))


def lora_rank(rank: int) -> int:
    """Return the smallest rank that vLLM has room for and that *rank* fits. Source: MaxLoRARanks, vLLM 0.32."""
    return next((each for each in (1, 8, 16, 32, 64, 128, 256, 320, 512) if each >= rank), rank)


def _options(settings: VllmSettings) -> Iterator[str]:
    for name, value in settings.options.items():
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        else:
            yield f"--{name}={json.dumps(value) if isinstance(value, dict | list) else value}"


def environment(settings: VllmSettings) -> dict[str, str]:
    """Return the variables of vLLM's processes: its GPUs, and its network between hosts.

    "=" keeps NCCL from taking other interfaces whose names begin alike. Gloo may wait for ever on a host with several
    networks unless it is given one. Source: parallelism_scaling of vLLM, NCCL_SOCKET_IFNAME of NCCL; for processors,
    get_masked_input_and_mask of vLLM 0.32.
    """
    # vLLM's processes of one host talk over its first address unless it is given another one
    variables = {"VLLM_HOST_IP": "127.0.0.1"}
    if settings.cpu_cache_gib is not None:
        # it would bind its threads to the first cores, which others use as well
        variables |= {"VLLM_CPU_KVCACHE_SPACE": str(settings.cpu_cache_gib), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        if settings.pipeline_parallel == 1:
            # --enforce-eager leaves the function that divides the vocabulary, which PyTorch would compile
            variables["TORCH_COMPILE_DISABLE"] = "1"
    if settings.devices:
        numbers = ",".join(map(str, settings.devices))
        variables |= {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": numbers,
            "HIP_VISIBLE_DEVICES": numbers,
        }
    if replica := settings.replica:
        variables |= {
            "VLLM_HOST_IP": replica.addresses[replica.rank],
            "GLOO_SOCKET_IFNAME": replica.interface,
            "NCCL_SOCKET_IFNAME": f"={replica.interface}",
        }
    return variables | transfer_variables(settings.kv_transfer)
