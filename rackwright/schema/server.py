"""What a model server is: a model, the hosts that serve it, and what it has to be before it does."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, ValidationError, model_validator

from rackwright.schema import placement
from rackwright.schema.base import Many, Schema
from rackwright.schema.host import Host, Name
from rackwright.schema.problem import Keys, Problem, raise_any
from rackwright.schema.run import Environment, address
from rackwright.schema.secret import Key, name_problem
from rackwright.schema.units import SPAN, parse_time
from workloads.serving.settings import Settings

NAME_MAX = 25
"""Its account is called ``server-NAME``, and Linux takes 32 characters. Source: useradd(8)."""
EVERYWHERE = "0.0.0.0"
RESERVED = (
    "host", "port", "keys", "anybody", "tls_certificate", "tls_key", "tls_client_authorities", "own_socket", "watch",
)  # fmt: skip
"""Settings of `workloads.serving` that follow from the server itself."""
REGISTERED = r"[A-Za-z0-9][A-Za-z0-9_. -]*(@[A-Za-z0-9_.-]+|/[0-9]+)"
"""What a model of the registry is called: by an alias, which somebody may move, or by its number."""
OWN = "rackwright"
"""Name of the key by which a host asks its own server."""


def _version(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{12}", text):
        fix = "Take `version` of its model.json"
        raise Problem(f"got {text!r}", "a version is the first 12 hexadecimal digits of a model's digest", fix)
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        fix = "Let `rackwright server promote` write it"
        raise Problem(f"got {text!r}", "a SHA-256 has 64 hexadecimal digits", fix)
    return text


def _registered(text: str) -> str:
    if not re.fullmatch(REGISTERED, text):
        want = "a model of the registry is NAME@ALIAS or NAME/NUMBER"
        raise Problem(f"got {text!r}", want, "Write it like digits@champion or digits/3")
    return text


def _below(path: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", path) or ".." in path.split("/"):
        want = "it is a path of letters, digits and . _ - below a directory, and does not lead out of it"
        raise Problem(f"got {path!r}", want, "Write it like models/digits")
    return path


def _named(name: str) -> str:
    if problem := name_problem(name):
        raise problem
    return name


def _every(text: str) -> str:
    if not 60 <= parse_time(text) <= 86400:
        raise Problem(f"got {text!r}", "it is 1min at least, and 24h at most", "Write it like 15min")
    return text


Every = Annotated[str, AfterValidator(_every), Field(json_schema_extra={"pattern": f"^{SPAN}$"})]
Version = Annotated[str, AfterValidator(_version)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
Registered = Annotated[str, AfterValidator(_registered), Field(json_schema_extra={"pattern": f"^{REGISTERED}$"})]
Below = Annotated[str, AfterValidator(_below)]


class Served(Schema):
    """A model that `python -m workloads.quantize` has published."""

    path: Below | None = None
    """Its directory: below the project's on this computer, or below the mount of a tier."""
    tier: Name | None = None
    """Of the hosts; each then copies the model from there."""
    registered: Registered | None = None
    """In the place of a path, its name at an MLflow server: digits@champion or digits/3."""
    version: Version | None = None
    """Which one it has to be; without a path, one that the hosts have already, or the one that was registered."""
    sha256: Sha256 | None = None
    """Of the model.json of a registered one, which is fetched by it; `rackwright server promote` writes it."""

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        if self.registered is not None:
            raise_any(self._elsewhere())
            return self
        if self.sha256 is not None:
            fix = "Take it out, or say what is registered"
            raise Problem("got sha256 and nothing registered", "it is of a registered model", fix, ("sha256",))
        if self.path is None and (self.version is None or self.tier is not None):
            got = "got no path" if self.version is None else "got a tier and no path"
            fix = "Write path: DIRECTORY, registered: NAME@ALIAS, or the version of a model that the hosts have"
            raise Problem(got, "a model is somewhere", fix)
        if self.tier is not None and self.version is None:
            fix = "Add `version` of its model.json"
            raise Problem("got no version", "what lies on a tier is only looked at there", fix)
        return self

    def _elsewhere(self) -> Iterator[Problem]:
        """Yield what a registered model cannot have beside it."""
        for name in ("path", "tier"):
            if getattr(self, name) is not None:
                want, fix = "a registered model comes from the registry", "Take one of the two out"
                yield Problem(f"got {name} and registered", want, fix, (name,), also=("registered",))
        if self.sha256 is not None and self.version is None:
            want, fix = "both are of the same model", "Run `rackwright server promote`, which writes both"
            yield Problem("got sha256 and no version", want, fix, ("sha256",))

    def of_version(self, version: str) -> "Served":
        """Return it with another *version*, which hosts have already: what was fetched is that one no more."""
        return self if version == self.version else self.model_copy(update={"version": version, "sha256": None})


class Gate(Schema):
    """What the model's own report has to say before it is served."""

    accuracy_kept: Annotated[float, Field(ge=0)] | None = 0.98
    """Share of the accuracy that the original had, by the report of `python -m workloads.quantize`; null waives it."""


class Canary(Schema):
    """Rows with labels that each host's server has to answer before the next host changes."""

    data: Below
    """A file of NumPy's (.npz) below the project's directory: an array for each input, by its name, and `labels`."""
    accuracy: Annotated[float, Field(gt=0, le=1)]
    """The share that has to be right."""
    every: Every | None = None
    """How often the rows are asked again while a release serves, such as 15min or 6h; without it never."""
    change: Annotated[float, Field(gt=0, le=1)] = 0.02
    """By how much the share that is right may move within a day, up or down, until it is said."""
    roll_back: bool = False
    """Let the release before serve again, by itself, where less than `accuracy` is right."""

    @model_validator(mode="after")
    def _is_watched(self) -> Self:
        if self.every is None:
            set_so = [name for name in ("change", "roll_back") if name in self.model_fields_set]
            want, fix = "nobody looks between rollouts", "Add every: 15min, or take it out"
            raise_any(Problem(f"got {name} and no every", want, fix, (name,)) for name in set_so)
        return self

    @property
    def every_seconds(self) -> int | None:
        return None if self.every is None else parse_time(self.every)


class ServerKey(Schema):
    """Who may ask."""

    secret: Annotated[str, AfterValidator(_named)]
    """Name of the secret that is the key: 32 random characters or more."""
    scopes: Many[Literal["infer", "read", "metrics"]] = ("infer", "read")
    """Ask the model; read what it is; read figures."""


class Tls(Schema):
    """HTTPS in the place of HTTP."""

    certificate: Key
    """With those that vouch for it, PEM: `{secret: NAME}`."""
    key: Key
    """PEM: `{secret: NAME}`."""


class Server(Schema):
    """A model that several hosts serve, each on its own; what is in front of them is role `load_balancer`."""

    model: Served
    """What is served."""
    hosts: Many[str] = ()
    """Hosts of the fleet that is used, in the order in which they change."""
    group: str | None = None
    """In the place of hosts: all of a group, in the order of the fleet."""
    listen: Literal["fabric", "everywhere"] = "fabric"
    """On the host's address in its fabric, or on all that it has."""
    port: Annotated[int, Field(ge=1024, le=65535)] = 8080
    """The same on all hosts."""
    keys: dict[Name, ServerKey] = Field(default_factory=dict)
    """Who may ask, by the name that the log says."""
    anybody: bool = False
    """Serve without keys."""
    tls: Tls | None = None
    """Without it, HTTP."""
    gate: Gate = Gate()
    """What the model has to have shown."""
    canary: Canary | None = None
    """What it has to show on each host."""
    environment: Environment | None = None
    """What the server imports, where role `workloads` does not make it: ``/opt/serving`` if nothing is said."""
    ready_seconds: PositiveInt = 120
    """How long a server may take until it is ready."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Settings, as `python -m workloads.serving MODEL --print` shows them."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        raise_any(_problems(self))
        return self

    def members(self, hosts: Mapping[str, Host]) -> tuple[str, ...]:
        """Return its hosts of *hosts*, in the order in which they change."""
        return placement.members(self, hosts)

    def address(self, host: Host) -> str:
        """Return the address that it listens on; empty where the host has no fabric."""
        return EVERYWHERE if self.listen == "everywhere" else (address(host) or "").split("/")[0]

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the secrets that it refers to itself."""
        tls = (self.tls.certificate, self.tls.key) if self.tls else ()
        return (*(key.secret for key in self.keys.values()), *(str(each["secret"]) for each in tls))


def _problems(server: Server) -> Iterator[Problem]:
    yield from placement.problems(server, "a server", "a host serves it once", "Take one out")
    if server.anybody == bool(server.keys):
        got = "got keys and anybody" if server.keys else "got no keys"
        want = "either those with a key may ask, or anybody may"
        yield Problem(got, want, "Write keys: {NAME: {secret: NAME}}, or anybody: true")
    if OWN in server.keys:
        want = "that is the name of the key by which a host asks its own server"
        yield Problem(f"got {OWN}", want, "Take another name", ("keys", OWN))
    for name in RESERVED:
        if name in server.set:
            want = "it follows from the server: its hosts, port, keys, tls and canary"
            yield Problem(f"got {name}", want, "Take it out", ("set", name))


def settings(server: Server, host: str, **more: Any) -> Settings:
    """Return the settings of *server* on the address *host*, with *more*.

    Raises:
        ValidationError: a value of `set` cannot be.
    """
    told = {**server.set, "host": host, "port": server.port, "anybody": server.anybody, **more}
    return Settings.model_validate_json(json.dumps(told))


def problems(servers: Mapping[str, Server], hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield what is wrong with *servers* on *hosts*; paths start at the servers."""
    for name, server in servers.items():
        if len(name) > NAME_MAX:
            want = f"an account is called after it: {NAME_MAX} characters at most"
            yield Problem(f"got the name {name!r}", want, "Shorten it", (name,))
        members = [member for member in server.members(hosts) if member in hosts]
        for problem in (*placement.unknown(server, hosts), *_placed(server, hosts, members), *_set(server)):
            yield Problem(problem.got, problem.want, problem.fix, (name, *problem.path))
    yield from _taken(servers, hosts)


def _placed(server: Server, hosts: Mapping[str, Host], members: list[str]) -> Iterator[Problem]:
    place: Keys = ("group",) if server.group is not None else ("hosts",)
    for member in members:
        if server.listen == "fabric" and address(hosts[member]) is None:
            fix = f"Declare network: {{}} and addresses of the port on {member}, or write listen: everywhere"
            yield Problem(f"got {member}", "it has no fabric: no network with addresses is declared", fix, place)
        tier = server.model.tier
        if tier is not None and tier not in hosts[member].tiers:
            known = ", ".join(hosts[member].tiers)
            want = f"{member} has not: its tiers are {known}" if known else f"{member} has no tiers"
            fix = f"Declare tier {tier} on {member}, or take {member} out of the server"
            yield Problem(f"got {tier!r}", want, fix, ("model", "tier"))


def _set(server: Server) -> Iterator[Problem]:
    try:
        settings(server, "127.0.0.1")
    except ValidationError as error:
        for found in error.errors(include_url=False):
            value = found["input"] if isinstance(found["input"], str | int | float | bool | None) else "other values"
            want = found["msg"][:1].lower() + found["msg"][1:].removeprefix("alue error, ")
            fix = "See `python -m workloads.serving MODEL --print`"
            yield Problem(f"got {value!r}", want, fix, ("set", *found["loc"]))


def _taken(servers: Mapping[str, Server], hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield a problem for each port of a host that two servers would listen on."""
    first: dict[tuple[str, int], str] = {}
    for name, server in servers.items():
        for member in server.members(hosts):
            other = first.setdefault((member, server.port), name)
            if other != name:
                want = f"server {other} listens there on {member}"
                yield Problem(
                    f"got port {server.port}", want, "Give each server a port of its own", (name, "port"), also=(other,)
                )
                break
