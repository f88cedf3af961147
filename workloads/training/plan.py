"""The plan of a run on several hosts, and the commands that start its processes."""

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workloads.gpus import VARIABLE
from workloads.process_variables import Value, as_environment

GLOO_SECONDS, ELASTIC_GLOO_SECONDS = 300, 120
"""Time limit of a start, and in an elastic run the wait for a new process. See docs/guides/train.md."""
START_SECONDS = 120
"""Time that horovodrun waits for the hosts."""
COOLDOWN_SECONDS = ("5", "30")
"""Range of the wait before horovodrun uses a host again that lost a process; by default it never does."""
PROVENANCE = "RACKWRIGHT_PROVENANCE"
"""Variable that a run of a fleet has, and a run by hand has not: the file with its declaration."""


@dataclass(frozen=True)
class LaunchHost:
    name: str
    address: str
    """Address on the interface that the processes communicate over."""


@dataclass(frozen=True)
class LaunchPlan:
    """The content of RUN.json."""

    name: str
    host: str
    """Name of the host that this file belongs to."""
    hosts: tuple[LaunchHost, ...]
    """All hosts of the run, the launcher host first."""
    processes: int
    """Number of processes on each host."""
    launcher: str
    """horovod or torchrun."""
    min_processes: int | None
    """Minimum number of processes of an elastic run; None for a fixed number."""
    interface: str | None
    """Network interface that the processes communicate over; None if all are on one host."""
    config: Path
    out: Path
    home: Path
    """Directory that persists between starts: state.json, and log.1 with the previous part of the log."""
    log: Path
    """Log of the run on the launcher host. systemd opens it in a directory of root that the account can only read."""
    grace_seconds: int
    data: str | None
    provenance: Mapping[str, Any]
    """Fleet and lock file of the run; provenance.json lists them beside the fingerprints of the hosts."""
    tracking: Mapping[str, Any] | None = None
    """MLflow server that the launcher host sends to: its ``url``, the files ``credentials`` and ``certificate``, and
    the model to ``register`` a version of, or None."""
    rendezvous_port: int | None = None
    """Port on the launcher host where the processes of torchrun meet; None: on a single host they choose one."""
    variables: Mapping[str, Value] = field(default_factory=dict)
    """Declared environment variables of the training processes."""

    @staticmethod
    def read(path: Path) -> "LaunchPlan":
        values = json.loads(path.read_text())
        paths = {name: Path(values[name]) for name in ("config", "out", "home", "log")}
        return LaunchPlan(**{**values, **paths, "hosts": tuple(LaunchHost(**host) for host in values["hosts"])})

    @property
    def other_hosts(self) -> tuple[LaunchHost, ...]:
        return self.hosts[1:]

    @property
    def world(self) -> int:
        return len(self.hosts) * self.processes

    @property
    def required_processes(self) -> int:
        """Number of processes that the first step needs."""
        return self.min_processes or self.world

    @property
    def digest(self) -> str:
        """The sha256 of the configuration."""
        return hashlib.sha256(self.config.read_bytes()).hexdigest()


def commands(plan: LaunchPlan, hosts: Sequence[LaunchHost], python: str = sys.executable) -> list[list[str]]:
    """Return the commands of the launcher host that start processes on *hosts*: one, or one for each host."""
    training = [python, "-m", "workloads.training", str(plan.config), "--out", str(plan.out)]
    if plan.launcher == "torchrun":
        each = (_torchrun_command(plan, number, len(hosts), training) for number in range(len(hosts)))
        return [
            argv if host == plan.hosts[0] else ssh_command(host, process_environment(plan), argv)
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


def pod_command(plan: LaunchPlan, number: int, python: str = sys.executable) -> list[str]:
    """Return the command that starts the processes of pod *number*."""
    training = [python, "-m", "workloads.training", str(plan.config), "--out", str(plan.out)]
    return _torchrun_command(plan, number, len(plan.hosts), training)


def _torchrun_command(plan: LaunchPlan, number: int, hosts: int, training: Sequence[str]) -> list[str]:
    python, *rest = training
    processes = ["--nproc-per-node", str(plan.processes)]
    if plan.rendezvous_port is None:
        # several runs of one host would need different ports
        return [python, "-m", "torch.distributed.run", "--standalone", *processes, *rest]
    place = ["--nnodes", str(hosts), "--node-rank", str(number), *processes]
    rendezvous = ["--master-addr", plan.hosts[0].address, "--master-port", str(plan.rendezvous_port)]
    return [python, "-m", "torch.distributed.run", *place, *rendezvous, *rest]


def ssh_command(host: LaunchHost, variables: Mapping[str, str], argv: Sequence[str]) -> list[str]:
    """Return the command that runs *argv* on *host*; *variables* must not contain secrets."""
    assignments = [f"{name}={value}" for name, value in variables.items()]
    return ["ssh", host.address, shlex.join(["env", *assignments, *argv])]


FROM_UNIT = ("PATH", "PYTHONPATH", "PYTHONSAFEPATH", "HOME")
"""Variables of the run's unit that processes have on all hosts."""


def process_environment(plan: LaunchPlan) -> dict[str, str]:
    """Return the environment variables of the training processes: the declared ones, and those that follow."""
    cores = str(max(1, (os.cpu_count() or 1) // plan.processes))
    variables = {name: os.environ[name] for name in FROM_UNIT if name in os.environ}
    variables |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", cores), **as_environment(plan.variables)}
    variables |= {PROVENANCE: str(plan.out / "provenance.json")}
    variables |= {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}
    if plan.interface:
        # NCCL takes a plain name as a prefix, so that eth1 would include eth10
        variables |= {"GLOO_SOCKET_IFNAME": plan.interface, "NCCL_SOCKET_IFNAME": f"={plan.interface}"}
    return variables
