"""The declared run on one of its hosts, and the names and paths that follow from it."""

from pydantic import Field

from rackwright.core.contract import Resource, SpecPart
from rackwright.core.declared import Declared
from rackwright.kinds.shared import gpu_assignment
from rackwright.kinds.shared.firewall import Firewall, table_name
from rackwright.kinds.shared.gpu_assignment import GpuAssignment
from rackwright.schema.run import Run

ETC = "/etc/rackwright/runs"
OPT = "/opt/rackwright/runs"
HOMES = "/var/lib/rackwright/runs"
LOGS = "/var/log/rackwright/runs"


class WorkerPart(SpecPart):
    """The name and address of one of the run's hosts."""

    name: str
    """The name of the host."""
    address: str
    """The address on the fabric; ``localhost`` if the run has only one host."""


class TrackingServer(SpecPart):
    """The MLflow server to which the launcher host reports the progress."""

    url: str
    """The URL of the server."""
    secret: str
    """The name of the secret with the account's password."""
    certificate: str | None = None
    """The certificate in PEM; None: the server is on the launcher host, which has its own certificate."""


class TrainingSpec(Resource):
    """A run on one of its hosts."""

    fleet: str
    """The name of the fleet, which owns the resource."""
    identity: dict[str, str]
    """The identity of the machine: serial, uuid, bmc_mac or device_tree_serial, as one entry."""
    name: str
    """The name of the run."""
    declared: Declared[Run]
    """The run as it is declared."""
    hosts: tuple[WorkerPart, ...]
    """All hosts of the run, the launcher host first."""
    interface: str | None = None
    """The interface between the processes; None on one host."""
    gpus: GpuAssignment | None = None
    """The host's GPUs for this run; None if the host has none."""
    environment: str
    """The path of a virtual environment on the host."""
    mount: str
    """The mount point of the tier for checkpoints."""
    key: str
    """The name of the secret from which its keys are derived."""
    tracking_server: TrackingServer | None = None
    """The tracking server; on the launcher host alone."""
    provenance: dict[str, str] = Field(default_factory=dict)
    """Digests of the declaration."""

    @property
    def id(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def config(self) -> str:
        """The training's configuration, as JSON."""
        return self.declared.config_text(self.name, len(self.hosts))

    @property
    def launcher_host(self) -> WorkerPart:
        return self.hosts[0]

    @property
    def workers(self) -> tuple[WorkerPart, ...]:
        return self.hosts[1:]

    @property
    def own(self) -> WorkerPart:
        return next(member for member in self.hosts if member.name == self.host)

    @property
    def account(self) -> str:
        return f"run-{self.name}"

    @property
    def etc(self) -> str:
        return f"{ETC}/{self.name}"

    @property
    def opt(self) -> str:
        return f"{OPT}/{self.name}"

    @property
    def home(self) -> str:
        return f"{HOMES}/{self.name}"

    @property
    def logs(self) -> str:
        """The directory of the log, owned by root: the account can read there and create nothing."""
        return f"{LOGS}/{self.name}"

    @property
    def log(self) -> str:
        """The log file on the launcher host, which systemd opens as root for the output of the run."""
        return f"{self.logs}/log"

    @property
    def out(self) -> str:
        """The directory of metrics and checkpoints."""
        return f"{self.mount}/runs/{self.name}"

    @property
    def archive(self) -> str:
        """The archive from which Python imports the workloads."""
        return f"{self.opt}/workloads.zip"

    @property
    def python(self) -> str:
        return f"{self.environment}/bin/python"

    @property
    def path(self) -> str:
        return f"{self.opt}/bin:{self.environment}/bin:/usr/bin:/bin"

    @property
    def unit(self) -> str:
        """The unit: on the launcher host the run itself, on a worker the sshd for the launcher."""
        return (
            f"training-{self.name}.service"
            if self.host == self.launcher_host.name
            else f"training-{self.name}-door.service"
        )

    @property
    def firewall(self) -> Firewall:
        """The table that closes the ports of its processes, torch's store among them, to other hosts than its own."""
        return Firewall(
            id=self.id,
            table=table_name("run", self.name),
            unit=self.unit,
            path=f"{self.etc}/firewall.nft",
            programs="the ports of its processes",
            addresses=tuple(member.address for member in self.hosts) if self.workers else (),
        )

    @property
    def owner(self) -> str:
        """The name of the owner file."""
        return f"run-{self.name}"

    @property
    def gpus_file(self) -> str:
        """The path of the file with its GPUs."""
        return gpu_assignment.path(self.owner)
