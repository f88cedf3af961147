"""What a server is declared to be on one of its hosts, with all that follows from it alone: names and places."""

from pydantic import Field

from rackwright.core.contract import Part, Resource

CANARY_SECONDS = 600
ETC = "/etc/rackwright/servers"
LIB = "/var/lib/rackwright/servers"


class KeyPart(Part):
    """A key that somebody may ask with."""

    name: str
    secret: str
    scopes: tuple[str, ...]


class WatchPart(Part):
    """A canary that is asked again while a release serves."""

    every_seconds: int
    change: float
    """By how much the share that is right may move within a day until it is said."""
    roll_back: bool
    """Whether the release before serves again where too few are right."""


class CanaryPart(Part):
    """Rows with labels, in a file of this computer."""

    source: str
    """Its path here."""
    sha256: str
    accuracy: float
    """The share that has to be right."""
    watch: WatchPart | None = None
    """None: it is asked when a release is to serve, and no more."""


class ServerSpec(Resource):
    """A server, as one of its hosts has it."""

    fleet: str
    identity: dict[str, str]
    name: str
    address: str
    """That it listens on."""
    port: int
    interface: str | None = None
    """Whose address that is; none where it listens on all."""
    model: str
    """What the model is called; empty where only its version is known here."""
    version: str
    source: str | None = None
    """The model's directory on this computer, where it is there in this version."""
    files: dict[str, str] = Field(default_factory=dict)
    """Of that directory, with their sha256; model.json is one of them."""
    below: str | None = None
    """The model's directory on the host, on a tier."""
    mount: str | None = None
    """Of that tier."""
    accuracy_kept: float | None = None
    """What its report has to say at least, judged on the host where it comes from a tier."""
    canary: CanaryPart | None = None
    settings: str
    """Settings of the server, as JSON, without what follows from the rest."""
    keys: tuple[KeyPart, ...] = ()
    """None: anybody may ask."""
    tls_certificate: str | None = None
    """The secret that it is."""
    tls_key: str | None = None
    key: str
    """The secret that the host's own key is made of."""
    environment: str
    """A virtual environment on the host."""
    ready_seconds: int
    stop_seconds: int
    """How long it may take to end: what it goes on answering, and what is under way."""

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
        """Models, releases, and which of them is current."""
        return f"{LIB}/{self.name}"

    @property
    def python(self) -> str:
        return f"{self.environment}/bin/python"

    @property
    def unit(self) -> str:
        return f"server-{self.name}.service"

    @property
    def watch(self) -> WatchPart | None:
        return self.canary.watch if self.canary else None

    @property
    def watch_units(self) -> tuple[str, str]:
        """The service that looks at what is served, and the timer that starts it."""
        return f"watch-{self.name}.service", f"watch-{self.name}.timer"

    @property
    def switch_seconds(self) -> int:
        """How long another release may take, with the way back."""
        return 2 * (self.ready_seconds + self.stop_seconds) + (CANARY_SECONDS if self.canary else 60)

    @property
    def watch_seconds(self) -> int:
        """How long a look may take, with the release before on its way back."""
        return CANARY_SECONDS + self.switch_seconds

    @property
    def owner(self) -> str:
        """The name of its owner file."""
        return f"server-{self.name}"

    @property
    def run(self) -> str:
        """The directory of `socket` below /run: systemd makes it for the account when the server starts."""
        return f"rackwright-servers/{self.name}"

    @property
    def socket(self) -> str:
        """The Unix socket on which the host asks its own server."""
        return f"/run/{self.run}/socket"

    @property
    def watched(self) -> str | None:
        """Where it is noted how much of the canary is right."""
        return f"{self.lib}/watch.json" if self.watch else None

    @property
    def data(self) -> str | None:
        """Where the canary's rows are on the host, under their digest."""
        return f"{self.lib}/data/{self.canary.sha256[:12]}.npz" if self.canary else None
