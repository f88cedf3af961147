"""A stack: a fleet with the means to reach its hosts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rackwright.core.contract import EndpointSource, Scope
from rackwright.core.repository import Repository
from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet import tracking
from rackwright.fleet.lockfile import Lock
from rackwright.fleet.place import locate_errors
from rackwright.kinds.role.spec import AboutMirror
from rackwright.schema import secret
from rackwright.schema.cluster_api import ClusterApi
from rackwright.schema.fleet import Fleet
from rackwright.schema.mirror import PORT
from rackwright.schema.problem import hint
from rackwright.schema.ssh import Endpoint
from rackwright.schema.tier import Tier
from rackwright.schema.twin import machine_problems, roles_of_vendors
from rackwright.stack.key_pairs import key_pair_problems
from rackwright.stack.settings import CONTAINERS

TWIN_ACCOUNT = "rackwright"
"""Account that the image of a twin's hosts has for logins."""


TWIN_FILES = (
    "/etc/*/twin.conf",
    "/etc/apt/sources.list.d/twin.list",
    "/etc/ld.so.conf.d/00-rackwright-twin.conf",
    "/etc/ssh/sshd_config.d/10-twin.conf",
    "/etc/sudoers.d/rackwright",
    "/usr/lib/systemd/system/*.d/twin.conf",
)
"""Patterns of the files that the twin adds to the system of its hosts."""


IMAGE_MASKS = frozenset(
    f"/etc/{line.strip()}"
    for line in (Path(__file__).parents[1] / "twin" / "guest" / "masks.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
)
"""Links to /dev/null in the image of a twin's hosts."""


@dataclass(frozen=True)
class Stack:
    """A fleet with the means to reach its hosts."""

    name: str
    project: Path
    """Directory of Pulumi.yaml."""
    fleet: Fleet
    """The fleet, for a twin with scaled sizes, and with directories in the place of tiers of containers."""
    endpoints: Mapping[str, Endpoint]
    """SSH endpoints by host; a host without one cannot be reached now."""
    repository: Repository
    salt: bytes
    """Key of the digests of files, so that a digest in the state reveals nothing about a secret."""
    twin: str | None = None
    """Name of the twin that is the target; None for the rack itself."""
    containers: frozenset[str] = frozenset()
    """Hosts that the twin runs as containers, on this computer's kernel; the others are virtual machines."""
    lends_mirrors: bool = False
    """Whether hosts of the twin get packages from the mirrors of this computer."""
    lends_workloads: bool = False
    """Whether containers of the twin have the workloads' environment of this computer."""
    is_whole: bool = True
    """Whether a twin has all environments, runs and servers of the fleet."""
    notices: tuple[str, ...] = ()
    """Notes about the target, for the operator."""
    fleet_file: Path = Path()
    """File of the fleet, for messages."""
    lock: Lock | None = None
    """The fleet's lock; None without one."""
    lock_file: Path = Path()
    """Path of the lock file beside the fleet, whether or not it exists."""
    maintenance: Mapping[str, str] = field(default_factory=dict)
    """Hosts in maintenance today, each with the text for reports."""
    retired: frozenset[str] = frozenset()
    """Retired hosts, which `fleet` does not contain."""
    store_urls: Mapping[str, str] = field(default_factory=dict)
    """Addresses of object stores by name. A virtual rack has only those of its settings and of its own hosts."""
    store_hosts: Mapping[str, str] = field(default_factory=dict)
    """Hosts through which SSH reaches an object store, by its name; any other store is reached directly."""
    tiers: Mapping[str, Mapping[str, Tier]] = field(default_factory=dict)
    """The tiers of each host as declared, also of containers."""
    secret_forms: Mapping[str, secret.Form] = field(default_factory=dict)
    """Forms of the secrets that programs parse, by name."""
    vendor_keys: Mapping[str, str] = field(default_factory=dict)
    """Public keys of vendors in armour, by fingerprint: those of the lock."""

    @property
    def endpoint_sources(self) -> tuple[EndpointSource, ...]:
        """The endpoints that give facts for this stack."""
        if self.fleet.uses:
            return ()
        stores = (EndpointSource("s3", name) for name in self.store_urls)
        return (*stores, *(EndpointSource("kubernetes", name) for name in self.cluster_apis))

    @property
    def cluster_apis(self) -> Mapping[str, ClusterApi]:
        """The APIs of provided clusters by the cluster's name; a virtual rack has none, as it has no part in them."""
        if self.twin is not None:
            return {}
        return {name: cluster.api for name, cluster in self.fleet.clusters.items() if cluster.api}

    @property
    def mirror(self) -> AboutMirror | None:
        """Source of the packages in the lock; hosts of a twin always get them from this computer."""
        if self.fleet.mirror is None or self.lock is None or self.lock.key is None:
            return None
        url = self.fleet.mirror.url if self.twin is None else None
        if url is not None:
            return AboutMirror(url=url, key=self.lock.key)
        return AboutMirror(url=f"http://127.0.0.1:{PORT}/", key=self.lock.key, port=PORT)

    def mirror_of(self, host: str) -> AboutMirror | None:
        """Return the source of the packages of a host, with the suite of its vendors."""
        mirror, vendors = self.mirror, (self.lock.vendors or {}) if self.lock else {}
        if mirror is None or self.lock is None or host not in vendors:
            return mirror
        return mirror.model_copy(update={"suite": self.lock.suite(host, self.fleet.hosts[host].os)})

    @property
    def has_sources_of_hosts(self) -> bool:
        """Whether hosts get packages from the sources that they have anyway, and from nowhere else."""
        return self.twin is None and self.fleet.mirror is None

    def target_errors(self) -> Iterator[Diagnostic]:
        """Yield an error for each sort of hosts that the target cannot have."""
        if self.twin is not None and not self.fleet.uses:
            for problem in machine_problems(self.fleet, self.containers, CONTAINERS, f"stacks/Pulumi.{self.name}.yaml"):
                yield problem.at(".".join(map(str, problem.path)))

    @property
    def brings_packages(self) -> bool:
        """Whether hosts get packages through our connection, instead of from a web server."""
        return self.mirror is not None and self.mirror.port is not None

    @property
    def local_repository(self) -> Path:
        """The fleet's local repository, which `rackwright lock --fetch` fills."""
        return self.project.resolve() / ".rackwright" / "mirrors" / self.fleet.fleet

    @property
    def verdicts(self) -> Path:
        """The directory of the copies of verdicts; one for all stacks on the same hosts."""
        folder = self.project / ".rackwright"
        if self.twin is not None:
            return folder / "twins" / self.twin / "verdicts"
        hosts = self.fleet_file.with_name(self.fleet.uses or self.fleet_file.name).resolve()
        stacks = (self.project / "stacks").resolve()
        name = hosts.relative_to(stacks) if hosts.is_relative_to(stacks) else Path(hosts.name)
        return folder / "verdicts" / name.with_suffix("")

    @property
    def published_passphrase(self) -> str | None:
        """The passphrase that opens the secrets of the stack for anybody; None for a rack."""
        return None if self.twin is None else secret.LAB_PASSPHRASE

    @property
    def unknown_secrets(self) -> frozenset[str]:
        """Declared secrets without a known value."""
        return secret_references(self.fleet) - self.repository.secrets.keys()

    def with_secrets(self, values: Mapping[str, str]) -> "Stack":
        """Return the stack with *values* of secrets, by name.

        Raises:
            DeclarationError: values have another form than the programs that read them expect, or a key belongs to
                another certificate than the declared one.
        """
        problems = {
            name: form.problem(self.name, name, values[name])
            for name, form in self.secret_forms.items()
            if name in values
        }
        if wrong := [problem.at(f"secret {name}") for name, problem in problems.items() if problem]:
            raise DeclarationError(*wrong)
        if wrong := [*key_pair_problems(self, values)]:
            raise locate_errors(self.fleet_file, wrong)
        return replace(self, repository=replace(self.repository, secrets={**self.repository.secrets, **values}))

    def with_consents(self, consents: Mapping[str, str]) -> "Stack":
        """Return the stack with the consents of the running command, by the drive's serial number."""
        return replace(self, repository=replace(self.repository, consents=consents))

    @property
    def without_secrets(self) -> "Stack":
        """The stack without the values of its secrets."""
        return replace(self, repository=replace(self.repository, secrets={}))

    def unknown_host_errors(self, *hosts: str) -> Iterator[Diagnostic]:
        """Yield an error for each of *hosts* that the fleet does not have."""
        declared = self.fleet.hosts
        expected = f"one of {', '.join(declared)}"
        for name in hosts:
            if name not in declared:
                help = hint(name, declared, "Name one of these")
                yield Diagnostic(f"stack {self.name}", f"the stack has no host {name}", expected, help)

    @property
    def image_files(self) -> tuple[str, ...]:
        """Patterns of the files that the target itself adds to the system of its hosts."""
        return () if self.twin is None else TWIN_FILES

    @property
    def image_accounts(self) -> frozenset[str]:
        """Accounts for logins that the target itself adds to its hosts."""
        return frozenset() if self.twin is None else frozenset((TWIN_ACCOUNT,))

    def roles_left_out(self, host: str) -> frozenset[str]:
        """Return the declared roles of *host* that the target cannot have."""
        return frozenset() if self.twin is None else frozenset(roles_of_vendors(self.fleet.hosts[host]))

    @property
    def fleet_file_in_project(self) -> str:
        """The path of the fleet's file below the project, as a code host names it; empty without a file."""
        if self.fleet_file == Path():
            return ""
        path, root = self.fleet_file.resolve(), self.project.resolve()
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(self.fleet_file)

    def not_rehearsable(self, host: str) -> tuple[Scope, ...]:
        """Return the scopes of *host* that the target cannot show."""
        if self.twin is None:
            return ()
        return ("hardware", "kernel") if host in self.containers else ("hardware",)


def secret_references(fleet: Fleet) -> frozenset[str]:
    """Return the names of the secrets in *fleet*, without those of a fleet whose hosts it uses."""
    if fleet.uses:
        server_secrets = (name for server in fleet.servers.values() for name in server.secrets)
        return frozenset({secret.name_of(fleet.key), *server_secrets, *tracking.secrets(fleet.runs, fleet.hosts)})
    hosts = fleet.hosts.values()
    tier_keys = (tier.key for host in hosts for tier in host.tiers.values() if tier.key)
    store_keys = (name for store in fleet.object_stores.values() for _, name in store.secrets)
    tokens = (cluster.api.secret for cluster in fleet.clusters.values() if cluster.api)
    role_secrets = (name for host in hosts for _, name in secret.references(host.roles))
    return frozenset({*tier_keys, *store_keys, *tokens, *role_secrets})
