"""vLLM behind a model server: how it divides a model over GPUs and hosts, and its options."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rackwright.schema.base import Amount, Count, Schema
from rackwright.schema.cluster import Cluster
from rackwright.schema.gpus import GpuSelection, count
from rackwright.schema.kv_cache import KvTransfer
from rackwright.schema.problem import Problem

LAYOUT = (
    "tensor_parallel", "pipeline_parallel", "data_parallel", "expert_parallel", "decode_context_parallel",
)  # fmt: skip
"""Keys of the layout; those that are left out are computed from the model and the GPUs."""
PLACEMENT = ("replica_hosts", "gpus", "port", "adapters", "kv_transfer")
"""Keys about hosts, which vLLM does not get in its settings; adapters are in a file of their own."""


ADAPTER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class LoraAdapter(Schema):
    """A LoRA adapter, in the form of PEFT."""

    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")] | None = None
    """Directory of the adapter below the project on this computer; `up` copies it to the hosts."""
    directory: Annotated[str, Field(pattern=r"^/")] | None = None
    """Directory of the adapter that each host has already, instead of `path`."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of its adapter_model.safetensors; a server does not load other weights."""
    rank: Count = 16
    """Rank of the adapter; `r` of its adapter_config.json."""

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if (self.path is None) == (self.directory is None):
            problem = "got path and directory" if self.path else "got neither path nor directory"
            raise Problem(problem, "an adapter has one of the two", "Write path: adapters/NAME")
        if self.path and ".." in self.path.split("/"):
            raise Problem(f"got {self.path!r}", "a path does not leave its directory", "Write path: adapters/NAME")
        return self


class Vllm(Schema):
    """vLLM's part of a server."""

    replica_hosts: Count = 1
    """Hosts of one replica, in the order of the server's hosts; the first of each replica is its leader. On Kubernetes
    the number of pods of one replica, each on a host of its own."""
    gpus: GpuSelection | None = None
    """GPUs of each host for this server: how many, their indices in the order of the PCI bus, or on a single host their
    UUIDs. All of them by default; runs and servers that share a host declare it."""
    tensor_parallel: Count | None = None
    """GPUs that divide each layer."""
    pipeline_parallel: Count | None = None
    """Stages of whole layers."""
    data_parallel: Count | None = None
    """Ranks with attention of their own, which share the experts."""
    expert_parallel: bool | None = None
    """Whether GPUs have whole experts instead of a part of each."""
    decode_context_parallel: Count | None = None
    """GPUs of a tensor-parallel group that divide a text's cache."""
    cpu_cache_gib: Count | None = None
    """Memory for the cache on each host, in GiB. Declared, vLLM computes on processors, with its build for CPUs: slow,
    and meant for rehearsals and small models."""
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    """Precision of the cache; auto: the model's own."""
    kv_offload_gib: Count | None = None
    """Memory of each host, in GiB, for blocks of the cache that leave the GPUs. Unverified on hardware."""
    kv_transfer: KvTransfer | None = None
    """Exchange of the cache with other servers, so that prompts and answers are computed on different GPUs. Unverified
    on hardware."""
    code_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Digest of the model's own code, which vLLM then runs; `python -m workloads.serving.vllm` prints it."""
    reasoning_parser: str | None = None
    """Parser that separates reasoning from the answer, such as deepseek_r1."""
    tool_parser: str | None = None
    """Parser of calls of tools, such as deepseek_v3."""
    speculative_tokens: Amount = 0
    """Tokens that the model's layers for multi-token prediction propose at once; 0: none."""
    prefix_cache: bool | None = None
    """Whether prompts with an equal beginning share cache; vLLM's own default by default."""
    adapters: dict[Annotated[str, Field(pattern=ADAPTER_NAME)], LoraAdapter] = Field(default_factory=dict)
    """LoRA adapters, by the name of the model that clients ask for."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further options of `vllm serve`, by their names without the two hyphens: those of docs/reference/vllm-options.md,
    of which none loads code, opens a listener or logs what clients ask."""
    port: Annotated[int, Field(ge=1024, le=65532)] = 29500
    """First of three ports between the hosts of a replica, on their fabric."""

    @property
    def gpu_count(self) -> int | None:
        """The number of GPUs of each host; None: all of them."""
        return None if self.gpus is None else count(self.gpus)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of `workloads.serving` without layout and hosts; those with their defaults are left out."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return {name: value for name, value in values.items() if name not in (*LAYOUT, *PLACEMENT)}

    @property
    def replica_ports(self) -> range:
        """The ports between the hosts of a replica; none for replicas on one host."""
        return range(self.port, self.port + (3 if self.replica_hosts > 1 else 0))

    @property
    def exchange_ports(self) -> range:
        """The ports on which other servers agree with this one on an exchange of caches; none without one."""
        if self.kv_transfer is None:
            return range(0)
        return range(self.kv_transfer.port, self.kv_transfer.port + (self.data_parallel or 1))

    @property
    def ports(self) -> dict[int, tuple[str, ...]]:
        """The ports of vLLM that are fixed, with the keys that declare them."""
        return dict.fromkeys(self.replica_ports, ("vllm", "port")) | dict.fromkeys(
            self.exchange_ports, ("vllm", "kv_transfer", "port")
        )

    @property
    def layout(self) -> dict[str, Any]:
        """The declared parts of the layout."""
        return {name: getattr(self, name) for name in LAYOUT if getattr(self, name) is not None}


def pod_problems(vllm: Vllm) -> Iterator[Problem]:
    """Yield the problems of *vllm* in pods by itself."""
    if vllm.gpus is not None:
        expected = "the cluster gives each pod its GPUs"
        yield Problem("got vllm.gpus with on: kubernetes", expected, "Write gpus in pods", ("vllm", "gpus"))
    for name in ("kv_offload_gib", "kv_transfer"):
        if getattr(vllm, name) is not None:
            expected, help = "a server on Kubernetes has its cache on its GPUs", f"Remove {name}, or write on: hosts"
            yield Problem(f"got vllm.{name} with on: kubernetes", expected, help, ("vllm", name))
    if vllm.adapters:
        expected, help = "a server on Kubernetes has no adapters yet", "Remove adapters, or write on: hosts"
        yield Problem("got vllm.adapters with on: kubernetes", expected, help, ("vllm", "adapters"))


def group_problems(vllm: Vllm, team: str, name: str, cluster: Cluster) -> Iterator[Problem]:
    """Yield the problems of replicas with several pods of *team* in *cluster*, which has that *name*."""
    if vllm.replica_hosts == 1:
        return
    place = ("vllm", "replica_hosts")
    if not cluster.groups:
        expected = "a cluster with groups: true, whose LeaderWorkerSet starts the pods of a replica together"
        yield Problem(f"got {vllm.replica_hosts} hosts for a replica", expected, f"Add it to cluster {name}", place)
    if team in cluster.teams and cluster.teams[team].slice is None:
        problem = f"got {vllm.replica_hosts} hosts for a replica of team {team}, which has no slice"
        expected = "a team with a slice, because a program that reaches the ports of vLLM can run code there"
        yield Problem(problem, expected, f"Add a slice to the team in cluster {name}", place)


def replica_problems(vllm: Vllm, members: int, in_pods: bool, server_port: int, has_canary: bool) -> Iterator[Problem]:
    """Yield the problems of replicas.

    Args:
        members: Number of the hosts of the server, or of its pods.
    """
    count = vllm.replica_hosts
    if members % count:
        noun = "pods" if in_pods else "hosts"
        problem = f"got {members} {noun} for replicas of {count}"
        help = f"Declare a multiple of {count} {noun}, or another replica_hosts"
        yield Problem(problem, f"each replica has all its {noun}", help, ("vllm", "replica_hosts"))
    if vllm.cpu_cache_gib and vllm.expert_parallel:
        expected = "on processors, vLLM 0.32 divides experts like the other weights; with this setting it crashes"
        yield Problem("got expert_parallel and cpu_cache_gib", expected, "Remove one", ("vllm", "expert_parallel"))
    if count > 1 and not in_pods and server_port in vllm.replica_ports:
        problem, expected = f"got port {server_port}", f"{vllm.replica_ports.start} and two more are for the replica"
        yield Problem(problem, expected, "Choose another port", ("port",))
    if count > 1 and has_canary:
        expected = "labelled rows are for models that take arrays, which vLLM does not serve"
        yield Problem("got canary", expected, "Remove canary", ("canary",))
