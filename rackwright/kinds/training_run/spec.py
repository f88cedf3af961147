"""What a run is declared to be on one of its hosts, with all that follows from it alone: names and places."""

from pydantic import Field

from rackwright.core.contract import Part, Resource

ETC = "/etc/rackwright/runs"
OPT = "/opt/rackwright/runs"
HOMES = "/var/lib/rackwright/runs"
LOGS = "/var/log/rackwright/runs"


class SeatPart(Part):
    """One of the run's hosts, as the others reach it."""

    name: str
    address: str
    """On the fabric; ``localhost`` where the run has no other host."""


class TrackingPart(Part):
    """The MLflow server that the chief tells how the run gets on."""

    url: str
    account: str
    secret: str
    """Name of that which is the account's password."""
    certificate: str | None = None
    """In PEM; None where the server is on the chief, which made its own."""
    registers: str | None = None
    """The model of which the last checkpoint becomes a version."""


class TrainingSpec(Resource):
    """A run, as one of its hosts has it."""

    fleet: str
    identity: dict[str, str]
    name: str
    hosts: tuple[SeatPart, ...]
    """The chief first."""
    interface: str | None = None
    """What its processes talk over; none on one host."""
    processes: int
    launcher: str
    min_processes: int | None = None
    """Of an elastic run."""
    restart: str
    grace_seconds: int
    environment: str
    """A virtual environment on the host."""
    data: str | None = None
    port: int
    mount: str
    """Of the tier that keeps its checkpoints."""
    config: str
    """The training's whole configuration, as JSON."""
    key: str
    """The secret that its keys are made of."""
    tracking: TrackingPart | None = None
    """On the chief alone."""
    go_on: bool = False
    provenance: dict[str, str] = Field(default_factory=dict)
    """Digests of what declared it."""

    @property
    def id(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def chief(self) -> SeatPart:
        return self.hosts[0]

    @property
    def others(self) -> tuple[SeatPart, ...]:
        return self.hosts[1:]

    @property
    def own(self) -> SeatPart:
        return next(seat for seat in self.hosts if seat.name == self.host)

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
        """The directory of its log, which is root's: its account may read there and create nothing."""
        return f"{LOGS}/{self.name}"

    @property
    def log(self) -> str:
        """The file that systemd opens as root for the output of the run, on the chief."""
        return f"{self.logs}/log"

    @property
    def out(self) -> str:
        """Metrics and checkpoints."""
        return f"{self.mount}/runs/{self.name}"

    @property
    def archive(self) -> str:
        """What Python imports the workloads from."""
        return f"{self.opt}/workloads.zip"

    @property
    def python(self) -> str:
        return f"{self.environment}/bin/python"

    @property
    def path(self) -> str:
        return f"{self.opt}/bin:{self.environment}/bin:/usr/bin:/bin"

    @property
    def unit(self) -> str:
        """On the chief what starts the run, elsewhere the sshd that lets the chief in."""
        return f"training-{self.name}.service" if self.host == self.chief.name else f"training-{self.name}-door.service"

    @property
    def owner(self) -> str:
        """The name of its owner file."""
        return f"run-{self.name}"
