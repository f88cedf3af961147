"""The declared server on one of its hosts, and the names and paths that follow from it."""

from pydantic import Field

from rackwright.core.contract import Resource, SpecPart
from rackwright.core.declared import Declared
from rackwright.schema.server import Canary, ServerKey

CANARY_SECONDS = 600
ETC = "/etc/rackwright/servers"
LIB = "/var/lib/rackwright/servers"


class CanaryRows(SpecPart):
    """The canary's rows with labels, in a file of this computer."""

    source: str
    """The path on this computer."""
    sha256: str


class ServerSpec(Resource):
    """A server on one of its hosts."""

    fleet: str
    identity: dict[str, str]
    name: str
    address: str
    """The address on which the server listens."""
    port: int
    interface: str | None = None
    """The interface with that address; None if the server listens on all."""
    model: str
    """The name of the model; empty if this computer knows only the version."""
    version: str
    source: str | None = None
    """The model's directory on this computer; None if it does not have this version."""
    files: dict[str, str] = Field(default_factory=dict)
    """The sha256 of the files in that directory, by name; model.json is one of them."""
    below: str | None = None
    """The model's directory on the host, on a tier."""
    mount: str | None = None
    """The mount point of that tier."""
    accuracy_kept: float | None = None
    """The minimum in the model's report; the host checks it for a model on a tier."""
    canary: Declared[Canary] | None = None
    rows: CanaryRows | None = None
    """The rows of the canary."""
    settings: str
    """Settings of the server as JSON, without those that follow from the other fields."""
    keys: dict[str, Declared[ServerKey]] = Field(default_factory=dict)
    """The keys of clients by name; empty: any client is allowed."""
    tls_certificate: str | None = None
    """The name of the secret with the certificate."""
    tls_key: str | None = None
    key: str
    """The name of the secret from which the host's own key is derived."""
    environment: str
    """The path of a virtual environment on the host."""
    ready_seconds: int
    stop_seconds: int
    """Seconds that the server may take to stop: it completes running requests first."""

    @property
    def id(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def account(self) -> str:
        return f"server-{self.name}"

    @property
    def etc(self) -> str:
        return f"{ETC}/{self.name}"

    @property
    def lib(self) -> str:
        """The directory of models and releases, and the link to the current one."""
        return f"{LIB}/{self.name}"

    @property
    def python(self) -> str:
        return f"{self.environment}/bin/python"

    @property
    def unit(self) -> str:
        return f"server-{self.name}.service"

    @property
    def watch(self) -> Canary | None:
        """The canary, if it is checked while a release serves."""
        return self.canary if self.canary and self.canary.every_seconds else None

    @property
    def watch_units(self) -> tuple[str, str]:
        """The service that checks the canary, and its timer."""
        return f"watch-{self.name}.service", f"watch-{self.name}.timer"

    @property
    def switch_seconds(self) -> int:
        """Seconds that a switch to another release may take, with the return to the previous one."""
        return 2 * (self.ready_seconds + self.stop_seconds) + (CANARY_SECONDS if self.canary else 60)

    @property
    def watch_seconds(self) -> int:
        """Seconds that a canary check may take, with the return to the previous release."""
        return CANARY_SECONDS + self.switch_seconds

    @property
    def owner(self) -> str:
        """The name of the owner file."""
        return f"server-{self.name}"

    @property
    def run(self) -> str:
        """The directory of `socket` below /run: systemd makes it for the account when the server starts."""
        return f"rackwright-servers/{self.name}"

    @property
    def socket(self) -> str:
        """The Unix socket on which the host queries its own server."""
        return f"/run/{self.run}/socket"

    @property
    def watch_file(self) -> str | None:
        """The path of the file with the canary's accuracy."""
        return f"{self.lib}/watch.json" if self.watch else None

    @property
    def data(self) -> str | None:
        """The path of the canary's rows on the host, named by their digest."""
        return f"{self.lib}/data/{self.rows.sha256[:12]}.npz" if self.canary and self.rows else None
