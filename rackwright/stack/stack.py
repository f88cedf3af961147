"""A stack: a fleet and a target. The one place that reads which target it is."""

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

from rackwright.core.contract import Scope
from rackwright.core.repository import Repository, load_roles
from rackwright.errors import DeclarationError, DeclarationErrors, command
from rackwright.fleet import tracking
from rackwright.fleet.load import load_fleet
from rackwright.fleet.lockfile import Lock, load_lock, lock_path
from rackwright.fleet.roles import accept_all_secrets
from rackwright.fleet.source import Source, read
from rackwright.kinds.role.spec import AboutMirror
from rackwright.schema import secret
from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Host
from rackwright.schema.mirror import PORT
from rackwright.schema.problem import Problem, hint
from rackwright.schema.ssh import Endpoint, Login, parse_jump
from rackwright.schema.twin import container_problems, twin_of
from rackwright.stack import passphrase

ROOT = Path(__file__).resolve().parents[2]
"""The checkout that brings templates and roles."""
SETTINGS = ("fleet", "target")
CONTAINERS = "rackwright:containers"
MIRRORS = "rackwright:mirrors"
WORKLOADS = "rackwright:workloads"
RACK, TWIN = "rack", "twin:"
SALT_BYTES_MIN = 8
"""Fewer can be guessed; none are left by a full disk."""
_OTHERS = re.compile(r"Pulumi\.|.*\.lock\.yaml$")
"""Files beside fleets that are none."""


@dataclass(frozen=True)
class Stack:
    """What is declared, and how its hosts are reached."""

    name: str
    project: Path
    """Directory of Pulumi.yaml."""
    fleet: Fleet
    """As the target can be: sizes of a twin are scaled."""
    endpoints: Mapping[str, Endpoint]
    """By host; one that has none cannot be reached now."""
    repository: Repository
    salt: bytes
    """Keys the digests of files, so that a digest in state tells nothing about a secret."""
    twin: str | None = None
    """Name of the twin that is the target; None for the rack itself."""
    containers: frozenset[str] = frozenset()
    """Hosts that the twin makes with this computer's kernel, as containers; all others have their own."""
    lends_mirrors: bool = False
    """Whether hosts of the twin get packages from the mirrors of this computer."""
    lends_workloads: bool = False
    """Whether containers of the twin have the workloads' environment of this computer."""
    notices: tuple[str, ...] = ()
    """What a person should be told about the target."""
    fleet_file: Path = Path()
    """The file that declares its fleet; for messages."""
    lock: Lock | None = None
    """What was written down when all of it was there."""
    lock_file: Path = Path()
    """Where it stands, or will stand: beside the fleet."""
    maintenance: Mapping[str, str] = field(default_factory=dict)
    """The hosts that are left alone today, and in which words that is said."""
    retired: frozenset[str] = frozenset()
    """Hosts that were let go; the fleet has them no more."""

    @property
    def mirror(self) -> AboutMirror | None:
        """Where hosts get packages that the lock names; nobody but us brings any to a twin."""
        if self.fleet.mirror is None or self.lock is None or self.lock.key is None:
            return None
        url = self.fleet.mirror.url if self.twin is None else None
        if url is not None:
            return AboutMirror(url=url, key=self.lock.key)
        return AboutMirror(url=f"http://127.0.0.1:{PORT}/", key=self.lock.key, port=PORT)

    @property
    def brings_packages(self) -> bool:
        """Whether hosts get them from us, and not from a web server."""
        return self.mirror is not None and self.mirror.port is not None

    @property
    def local_repository(self) -> Path:
        """The local repository of the fleet: what `rackwright lock --fetch` keeps."""
        return self.project.resolve() / ".rackwright" / "mirrors" / self.fleet.fleet

    @property
    def sealed(self) -> frozenset[str]:
        """The secrets that it declares and whose value is not known here."""
        return _references(self.fleet) - self.repository.secrets.keys()

    def with_secrets(self, values: Mapping[str, str]) -> "Stack":
        """Return the stack with *values* known by the names of their secrets."""
        return replace(self, repository=replace(self.repository, secrets={**self.repository.secrets, **values}))

    def with_consents(self, consents: Mapping[str, str]) -> "Stack":
        """Return the stack with what the command that runs gives up, by the drive's serial."""
        return replace(self, repository=replace(self.repository, consents=consents))

    @property
    def without_secrets(self) -> "Stack":
        """The stack as it is for whoever knows none."""
        return replace(self, repository=replace(self.repository, secrets={}))

    def lacks(self, *hosts: str) -> Iterator[DeclarationError]:
        """Yield an error for each of *hosts* that it does not have."""
        declared = self.fleet.hosts
        where, want = f"stack {self.name}", f"it has {', '.join(declared)}"
        for name in hosts:
            if name not in declared:
                fix = hint(name, declared, "Name one of these")
                yield DeclarationError(where, f"got no host {name}", want, fix)

    def not_rehearsable(self, host: str) -> tuple[Scope, ...]:
        """Return what the target cannot show of *host*."""
        if self.twin is None:
            return ()
        return ("hardware", "kernel") if host in self.containers else ("hardware",)


def load_stack(name: str, project: Path) -> Stack:
    """Return the stack *name* of the project in *project*.

    Raises:
        DeclarationErrors: its settings or its fleet are wrong: all of it, with places.
    """
    told = settings(name, project)
    path = project.resolve() / "stacks" / told["fleet"]
    virtual = told["target"].startswith(TWIN)
    if not virtual:
        passphrase.check(settings_source(name, project), name, project.resolve())
    given = _secrets(name, project)

    def missing(wanted: str) -> Problem | None:
        if wanted in given:
            return None
        fix = f"Run `{secret.setting(name, wanted)}`"
        return Problem(f"got a secret {wanted} without a value", f"stack {name} has one for each", fix)

    fleet = load_fleet(_shown(path), load_roles(ROOT), accept_all_secrets if virtual else missing)
    retired = frozenset(name for name, host in fleet.hosts.items() if host.retired)
    fleet = fleet.model_copy(update={"hosts": {n: host for n, host in fleet.hosts.items() if n not in retired}})
    maintenance = _maintenance(fleet, datetime.now(UTC))
    left = {**maintenance, **dict.fromkeys(sorted(retired), "retired, and left as it is")}
    said = tuple(f"{host}: {text}" for host, text in left.items())
    # hosts have one key of digests, which the probe of an auditor accepts, whatever fleet is compared with them
    key = salt(read(_shown(path.with_name(fleet.uses))).data["fleet"] if fleet.uses else fleet.fleet, project)
    derived = {each: secret.derived(each) for each in _references(fleet) - given} if virtual else {}
    repository = Repository.load(ROOT, key, derived)
    made_by = _made_by(name, project, told["target"]) if fleet.uses else name
    containers = _containers(made_by, project, told["target"], fleet)
    lends_mirrors = _lends(MIRRORS, made_by, project, virtual)
    lends_workloads = _lends(WORKLOADS, made_by, project, virtual)
    declared, path = path, path.with_name(fleet.uses or path.name)
    fleet_file, lock_file = _shown(declared), _shown(lock_path(path))
    lock = load_lock(lock_file)
    if virtual:
        twin = told["target"].removeprefix(TWIN)
        endpoints = _twin_endpoints(project.resolve() / ".rackwright" / "twins" / twin)
        scaled, notices = twin_of(fleet, containers)
        return Stack(
            *(name, project, scaled, endpoints, repository, key, twin, containers),
            *(lends_mirrors, lends_workloads, (*notices, *said), fleet_file, lock, lock_file, maintenance, retired),
        )
    pins = path.with_suffix(".known_hosts")
    endpoints = {host: _endpoint(host, spec, pins) for host, spec in fleet.hosts.items()}
    return Stack(
        *(name, project, fleet, endpoints, repository, key),
        notices=said,
        fleet_file=fleet_file,
        lock=lock,
        lock_file=lock_file,
        maintenance=maintenance,
        retired=retired,
    )


def _maintenance(fleet: Fleet, now: datetime) -> dict[str, str]:
    """Return the hosts that somebody works on *now*, and how that is said."""
    works = {name: host.maintenance for name, host in fleet.hosts.items()}
    return {name: work.text for name, work in works.items() if work and work.stands(now)}


def _shown(path: Path) -> Path:
    """Return *path* as a person would type it, which is how errors name it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def settings(name: str, project: Path) -> dict[str, str]:
    """Return ``fleet`` and ``target`` from ``stacks/Pulumi.<name>.yaml``."""
    path = _settings_file(name, project)
    if not path.is_file():
        known = sorted(file.name[7:-5] for file in path.parent.glob("Pulumi.*.yaml"))
        fix = hint(name, known, f"Make it with {command('pulumi stack init {}', name)} and set fleet and target")
        raise _only(f"stack {name}", f"got no {_shown(path)}", f"stacks here: {', '.join(known) or 'none'}", fix)
    source = read(_shown(path))
    config = source.data.get("config")
    values = {key: (config if isinstance(config, dict) else {}).get(f"rackwright:{key}") for key in SETTINGS}
    missing = [f"rackwright:{key}" for key, value in values.items() if not isinstance(value, str)]
    if missing:
        fix = f"Run {command('pulumi config set --stack {} {} VALUE', name, missing[0])}"
        got, want = f"got no {' and no '.join(missing)}", "a stack is a fleet and a target"
        raise DeclarationErrors([source.error(Problem(got, want, fix), ("config",))])
    told = {key: str(value) for key, value in values.items()}
    if wrong := list(_wrong_settings(name, told, path.parent)):
        raise DeclarationErrors(source.error(problem, ("config", *problem.path)) for problem in wrong)
    return told


def settings_source(name: str, project: Path) -> Source:
    """Return ``stacks/Pulumi.<name>.yaml`` with the lines of its values."""
    return read(_shown(_settings_file(name, project)))


def _settings_file(name: str, project: Path) -> Path:
    return project / "stacks" / f"Pulumi.{name}.yaml"


def _secrets(name: str, project: Path) -> frozenset[str]:
    """Return the names of the secrets that have a value in ``stacks/Pulumi.<name>.yaml``; none can be read here."""
    source = settings_source(name, project)
    listed = source.data["config"].get(secret.CONFIG_KEY, {})
    place = ("config", secret.CONFIG_KEY)
    want = "each secret is encrypted by itself, under its name"
    if not isinstance(listed, dict) or _encrypted(listed):
        fix = f"Remove it, and run `{secret.setting(name, 'NAME')}` for each"
        raise DeclarationErrors([source.error(Problem("got no names", want, fix), place)])
    wrong = [name_problem for each in listed if (name_problem := secret.name_problem(each))]
    errors = [source.error(problem, place) for problem in wrong]
    for each, value in listed.items():
        if not _encrypted(value):
            fix = f"Think of another, as this one has been seen, and run `{secret.setting(name, each)}`"
            errors.append(source.error(Problem("got a value in clear", want, fix), (*place, each)))
    if errors:
        raise DeclarationErrors(errors)
    return frozenset(listed)


def _encrypted(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"secure"}


def _references(fleet: Fleet) -> frozenset[str]:
    """Return the names of the secrets in *fleet*; of one that uses another's hosts, what it says itself."""
    if fleet.uses:
        of_servers = (name for server in fleet.servers.values() for name in server.secrets)
        return frozenset({secret.name_of(fleet.key), *of_servers, *tracking.secrets(fleet.runs, fleet.hosts)})
    hosts = fleet.hosts.values()
    of_tiers = (tier.key for host in hosts for tier in host.tiers.values() if tier.key)
    return frozenset({*of_tiers, *(name for host in hosts for _, name in secret.references(host.roles))})


def _made_by(name: str, project: Path, target: str) -> str:
    """Return the stack that says how hosts are made, for one whose hosts are another's: the twin's own, if there is."""
    own = target.removeprefix(TWIN)
    return own if own != target and _settings_file(own, project).is_file() else name


def _containers(name: str, project: Path, target: str, fleet: Fleet) -> frozenset[str]:
    """Return the hosts of *fleet* that ``rackwright:containers`` lists in ``stacks/Pulumi.<name>.yaml``."""
    source = settings_source(name, project)
    listed = source.data["config"].get(CONTAINERS)
    if listed is None:
        return frozenset()
    if target == RACK:
        want, fix = f"only a twin has containers, and the target is {RACK}", f"Remove it, or set target to {TWIN}{name}"
        wrong = [Problem(f"got {listed!r}", want, fix)]
    else:
        wrong = list(container_problems(listed, fleet))
    if wrong:
        raise DeclarationErrors(source.error(problem, ("config", CONTAINERS, *problem.path)) for problem in wrong)
    return frozenset(listed)


LENT = {
    MIRRORS: ("a rack has mirrors of its own", "`lent` gives hosts of a twin the mirrors of this computer"),
    WORKLOADS: (
        "a rack's hosts have an environment of their own",
        "`lent` gives containers of a twin this computer's environment of the workloads, to read",
    ),
}
"""What this computer may lend its twin: what is said on a rack, and on a twin."""


def _lends(setting: str, name: str, project: Path, virtual: bool) -> bool:
    """Return whether *setting* in ``stacks/Pulumi.<name>.yaml`` gives a twin what this computer has."""
    source = settings_source(name, project)
    told = source.data["config"].get(setting)
    if told is None or (told == "lent" and virtual):
        return told is not None
    on_rack, on_twin = LENT[setting]
    want, fix = (on_twin, "Write lent, or remove it") if virtual else (on_rack, "Remove it")
    raise DeclarationErrors([source.error(Problem(f"got {told!r}", want, fix), ("config", setting))])


def _wrong_settings(name: str, told: Mapping[str, str], stacks: Path) -> Iterator[Problem]:
    fleet, target = (told[key] for key in SETTINGS)
    places = [stacks.parent.resolve(), stacks.resolve()]
    if not any((stacks / fleet).resolve().is_relative_to(place) for place in places):
        want, fix = f"a fleet is a file of this project, below {places[0]}", "Copy it to where this file is"
        yield Problem(f"got {fleet!r}, which is {(stacks / fleet).resolve()}", want, fix, ("rackwright:fleet",))
    elif not (stacks / fleet).is_file():
        known = [path.name for path in sorted(stacks.glob("*.yaml")) if not _OTHERS.match(path.name)]
        want, fix = f"fleets here: {', '.join(known) or 'none'}", hint(fleet, known, "Correct the name")
        yield Problem(f"got {fleet!r}", want, fix, ("rackwright:fleet",))
    if target != RACK and not re.fullmatch(rf"{TWIN}[a-z0-9-]+", target):
        want, fix = f"a target is {RACK} or {TWIN}NAME", f"Write {RACK}, or {TWIN}{name}"
        yield Problem(f"got {target!r}", want, fix, ("rackwright:target",))


def _only(where: str, got: str, want: str, fix: str) -> DeclarationErrors:
    return DeclarationErrors([DeclarationError(where, got, want, fix)])


def _endpoint(name: str, host: Host, pins: Path) -> Endpoint:
    logins = tuple(_absolute(login, pins.parent) for login in host.ssh.logins)
    jump = None if host.ssh.jump is None else _jump(name, host.ssh.jump, logins, pins)
    return Endpoint(name, host.address, host.ssh.port, logins, pins, jump)


def _jump(name: str, written: str, logins: tuple[Login, ...], pins: Path) -> Endpoint:
    """Return the host in between: the same logins, under its own user where it names one, and no sudo."""
    user, address, port = parse_jump(written)
    through = tuple(login.model_copy(update={"user": user or login.user, "become": False}) for login in logins)
    return Endpoint(f"{name} (jump)", address, port, through, pins)


def _absolute(login: Login, base: Path) -> Login:
    def absolute(path: str | None) -> str | None:
        # unlike Path's, it leaves the home of somebody unknown as it is, for the login to report
        return None if path is None else str(base / os.path.expanduser(path))  # noqa: PTH111

    return login.model_copy(update={"key": absolute(login.key), "certificate": absolute(login.certificate)})


def _twin_endpoints(directory: Path) -> dict[str, Endpoint]:
    """Return where the twin's hosts answer; none before its first start."""
    path = directory / "endpoints.json"
    try:
        told = json.loads(path.read_text())["hosts"]
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError):
        got, want = f"got {path.stat().st_size} bytes that list no hosts", "it is written when the twin starts"
        fix = f"Free space on that disk if it is full, then run {command('rackwright twin start {}', directory.name)}"
        raise _only(f"{_shown(path)}:1", got, want, fix) from None
    return {
        host: Endpoint(
            host,
            entry["address"],
            entry["port"],
            (Login(name="twin", user=entry["user"], key=entry["key"]),),
            directory / "known_hosts",
        )
        for host, entry in told.items()
    }


def salt(fleet: str, project: Path) -> bytes:
    """Return the fleet's salt, made at the first call; ``RACKWRIGHT_SALT_FILE`` names another file."""
    given = os.environ.get("RACKWRIGHT_SALT_FILE")
    path = Path(given) if given else project / ".rackwright" / "salts" / fleet
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # 0600, and linked whole: two may run at once
            file.write(secrets.token_bytes(32))
            file.flush()
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    content = path.read_bytes()
    if len(content) < SALT_BYTES_MIN:
        got, want = f"got {len(content)} bytes", f"a salt has {SALT_BYTES_MIN} or more: it keys the digests of secrets"
        away = command("rm {}", str(path))
        fix = f"Bring it back from another computer or a backup; or run {away}, and the next run makes another"
        raise _only(str(_shown(path)), got, want, f"{fix}, with which each digest in the state differs once")
    return content
