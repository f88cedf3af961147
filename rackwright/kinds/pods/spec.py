"""A run or server in pods: what it needs on each of its hosts, and the objects of its cluster."""

import hashlib
from typing import Any, Literal

from pydantic import Field

from rackwright.core.contract import Resource, SpecPart
from rackwright.kinds.shared.pod_volumes import READS
from rackwright.schema.run import RENDEZVOUS_PORT

LIB = "/var/lib/rackwright/pods"
MOUNTS = "/run/rackwright/pods"
"""Directory of the read-only mounts that the volumes of pods have as their paths."""
RUNS, SERVERS = "/etc/rackwright/runs", "/etc/rackwright/servers"
LAUNCHER, WORKER = "launcher", "worker"
PORT, GRPC_PORT = 8080, 8001
"""Ports on which a server listens in its pods, for HTTP and for gRPC."""


class RunPart(SpecPart):
    """A training run in pods."""

    config: str
    """The training's configuration, as JSON."""
    processes: int
    """Number of processes in each pod."""
    rendezvous_port: int = RENDEZVOUS_PORT
    """The port on which the processes of its pods meet."""
    variables: dict[str, int | str] = Field(default_factory=dict)
    """The declared environment variables of its processes."""
    mount: str
    """The mount point of the tier for checkpoints."""
    data: str | None = None
    """The file or directory with its data, the same path on all hosts."""
    reads: tuple[str, ...] = ()
    """Directories that it reads, the same on all hosts; *data* is one of them."""
    go_on: bool = False
    """Whether a finished run continues with another configuration."""
    restart: bool
    """Whether a failed pod starts again, from the last checkpoint."""
    grace_seconds: int
    """Seconds that a stopped run has for its last checkpoint."""
    provenance: dict[str, str] = Field(default_factory=dict)
    """Digests of the declaration."""


class RowsPart(SpecPart):
    """The canary's rows with labels, in a file of this computer."""

    source: str
    """The path on this computer."""
    sha256: str
    """The digest of the file."""
    accuracy: float
    """Minimum share of correct answers."""


class ServerPart(SpecPart):
    """A model server in pods."""

    vllm: bool = False
    """Whether vLLM serves the model, whose processes share memory."""
    replica_pods: int = 1
    """Number of the pods of one replica; several of them are a group, whose first pod is its leader."""
    replica_port: int = 0
    """The first of three ports for the pods of one replica."""
    lease_secret: str | None = None
    """The name of the secret from which the pods of a replica have their common key; None for replicas of one pod."""

    settings: dict[str, Any]
    """The settings of the server."""
    port: int
    """The port of its service."""
    grpc_port: int | None = None
    """The port of its service for gRPC; None: HTTP alone."""
    model: str
    """The name of the model; empty if this computer knows only the version."""
    version: str
    """The version of the model."""
    source: str | None = None
    """The model's directory on this computer; None if it does not have this version."""
    files: dict[str, str] = Field(default_factory=dict)
    """The sha256 of the files in that directory, by name; model.json is one of them."""
    accuracy_kept: float | None = None
    """Least accuracy that the model's report has to state; None: no check."""
    rows: RowsPart | None = None
    """The rows of the canary."""
    ready_seconds: int
    """Seconds until a pod must be ready."""
    stop_seconds: int
    """Seconds that a pod may take to stop: it completes running requests first."""


class AutoscalePart(SpecPart):
    """The limits within which the cluster changes the number of pods."""

    max: int
    """The largest number of pods."""
    cpu_percent: int
    """The average share of processors that pods use, in percent of what they ask for."""


class WorkloadPart(SpecPart):
    """A run or server in pods, as all its resources have it."""

    sort: Literal["run", "server"]
    """Whether it is a run or a server."""
    name: str
    """The name of the run or server."""
    team: str
    """The team, and its namespace."""
    hosts: tuple[str, ...]
    """The hosts on which its pods may be. A run has its launcher, with the checkpoints, on the first."""
    count: int
    """The number of pods, each on a host of its own."""
    cpus: int
    """Processors of each pod."""
    memory: int
    """Memory of each pod, in bytes."""
    gpus: int
    """GPUs of each pod."""
    environment: str
    """The path of a virtual environment on all hosts."""
    autoscale: AutoscalePart | None = None
    """Limits of a server whose number of pods the cluster changes, from `count` on."""
    queue: bool = False
    """Whether the cluster has queues, in which a run waits until all of its pods fit."""
    run: RunPart | None = None
    """Settings of a run; None for a server."""
    server: ServerPart | None = None
    """Settings of a server; None for a run."""

    @property
    def owner(self) -> str:
        """The name of the owner file on each host, and of the directory for pods."""
        return f"{self.sort}-{self.name}"

    @property
    def lib(self) -> str:
        """The directory that pods read, by release; on hosts and in pods."""
        return f"{LIB}/{self.owner}"

    @property
    def etc(self) -> str:
        """The directory by which a host knows the run or server."""
        return f"{RUNS if self.sort == 'run' else SERVERS}/{self.name}"

    @property
    def out(self) -> str | None:
        """The directory of metrics and checkpoints of a run."""
        return f"{self.run.mount}/runs/{self.name}" if self.run else None

    @property
    def paths(self) -> dict[str, str]:
        """The paths of hosts in pods, by the names of their volumes; pods write to `out` alone."""
        paths = {"system": "/usr", "environment": self.environment, "files": self.lib}
        # by the digest of its path, so that no volume shows another directory than before
        paths |= {f"{READS}-{hashlib.sha256(path.encode()).hexdigest()[:8]}": path for path in self.reads}
        if self.out:
            paths["out"] = self.out
        return paths

    @property
    def reads(self) -> tuple[str, ...]:
        """The directories that a run reads, but for those in its environment and in its own directory."""
        there = (self.environment, *([self.out] if self.out else ()))
        declared = self.run.reads if self.run else ()
        return tuple(path for path in declared if not any(f"{path}/".startswith(f"{each}/") for each in there))

    @property
    def python(self) -> str:
        return f"{self.environment}/bin/python"

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a run: its launcher, and its workers if there are any."""
        return (LAUNCHER, WORKER) if self.count > 1 else (LAUNCHER,)

    @property
    def group_name(self) -> str:
        """The name of the groups of pods of a server; its own name is that of its service."""
        return f"{self.name}-replica"

    @property
    def keys(self) -> str:
        """The directory for the key of a replica, into which pods may look, and other accounts may not."""
        return f"{self.lib}/keys"

    @property
    def lease_key(self) -> str:
        """The path of the key with which the pods of a replica sign their leases; on hosts and in pods."""
        return f"{self.keys}/lease_key"

    @property
    def server_object(self) -> str:
        """The name of the object that has the pods of a server."""
        several = self.server is not None and self.server.replica_pods > 1
        return f"LeaderWorkerSet/{self.group_name}" if several else f"Deployment/{self.name}"

    @property
    def job_names(self) -> tuple[str, ...]:
        """The names of the objects that run the parts: a job each, or one set of jobs, which a queue admits whole."""
        return (f"JobSet/{self.name}",) if self.queue else tuple(f"Job/{self.name}-{each}" for each in self.parts)

    @property
    def pod_names(self) -> tuple[str, ...]:
        """The host names of the pods of a run, that of the launcher first."""
        job = "-0" if self.queue else ""  # a job set numbers the jobs of each part
        workers = (f"{self.name}-{WORKER}{job}-{number}" for number in range(self.count - 1))
        return (f"{self.name}-{LAUNCHER}{job}-0", *workers)


class PodFilesSpec(Resource):
    """The files of a run or server in pods, on one of its hosts."""

    fleet: str
    """The name of the fleet, which owns the resource."""
    identity: dict[str, str]
    """The identity of the machine: serial, uuid, bmc_mac or device_tree_serial, as one entry."""
    workload: WorkloadPart
    """The run or server."""

    @property
    def id(self) -> str:
        return f"{self.host}/{self.workload.name}"


class PodsSpec(Resource):
    """The objects of a run or server in pods; its host is the control plane."""

    fleet: str
    """The name of the fleet, which owns the resource."""
    identity: dict[str, str]
    """The identity of the machine with the control plane."""
    workload: WorkloadPart
    """The run or server."""

    @property
    def id(self) -> str:
        return f"{self.host}/{self.workload.name}"
