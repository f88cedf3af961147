"""Stacks, each a fleet and a target, loaded from their settings."""

import contextlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from rackwright import locations
from rackwright.core.contract import EndpointSource, Scope
from rackwright.core.repository import Repository, Roles, load_templates
from rackwright.errors import DeclarationError, Diagnostic, collect, command
from rackwright.fleet import tracking
from rackwright.fleet.load import load_fleet
from rackwright.fleet.lockfile import Lock, load_lock, lock_path
from rackwright.fleet.place import locate_errors
from rackwright.fleet.source import BYTES_MAX, Source, read
from rackwright.kinds.role.spec import AboutMirror
from rackwright.schema import secret
from rackwright.schema.cluster_api import ClusterApi
from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Host
from rackwright.schema.mirror import PORT
from rackwright.schema.problem import Problem, hint
from rackwright.schema.ssh import Endpoint, Login, parse_jump
from rackwright.schema.tier import Tier
from rackwright.schema.twin import container_problems, machine_problems, roles_of_vendors, twin_of
from rackwright.stack import passphrase, published, store_urls
from rackwright.stack.key_pairs import key_pair_problems

SETTINGS = ("fleet", "target")
CONTAINERS = "rackwright:containers"
MIRRORS = "rackwright:mirrors"
WORKLOADS = "rackwright:workloads"
WORKLOADS_ROLE = "workloads"
"""The role that installs the environment of runs and servers on its hosts."""
RACK, TWIN = "rack", "twin:"
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
SALT_BYTES_MIN = 8
"""A shorter salt can be guessed; a full disk leaves an empty one."""
_NO_FLEETS = re.compile(r"Pulumi\.|.*\.lock\.yaml$")
"""Names of files beside the fleets that are not fleets."""


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
    def published_passphrase(self) -> str | None:
        """The passphrase that opens the secrets of the stack for anybody; None for a rack."""
        return None if self.twin is None else secret.LAB_PASSPHRASE

    @property
    def unknown_secrets(self) -> frozenset[str]:
        """Declared secrets without a known value."""
        return _references(self.fleet) - self.repository.secrets.keys()

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

    def not_rehearsable(self, host: str) -> tuple[Scope, ...]:
        """Return the scopes of *host* that the target cannot show."""
        if self.twin is None:
            return ()
        return ("hardware", "kernel") if host in self.containers else ("hardware",)


def load_stack(name: str, project: Path) -> Stack:
    """Return the stack *name* of the project in *project*.

    Raises:
        DeclarationError: all errors of its settings or its fleet, with places.
    """
    values = settings(name, project)
    path = project.resolve() / "stacks" / values["fleet"]
    virtual = values["target"].startswith(TWIN)
    wrong: list[Diagnostic] = []
    """The errors of all parts that can be read without another part which is wrong."""
    if not virtual:
        with collect(wrong):
            passphrase.check(settings_source(name, project), name, project.resolve())
    secret_lengths: dict[str, int | None] | None = None
    with collect(wrong):
        secret_lengths = _secrets(name, project)

    forms: dict[str, secret.Form] = {}

    def check_secret(reference: str, shortest: int, form: secret.Form | None = None) -> Problem | None:
        if form:
            forms[reference] = form
        if secret_lengths is None:
            return None
        if reference in secret_lengths:
            return secret.length_problem(name, reference, secret_lengths.get(reference), shortest, form)
        return secret.missing_problem(name, reference, form, virtual)

    files = locations.repository()
    roles = Roles(files)
    fleet: Fleet | None = None
    with collect(wrong):
        fleet = load_fleet(_relative_path(path), roles, check_secret)
    if fleet is None or secret_lengths is None:
        raise DeclarationError(*wrong)
    if not virtual:
        with collect(wrong):
            published.check(_relative_path(path), fleet)
    retired = frozenset(name for name, host in fleet.hosts.items() if host.retired)
    fleet = fleet.model_copy(update={"hosts": {n: host for n, host in fleet.hosts.items() if n not in retired}})
    maintenance = _maintenance(fleet, datetime.now(UTC))
    unchanged = {**maintenance, **dict.fromkeys(sorted(retired), "retired, and left as it is")}
    host_notices = tuple(f"{host}: {text}" for host, text in unchanged.items())
    # a host has one key of digests, which an auditor's probe accepts, for all fleets that declare things on the host
    key = salt(read(_relative_path(path.with_name(fleet.uses))).data["fleet"] if fleet.uses else fleet.fleet, project)
    derived_values = (
        {each: secret.derive_value(each) for each in _references(fleet) - secret_lengths.keys()} if virtual else {}
    )
    repository = Repository(load_templates(files), roles, key, derived_values, root=files)
    twin_stack = _twin_stack(name, project, values["target"]) if fleet.uses else name
    containers: frozenset[str] = frozenset()
    lends_mirrors = lends_workloads = False
    urls: Mapping[str, str] = {}
    with collect(wrong):
        containers = _containers(twin_stack, project, values["target"], fleet)
    with collect(wrong):
        lends_mirrors = _lends(MIRRORS, twin_stack, project, virtual)
    with collect(wrong):
        lends_workloads = _lends(WORKLOADS, twin_stack, project, virtual)
    with collect(wrong):
        urls = store_urls.load(settings_source(name, project), fleet, virtual)
    fleet_file, path = _relative_path(path), path.with_name(fleet.uses or path.name)
    lock_file, lock = _relative_path(lock_path(path)), None
    with collect(wrong):
        lock = load_lock(lock_file)
    if wrong:
        raise DeclarationError(*wrong)
    without_loan = _without_loan(fleet, containers) if lends_workloads else ()
    vendor_keys = (lock.vendor_keys if lock else None) or {}
    tiers = {host: spec.tiers for host, spec in fleet.hosts.items()}
    if virtual:
        twin = values["target"].removeprefix(TWIN)
        endpoints = _twin_endpoints(project.resolve() / ".rackwright" / "twins" / twin)
        scaled, notices = twin_of(fleet, containers)
        notices = (*notices, *without_loan, *store_urls.notices(fleet, urls), *_cluster_notices(fleet))
        return Stack(
            *(name, project, scaled, endpoints, repository, key, twin, containers),
            lends_mirrors=lends_mirrors,
            lends_workloads=lends_workloads,
            notices=(*notices, *host_notices),
            fleet_file=fleet_file,
            lock=lock,
            lock_file=lock_file,
            maintenance=maintenance,
            retired=retired,
            store_urls=urls,
            store_hosts=store_urls.hosts(fleet, urls),
            tiers=tiers,
            vendor_keys=vendor_keys,
            secret_forms=forms,
        )
    pins = path.with_suffix(".known_hosts")
    endpoints = {host: _endpoint(host, spec, pins) for host, spec in fleet.hosts.items()}
    return Stack(
        *(name, project, fleet, endpoints, repository, key),
        notices=host_notices,
        fleet_file=fleet_file,
        lock=lock,
        lock_file=lock_file,
        maintenance=maintenance,
        retired=retired,
        store_urls=urls,
        tiers=tiers,
        vendor_keys=vendor_keys,
        secret_forms=forms,
    )


def secret_form(name: str, project: Path, reference: str) -> secret.Form | None:
    """Return the form of the secret *reference* in the fleet of stack *name*; None for any text.

    A fleet with errors, whose own check reports them, may not show it: the values are checked again before each use.
    """
    forms: dict[str, secret.Form] = {}

    def collect(found: str, shortest: int, form: secret.Form | None = None) -> None:
        if form:
            forms[found] = form

    with contextlib.suppress(DeclarationError):
        path = project.resolve() / "stacks" / settings(name, project)["fleet"]
        load_fleet(_relative_path(path), Roles(locations.repository()), collect)
    return forms.get(reference)


def neighbours(stack: Stack) -> Iterator[Stack]:
    """Yield the other stacks of the project with runs or servers on the hosts of *stack*, which has some too.

    Stacks with errors are left out: their own check reports them.
    """
    target = RACK if stack.twin is None else f"{TWIN}{stack.twin}"
    if not _settings_file(stack.name, stack.project).is_file():
        return  # a stack without a project
    own = settings(stack.name, stack.project)["fleet"]
    hosts = stack.fleet_file.with_name(str(stack.fleet.uses)).resolve()
    for name in locations.stack_names(stack.project):
        with contextlib.suppress(DeclarationError):
            values = settings(name, stack.project)
            path = stack.project / "stacks" / values["fleet"]
            if values["target"] != target or values["fleet"] == own or path.suffix != ".yaml":
                continue
            used = read(path).data.get("uses")
            if used is not None and (path.parent / str(used)).resolve() == hosts:
                yield load_stack(name, stack.project)


def _cluster_notices(fleet: Fleet) -> Iterator[str]:
    """Yield a notice for each cluster that a virtual rack leaves out."""
    for name, cluster in fleet.clusters.items():
        if cluster.api:
            yield f"the cluster {name} is left out: others made it, and the twin has no part in it"


def _maintenance(fleet: Fleet, now: datetime) -> dict[str, str]:
    """Return the hosts that are in maintenance at *now*, each with the text for reports."""
    declared = {name: host.maintenance for name, host in fleet.hosts.items()}
    return {name: entry.text for name, entry in declared.items() if entry and entry.is_active(now)}


def _relative_path(path: Path) -> Path:
    """Return *path* relative to the current directory if it is below it, as a user types it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def settings(name: str, project: Path) -> dict[str, str]:
    """Return ``fleet`` and ``target`` from ``stacks/Pulumi.<name>.yaml``."""
    path = _settings_file(name, project)
    if not path.is_file():
        stacks = locations.stack_names(project)
        help = hint(name, stacks, f"Create it with {command('pulumi stack init {}', name)} and set fleet and target")
        expected = f"stacks here: {', '.join(stacks) or 'none'}"
        raise _only(f"stack {name}", f"got no {_relative_path(path)}", expected, help)
    source = read(_relative_path(path))
    config = source.data.get("config")
    values = {key: (config if isinstance(config, dict) else {}).get(f"rackwright:{key}") for key in SETTINGS}
    missing = [f"rackwright:{key}" for key, value in values.items() if not isinstance(value, str)]
    if missing:
        help = f"Run {command('pulumi config set --stack {} {} VALUE', name, missing[0])}"
        problem, expected = f"got no {' and no '.join(missing)}", "a stack is a fleet and a target"
        raise DeclarationError(source.error(Problem(problem, expected, help), ("config",)))
    texts = {key: str(value) for key, value in values.items()}
    if wrong := list(_wrong_settings(name, texts, path.parent)):
        raise DeclarationError(*(source.error(problem, ("config", *problem.path)) for problem in wrong))
    return texts


def settings_source(name: str, project: Path) -> Source:
    """Return ``stacks/Pulumi.<name>.yaml`` with the lines of its values."""
    return read(_relative_path(_settings_file(name, project)))


def _settings_file(name: str, project: Path) -> Path:
    return project / "stacks" / f"Pulumi.{name}.yaml"


def _secrets(name: str, project: Path) -> dict[str, int | None]:
    """Return the secrets that have an encrypted value in ``stacks/Pulumi.<name>.yaml``, by name.

    The value is the length in bytes of the secret; None if pulumi's format does not show it.
    """
    source = settings_source(name, project)
    entries = source.data["config"].get(secret.CONFIG_KEY, {})
    place = ("config", secret.CONFIG_KEY)
    expected = "each secret is encrypted by itself, under its name"
    if not isinstance(entries, dict) or _is_encrypted(entries):
        help = f"Remove it, and run `{secret.setting_command(name, 'NAME')}` for each"
        raise DeclarationError(source.error(Problem("got no names", expected, help), place))
    wrong = [name_problem for each in entries if (name_problem := secret.name_problem(each))]
    errors = [source.error(problem, place) for problem in wrong]
    lengths = {}
    for each, value in entries.items():
        if _is_encrypted(value):
            lengths[each] = secret.encrypted_bytes(value["secure"])
            problem = secret.length_problem(name, each, lengths[each], secret.SHORTEST)
        else:
            help = f"Choose another value, as this one is exposed, and run `{secret.setting_command(name, each)}`"
            problem = Problem("got a value in clear", expected, help)
        if problem:
            errors.append(source.error(problem, (*place, each)))
    if errors:
        raise DeclarationError(*errors)
    return lengths


def _is_encrypted(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"secure"} and isinstance(value["secure"], str)


def _references(fleet: Fleet) -> frozenset[str]:
    """Return the names of the secrets in *fleet*, without those of a fleet whose hosts it uses."""
    if fleet.uses:
        server_secrets = (name for server in fleet.servers.values() for name in server.secrets)
        return frozenset({secret.name_of(fleet.key), *server_secrets, *tracking.secrets(fleet.runs, fleet.hosts)})
    hosts = fleet.hosts.values()
    tier_keys = (tier.key for host in hosts for tier in host.tiers.values() if tier.key)
    store_keys = (store.credentials.secret for store in fleet.object_stores.values())
    tokens = (cluster.api.secret for cluster in fleet.clusters.values() if cluster.api)
    role_secrets = (name for host in hosts for _, name in secret.references(host.roles))
    return frozenset({*tier_keys, *store_keys, *tokens, *role_secrets})


def _twin_stack(name: str, project: Path, target: str) -> str:
    """Return the stack whose settings describe the twin's hosts, for a stack that uses them: the twin's own, if any."""
    own = target.removeprefix(TWIN)
    return own if own != target and _settings_file(own, project).is_file() else name


def _containers(name: str, project: Path, target: str, fleet: Fleet) -> frozenset[str]:
    """Return the hosts of *fleet* in the list ``rackwright:containers`` of ``stacks/Pulumi.<name>.yaml``."""
    source = settings_source(name, project)
    names = source.data["config"].get(CONTAINERS)
    if names is None:
        return frozenset()
    if target == RACK:
        expected, help = (
            f"only a twin has containers, and the target is {RACK}",
            f"Remove it, or set target to {TWIN}{name}",
        )
        wrong = [Problem(f"got {names!r}", expected, help)]
    else:
        wrong = list(container_problems(names, fleet))
    if wrong:
        raise DeclarationError(*(source.error(problem, ("config", CONTAINERS, *problem.path)) for problem in wrong))
    return frozenset(names)


LENDABLE = {
    MIRRORS: ("a rack has its own mirrors", "`lent` gives hosts of a twin the mirrors of this computer"),
    WORKLOADS: (
        "hosts of a rack have their own environment",
        "`lent` gives containers of a twin read access to this computer's environment of the workloads",
    ),
}
"""The expectation in the error for each lending setting, on a rack and on a twin."""


def _lends(setting: str, name: str, project: Path, virtual: bool) -> bool:
    """Return whether *setting* in ``stacks/Pulumi.<name>.yaml`` shares this computer's own with a twin."""
    source = settings_source(name, project)
    value = source.data["config"].get(setting)
    if value is None or (value == "lent" and virtual):
        return value is not None
    on_rack, on_twin = LENDABLE[setting]
    expected, help = (on_twin, "Write lent, or remove it") if virtual else (on_rack, "Remove it")
    raise DeclarationError(source.error(Problem(f"got {value!r}", expected, help), ("config", setting)))


def _without_loan(fleet: Fleet, containers: frozenset[str]) -> tuple[str, ...]:
    """Return a notice if hosts of a twin do not use the environment of this computer."""
    if not containers:
        return (f"{WORKLOADS}: lent has no effect: the twin has no containers, and virtual machines do not get it",)
    own = [name for name, host in fleet.hosts.items() if name in containers and WORKLOADS_ROLE in host.roles]
    if not own:
        return ()
    reason = f"role {WORKLOADS_ROLE} installs the environment of {', '.join(own)}"
    return (f"{WORKLOADS}: lent has no effect on runs and servers that these hosts alone carry: {reason}",)


def _is_fleet(path: Path) -> bool:
    """Return whether a YAML file names itself a fleet; a proposal is no other file."""
    try:
        with path.open("rb") as file:
            return not _NO_FLEETS.match(path.name) and re.search(rb"^fleet:", file.read(BYTES_MAX), re.M) is not None
    except OSError:
        return False


def _wrong_settings(name: str, values: Mapping[str, str], stacks: Path) -> Iterator[Problem]:
    fleet, target = (values[key] for key in SETTINGS)
    places = [stacks.parent.resolve(), stacks.resolve()]
    if not any((stacks / fleet).resolve().is_relative_to(place) for place in places):
        expected, help = f"a fleet is a file of this project, below {places[0]}", "Copy it into the folder of this file"
        yield Problem(f"got {fleet!r}, which is {(stacks / fleet).resolve()}", expected, help, ("rackwright:fleet",))
    elif not (stacks / fleet).is_file():
        fleets = [path.name for path in sorted(stacks.glob("*.yaml")) if _is_fleet(path)]
        expected, help = f"fleets here: {', '.join(fleets) or 'none'}", hint(fleet, fleets, "Correct the name")
        yield Problem(f"got {fleet!r}", expected, help, ("rackwright:fleet",))
    if target != RACK and not re.fullmatch(rf"{TWIN}[a-z0-9-]+", target):
        expected, help = f"a target is {RACK} or {TWIN}NAME", f"Write {RACK}, or {TWIN}{name}"
        yield Problem(f"got {target!r}", expected, help, ("rackwright:target",))


def _only(where: str, problem: str, expected: str, help: str) -> DeclarationError:
    return DeclarationError(Diagnostic(where, problem, expected, help))


def _endpoint(name: str, host: Host, pins: Path) -> Endpoint:
    logins = tuple(_absolute(login, pins.parent) for login in host.ssh.logins)
    jump = None if host.ssh.jump is None else _jump(name, host.ssh.jump, logins, pins)
    return Endpoint(name, host.address, host.ssh.port, logins, pins, jump)


def _jump(name: str, text: str, logins: tuple[Login, ...], pins: Path) -> Endpoint:
    """Return the endpoint of the jump host: the same logins without sudo, with its own user if *text* names one."""
    user, address, port = parse_jump(text)
    jump_logins = tuple(login.model_copy(update={"user": user or login.user, "become": False}) for login in logins)
    return Endpoint(f"{name} (jump)", address, port, jump_logins, pins)


def _absolute(login: Login, base: Path) -> Login:
    def absolute(path: str | None) -> str | None:
        # unlike Path.expanduser, os.path's keeps the ~ of an unknown user, which the login then reports
        return None if path is None else str(base / os.path.expanduser(path))  # noqa: PTH111

    return login.model_copy(update={"key": absolute(login.key), "certificate": absolute(login.certificate)})


def _twin_endpoints(directory: Path) -> dict[str, Endpoint]:
    """Return the endpoints of the twin's hosts; empty before its first start."""
    path = directory / "endpoints.json"
    try:
        entries = json.loads(path.read_text())["hosts"]
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError):
        problem, expected = (
            f"got {path.stat().st_size} bytes that list no hosts",
            "the start of the twin writes this file",
        )
        help = f"Free space on that disk if it is full, then run {command('rackwright twin start {}', directory.name)}"
        raise _only(f"{_relative_path(path)}:1", problem, expected, help) from None
    return {
        host: Endpoint(
            host,
            entry["address"],
            entry["port"],
            (Login(name="twin", user=entry["user"], key=entry["key"]),),
            directory / "known_hosts",
        )
        for host, entry in entries.items()
    }


def salt(fleet: str, project: Path) -> bytes:
    """Return the fleet's salt, created at the first call; ``RACKWRIGHT_SALT_FILE`` names another file."""
    other_file = os.environ.get("RACKWRIGHT_SALT_FILE")
    path = Path(other_file) if other_file else project / ".rackwright" / "salts" / fleet
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(
            dir=path.parent
        ) as file:  # 0600, and linked when complete: two may run at once
            file.write(secrets.token_bytes(32))
            file.flush()
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    content = path.read_bytes()
    if len(content) < SALT_BYTES_MIN:
        problem, expected = (
            f"got {len(content)} bytes",
            f"a salt has {SALT_BYTES_MIN} or more: it keys the digests of secrets",
        )
        remove = command("rm {}", str(path))
        help = f"Restore it from another computer or a backup; or run {remove}, and the next run makes another"
        raise _only(
            str(_relative_path(path)), problem, expected, f"{help}, with which each digest in the state differs once"
        )
    return content
