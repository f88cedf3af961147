"""What a run on several hosts is, for each of them, and the commands that start its processes there."""

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GLOO_SECONDS, ELASTIC_GLOO_SECONDS = 300, 120
"""How slow a start may be; in an elastic run those that stay wait so long for a newcomer. See docs/train.md."""
START_SECONDS = 120
"""How long horovodrun waits for the hosts."""
COOLDOWN_SECONDS = ("5", "30")
"""After which a host that lost a process is tried again; horovodrun would never take it back."""
RENDEZVOUS_PORT = 29500


@dataclass(frozen=True)
class Host:
    name: str
    address: str
    """On the interface that the processes talk over."""


@dataclass(frozen=True)
class Plan:
    """What RUN.json says."""

    name: str
    host: str
    """Whose file it is."""
    hosts: tuple[Host, ...]
    """The chief first."""
    processes: int
    """On each host."""
    launcher: str
    """horovod or torchrun."""
    min_processes: int | None
    """Of an elastic run."""
    interface: str | None
    """What the processes talk over; None where all are on one host."""
    config: Path
    out: Path
    home: Path
    """The directory kept between starts: state.json, and log.1, the part of the log before the newest."""
    log: Path
    """The run's log on its chief. systemd opens it, in a directory of root's where the account may only read."""
    grace_seconds: int
    data: str | None
    provenance: Mapping[str, Any]
    """What it was declared by: told in provenance.json, beside the hosts' own fingerprints."""
    tracking: Mapping[str, Any] | None = None
    """The MLflow server that is told by the chief: its ``url``, the files ``credentials`` and ``certificate``, and the
    model to ``register`` a version of, or None."""

    @staticmethod
    def read(path: Path) -> "Plan":
        told = json.loads(path.read_text())
        paths = {name: Path(told[name]) for name in ("config", "out", "home", "log")}
        return Plan(**{**told, **paths, "hosts": tuple(Host(**host) for host in told["hosts"])})

    @property
    def others(self) -> tuple[Host, ...]:
        return self.hosts[1:]

    @property
    def world(self) -> int:
        return len(self.hosts) * self.processes

    @property
    def at_least(self) -> int:
        """Processes without which there is no first step."""
        return self.min_processes or self.world

    @property
    def digest(self) -> str:
        """What tells one configuration from another."""
        return hashlib.sha256(self.config.read_bytes()).hexdigest()


def commands(plan: Plan, hosts: Sequence[Host], python: str = sys.executable) -> list[list[str]]:
    """Return what the chief runs to have processes on *hosts*: one command, or one for each host."""
    training = [python, "-m", "workloads.training", str(plan.config), "--out", str(plan.out)]
    if plan.launcher == "torchrun":
        each = (_torchrun(plan, number, len(hosts), training) for number in range(len(hosts)))
        return [
            argv if host == plan.hosts[0] else elsewhere(host, variables(plan), argv)
            for host, argv in zip(hosts, each, strict=True)
        ]
    argv = [python, "-m", "horovod.runner.launch", "--gloo", "-np", str(len(hosts) * plan.processes)]
    patience = GLOO_SECONDS if plan.min_processes is None else ELASTIC_GLOO_SECONDS
    argv += ["--start-timeout", str(START_SECONDS), "--gloo-timeout-seconds", str(patience)]
    if plan.interface:
        argv += ["--network-interfaces", plan.interface]
    if plan.min_processes is None:
        argv += ["-H", ",".join(f"{host.address}:{plan.processes}" for host in hosts)]
    else:
        argv += ["--min-np", str(plan.min_processes), "--max-np", str(plan.world)]
        argv += ["--host-discovery-script", "discover", "--blacklist-cooldown-range", *COOLDOWN_SECONDS]
    return [[*argv, *training]]


def _torchrun(plan: Plan, number: int, hosts: int, training: Sequence[str]) -> list[str]:
    python, *rest = training
    place = ["--nnodes", str(hosts), "--node-rank", str(number), "--nproc-per-node", str(plan.processes)]
    way = ["--master-addr", plan.hosts[0].address, "--master-port", str(RENDEZVOUS_PORT)]
    return [python, "-m", "torch.distributed.run", *place, *way, *rest]


def elsewhere(host: Host, variables: Mapping[str, str], argv: Sequence[str]) -> list[str]:
    """Return the command that runs *argv* on *host*; no variable of it may be secret."""
    told = [f"{name}={value}" for name, value in variables.items()]
    return ["ssh", host.address, shlex.join(["env", *told, *argv])]


def variables(plan: Plan) -> dict[str, str]:
    """Return what the processes are told beside their arguments."""
    cores = str(max(1, (os.cpu_count() or 1) // plan.processes))
    told = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
    told |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", cores)}
    told |= {"RACKWRIGHT_PROVENANCE": str(plan.out / "provenance.json")}
    if plan.interface:
        told |= dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), plan.interface)
    return told
