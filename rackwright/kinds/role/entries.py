"""The entries of a role's ``meta/claims.yml``: what each sort of promise says, and which claim it becomes.

An entry has one key that is its sort (``file``, ``package``, ``unit``, …), that sort's own keys, and may have any of:
``when`` (an expression; without it always), ``each`` (a list; the entry stands once for each ``item``), ``owned``,
``scope``, ``severity`` and ``remedy`` (see Claim), ``by_hand`` (only a person can make it hold), ``restart`` (it holds
from the next start of the host's kernel), ``disturbs`` (properties that are mended only while nobody computes on GPUs).
Texts may hold ``{{ … }}`` over the role's variables, ``host``, ``fleet`` and ``probe_program``, the text of the probe
as a program, ``krl``, which makes a list of what is revoked, and ``sha256``, which makes a text's digest; and over the
role's ``names``, worked out in their order. Names that begin with ``__`` are variables of its tasks, too.

What depends on a secret is found out, not declared: each entry is rendered once more with a stand-in where the value
would be, and whatever comes out otherwise depends on it. A stand-in is any text, so templates have to take any. Only
what a file contains, and whether something is promised at all, may depend on a secret: the rest is printed.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeVar

import jinja2
from pydantic import BaseModel, ConfigDict, ValidationError

from rackwright.errors import DeclarationError
from rackwright.facts.program import program
from rackwright.kinds.contract import Between, Claim, Scope, Severity, Unknown, Want, Within
from rackwright.kinds.house import House, RoleSource
from rackwright.kinds.role.krl import krl
from rackwright.kinds.role.spec import RoleSpec
from rackwright.kinds.secrets import Sealed, Veil
from rackwright.spec import secret

ALONE = re.compile(r"\{\{((?:(?!\}\}).)*)\}\}", re.DOTALL)
"""A text that is one expression and nothing else keeps the type of its value."""
Names = Mapping[str, Any]
"""What expressions and templates may use."""
T = TypeVar("T")


class Entry(BaseModel):
    """What all sorts have."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)
    sort: ClassVar[str]
    usual_scope: ClassVar[Scope] = "host"

    owned: bool = True
    """False: needed here, may be shared with others, never removed."""
    scope: Scope | None = None
    severity: Severity = "error"
    remedy: str = ""
    by_hand: bool = False
    restart: bool = False
    disturbs: tuple[str, ...] = ()
    """Properties whose mending takes the GPUs away from whoever computes on them."""

    @property
    def thing(self) -> str:
        return f"{self.sort}:{getattr(self, self.sort)}"

    def want(self, house: House) -> Mapping[str, Want]:
        raise NotImplementedError

    def claim(self, house: House) -> Claim:
        scope = self.scope or ("kernel" if self.restart else self.usual_scope)
        return Claim(self.thing, self.want(house), self.owned, scope, severity=self.severity, remedy=self.remedy)


class File(Entry):
    """A file with exactly this content."""

    sort = "file"
    file: str
    """Absolute path."""
    content: str | bytes
    """All of it; an entry writes ``template`` instead, or neither for the template of the same path."""
    mode: str = "0644"
    owner: str = "root:root"

    def want(self, house: House) -> Mapping[str, Want]:
        return {"content": house.digest(self.content), "mode": self.mode, "owner": self.owner}


class Link(Entry):
    """A symbolic link."""

    sort = "link"
    link: str
    to: str

    @property
    def thing(self) -> str:
        return f"file:{self.link}"

    def want(self, house: House) -> Mapping[str, Want]:
        return {"content": f"-> {self.to}"}


class Directory(Entry):
    """A directory, and, where *only* is given, no other names in it."""

    sort = "directory"
    directory: str
    mode: str | None = None
    owner: str | None = None
    only: tuple[str, ...] | None = None

    def want(self, house: House) -> Mapping[str, Want]:
        names = {} if self.only is None else {"names": Within(tuple(sorted(self.only)))}
        return {**_given(mode=self.mode, owner=self.owner), **names}


class PresentFile(Entry):
    """A file that somebody else writes: that it is there, with this mode and owner."""

    sort = "present"
    present: str
    mode: str
    owner: str = "root:root"

    @property
    def thing(self) -> str:
        return f"file:{self.present}"

    def want(self, house: House) -> Mapping[str, Want]:
        return {"mode": self.mode, "owner": self.owner}


class AbsentFile(Entry):
    """A path where nothing stands."""

    sort = "absent"
    absent: str

    @property
    def thing(self) -> str:
        return f"file:{self.absent}"

    def want(self, house: House) -> Mapping[str, Want]:
        return {"present": False}


class Package(Entry):
    """An installed package, or one that is not; with *version*, that one; with *held*, one that updates leave alone."""

    sort = "package"
    package: str
    installed: bool = True
    version: str | None = None
    held: bool | None = None

    def want(self, house: House) -> Mapping[str, Want]:
        there = {"version": self.version} if self.version else {"installed": self.installed}
        return {**there, **_given(held=self.held)}


class Unit(Entry):
    """A systemd unit: its state as `systemctl is-enabled` and `is-active` say it."""

    sort = "unit"
    unit: str
    enabled: str | None = "enabled"
    active: str | None = "active"

    def want(self, house: House) -> Mapping[str, Want]:
        return _given(state=self.enabled, active=self.active)


class Sysctl(Entry):
    """The value that the running kernel has; what it has at boot is the content of a file."""

    sort = "sysctl"
    usual_scope = "kernel"
    sysctl: str
    value: str

    def want(self, house: House) -> Mapping[str, Want]:
        return {"value": " ".join(self.value.split())}


class Module(Entry):
    """A kernel module, in the kernel or not; with *version*, that one."""

    sort = "module"
    usual_scope = "kernel"
    module: str
    loaded: bool = True
    version: str | None = None

    def want(self, house: House) -> Mapping[str, Want]:
        return {"loaded": self.loaded, **_given(version=self.version)}


class BuiltModule(Entry):
    """A module that was built for every kernel that the next start may take, in this version and no other."""

    sort = "built_module"
    built_module: str
    version: str

    def want(self, house: House) -> Mapping[str, Want]:
        return {"versions": (self.version,), "missing_for": ()}


class Library(Entry):
    """A shared library that the dynamic linker finds, once, in this version: ``libcuda.so.1``."""

    sort = "library"
    library: str
    version: str

    def want(self, house: House) -> Mapping[str, Want]:
        return {"versions": (self.version,)}


class DkmsTree(Entry):
    """A module in DKMS's tree: this version and no other, built for every kernel that the next start may take."""

    sort = "dkms"
    dkms: str
    version: str

    def want(self, house: House) -> Mapping[str, Want]:
        return {"versions": (self.version,), "missing_for": ()}


class Reading(Entry):
    """What a vendor's software says of itself in a file of its own: ``rocm.release``; see facts/probe/vendors.py."""

    sort = "reading"
    reading: str
    value: str

    def want(self, house: House) -> Mapping[str, Want]:
        return {"value": self.value}


class Bridges(Entry):
    """That no PCI bridge sends packets between devices through the root complex: Access Control Services are off."""

    sort = "bridges"
    usual_scope = "hardware"
    bridges: Literal["direct"]

    def want(self, house: House) -> Mapping[str, Want]:
        return {"redirecting": ()}


class KernelParameter(Entry):
    """A word of the command line that the kernel was started with."""

    sort = "kernel_parameter"
    usual_scope = "kernel"
    kernel_parameter: str
    present: bool = True
    restart: bool = True

    def want(self, house: House) -> Mapping[str, Want]:
        return {"present": self.present}


class GpuSetting(Entry):
    """What every GPU is set to: ``on`` or ``off``; a limit in watts; the profiles of its MIG instances, or ``off``."""

    sort = "gpu"
    gpu: Literal["persistence", "ecc", "power_limit_watts", "mig"]
    value: str

    def want(self, house: House) -> Mapping[str, Want]:
        return {"setting": (self.value,)}


class Cdi(Entry):
    """How containers get a kind of devices: by one CDI specification that says what is there, and nothing else."""

    sort = "cdi"
    cdi: str
    """``nvidia.com/gpu``."""
    by: str | None = None
    """The only file that is of this kind."""
    every_gpu: bool = False
    """It names each GPU, or each of its MIG instances, that NVIDIA's driver knows of."""
    there: Literal["files", "devices"] | None = None
    """What it names of them is on the host."""

    def want(self, house: House) -> Mapping[str, Want]:
        lacking: dict[str, Want] = {"lacking": ()} if self.every_gpu else {}
        missing: dict[str, Want] = {f"missing_{self.there}": ()} if self.there else {}
        return {**({"by": (self.by,)} if self.by else {}), **lacking, **missing}


class Image(Entry):
    """An image that an engine has: ``registry.example/name@sha256:…``, or one that was made here, by its tag."""

    sort = "image"
    image: str
    engine: Literal["podman", "containerd"]

    def want(self, house: House) -> Mapping[str, Want]:
        return {self.engine: True}


class User(Entry):
    """An account. *groups* are all it is in; *password* is none, locked or set."""

    sort = "user"
    user: str
    groups: tuple[str, ...] | None = None
    shell: str | None = None
    home: str | None = None
    password: Literal["none", "locked", "set"] | None = None
    present: bool = True

    def want(self, house: House) -> Mapping[str, Want]:
        if not self.present:
            return {"present": False}
        groups = None if self.groups is None else tuple(sorted(self.groups))
        given = _given(groups=groups, shell=self.shell, home=self.home, password=self.password)
        return given or {"present": True}


class Group(Entry):
    """A group; with *members*, nobody else is in it."""

    sort = "group"
    group: str
    members: tuple[str, ...] | None = None

    def want(self, house: House) -> Mapping[str, Want]:
        return {"present": True} if self.members is None else {"members": tuple(sorted(self.members))}


class Socket(Entry):
    """A port that somebody listens on, or nobody: ``tcp:22``."""

    sort = "socket"
    socket: str
    listening: bool = True

    def want(self, house: House) -> Mapping[str, Want]:
        return {"listening": self.listening}


class Hostname(Entry):
    """What the running kernel calls the host."""

    sort = "hostname"
    hostname: str

    def want(self, house: House) -> Mapping[str, Want]:
        return {"running": self.hostname}


class Measure(Entry):
    """A figure that changes by itself, within bounds; no step mends it."""

    sort = "fact"
    fact: str
    below: float

    by_hand: bool = True

    @property
    def thing(self) -> str:
        return f"measure:{self.fact}"

    def want(self, house: House) -> Mapping[str, Want]:
        return {"value": Between(None, self.below)}


class MountOption(Entry):
    """An option that a mount point has."""

    sort = "mount_option"
    mount_option: str
    at: str

    @property
    def thing(self) -> str:
        return f"mount-option:{self.at}:{self.mount_option}"

    def want(self, house: House) -> Mapping[str, Want]:
        return {"set": True}


SORTS: Mapping[str, type[Entry]] = {
    entry.sort: entry
    for entry in (
        *(File, Link, Directory, PresentFile, AbsentFile, Package, Unit, Sysctl, Module, KernelParameter),
        *(BuiltModule, Library, GpuSetting, Cdi, Image, DkmsTree, Reading, Bridges),
        *(User, Group, Socket, Hostname, Measure, MountOption),
    )
}


@dataclass(frozen=True)
class Promise:
    """An entry, and what of it is a secret."""

    entry: Entry = field(repr=False)
    secret: frozenset[str] = frozenset()
    """The properties that depend on one."""
    unknown: str = ""
    """Why these cannot be told here."""

    def claims(self, house: House) -> Iterator[Claim]:
        """Yield the claim; where only some of it is secret, as two."""
        claim = self.entry.claim(house)
        if plain := {name: want for name, want in claim.want.items() if name not in self.secret}:
            yield replace(claim, want=plain)
        if hidden := {name: want for name, want in claim.want.items() if name in self.secret}:
            told = {name: Unknown(self.unknown) for name in hidden} if self.unknown else hidden
            yield replace(claim, want=told, secret=True)


@dataclass(frozen=True)
class Promises:
    """All that a role promises on one host."""

    source: RoleSource
    variables: Mapping[str, Any] = field(repr=False)
    promised: tuple[Promise, ...]
    sealed: tuple[str, ...] = ()
    """Secrets whose value is not known here: what needs it cannot be written."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(promise.entry for promise in self.promised)

    @property
    def secret_files(self) -> frozenset[str]:
        """Paths of the files whose content depends on a secret."""
        return frozenset(
            promise.entry.file
            for promise in self.promised
            if isinstance(promise.entry, File) and "content" in promise.secret
        )

    @property
    def files(self) -> tuple[File, ...]:
        return tuple(entry for entry in self.entries if isinstance(entry, File))

    @property
    def closed(self) -> tuple[str, ...]:
        """Directories in which nothing may stand that it does not name."""
        return tuple(
            entry.directory for entry in self.entries if isinstance(entry, Directory) and entry.only is not None
        )


class Mistake(Exception):
    """What is wrong with an entry."""


def promises(spec: RoleSpec, house: House) -> Promises:
    """Return what the role of *spec* promises, all texts rendered.

    Raises:
        DeclarationError: its ``meta/claims.yml`` or a template is wrong, or uses a name that is not there.
    """
    source = house.roles[spec.role]
    names = {str(name) for _, name in secret.references(spec.variables)}
    sealed = tuple(sorted(names - house.secrets.keys()))
    values = secret.filled(spec.variables, lambda name: house.secrets.get(name, Sealed()))
    variables = source.variables(spec.about.os, values)
    own, public = _scope(spec, source, variables, house), None
    if names:
        shown = source.variables(spec.about.os, secret.filled(spec.variables, secret.stand_in))
        public = _scope(spec, source, shown, house)
    unknown = f"the value of {', '.join(map(secret.stand_in, sealed))} is not known here"
    promised: list[Promise] = []
    for number, raw in enumerate(source.claims, start=1):
        try:
            promised += _promised(source, raw, own, public, house, unknown)
        except (jinja2.TemplateError, ValidationError, KeyError, TypeError, Mistake) as error:
            where = f"roles/{spec.role}/meta/claims.yml, entry {number}"
            got = f"got {Veil(house.secrets.values())(_said(error))}"
            raise DeclarationError(where, got, "an entry says what holds", "Correct the role") from error
    internal = {name: own[name] for name in source.names if name.startswith("__")}
    return Promises(source, {**variables, **internal}, tuple(promised), sealed)


def _scope(spec: RoleSpec, source: RoleSource, variables: Names, house: House) -> Names:
    common = {"host": spec.about, "fleet": spec.fleet, "probe_program": program(), "krl": krl, "sha256": sha256}
    return {**common, **named(source, {**variables, **common}, house)}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def named(source: RoleSource, variables: Names, house: House) -> Names:
    """Return *variables* with the role's ``names`` beside them; what depends on a sealed secret is sealed as well."""
    names = dict(variables)
    for name, value in source.names.items():
        try:
            names[name] = evaluate(value, names, house)
        except Sealed.Opened:
            names[name] = Sealed()
    return names


def _promised(
    source: RoleSource, raw: Mapping[str, Any], own: Names, public: Names | None, house: House, unknown: str
) -> Iterator[Promise]:
    """Yield what one entry stands for: itself, or one for each item, where its condition holds.

    Args:
        own: The names as they are.
        public: The same with a stand-in for each secret; None where there are none.
        unknown: Why what depends on a sealed secret cannot be told.
    """
    if public is None:
        for names in _items(raw, own, house):
            if _holds(raw, names, house):
                yield Promise(_entry(source, raw, names, house))
        return
    items, shown = _unless_sealed(lambda: _items(raw, own, house)), _items(raw, public, house)
    if items is None or len(items) != len(shown):
        raise Mistake("a list of things that depends on a secret")
    for names, stand_ins in zip(items, shown, strict=True):
        yield from _compared(source, raw, names, stand_ins, house, unknown)


def _compared(
    source: RoleSource, raw: Mapping[str, Any], own: Names, public: Names, house: House, unknown: str
) -> Iterator[Promise]:
    """Yield the one promise of *own*, with what of it is otherwise under *public*."""
    holds = _unless_sealed(lambda: _holds(raw, own, house))
    if holds is False:
        return
    entry, told = _unless_sealed(lambda: _entry(source, raw, own, house)), _entry(source, raw, public, house)
    depends = {"content"} if entry is None else _otherwise(entry, told)
    if depends and (depends != {"content"} or not isinstance(told, File)):
        raise Mistake(
            f"{told.sort} with {', '.join(sorted(depends))} of a secret: only the content of a file may be one"
        )
    whole = holds is not _holds(raw, public, house)
    hidden = frozenset(told.want(house)) if whole else frozenset(depends)
    yield Promise(entry or told, hidden, unknown if holds is None or entry is None else "")


def _unless_sealed(told: Callable[[], T]) -> T | None:
    """Return what *told* gives; None where that depends on a value that is not known."""
    try:
        return told()
    except Sealed.Opened:
        return None


def _otherwise(one: Entry, other: Entry) -> set[str]:
    return {name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)}


def _items(raw: Mapping[str, Any], scope: Names, house: House) -> list[Names]:
    """Return the names for each time that the entry stands."""
    if "each" not in raw:
        return [scope]
    return [{**scope, "item": item} for item in evaluate(raw["each"], scope, house)]


def _holds(raw: Mapping[str, Any], names: Names, house: House) -> bool:
    return "when" not in raw or bool(_expression(raw["when"], names, house))


def _entry(source: RoleSource, raw: Mapping[str, Any], names: Names, house: House) -> Entry:
    written = {key: value for key, value in raw.items() if key not in ("when", "each")}
    [sort] = [key for key in written if key in SORTS]
    values = evaluate(written, names, house)
    if any(isinstance(value, Sealed) for value in values.values()):
        raise Sealed.Opened
    if sort == "file" and "content" not in values:
        template = values.pop("template", f"{source.name}{values['file']}.j2")
        values["content"] = house.render(template, **names)
    return SORTS[sort].model_validate(values)


def evaluate(value: Any, names: Mapping[str, Any], house: House) -> Any:
    """Return *value* with every text in it rendered; a text that is one expression becomes that expression's value."""
    match value:
        case str():
            if alone := ALONE.fullmatch(value):
                return _expression(alone[1], names, house)
            return house.environment.from_string(value).render(names) if "{" in value else value
        case Mapping():
            return {key: evaluate(item, names, house) for key, item in value.items()}
        case list():
            return [evaluate(item, names, house) for item in value]
        case _:
            return value


def _expression(text: str, names: Mapping[str, Any], house: House) -> Any:
    value = house.environment.compile_expression(text.strip(), undefined_to_none=False)(**names)
    if isinstance(value, jinja2.Undefined):
        str(value)  # StrictUndefined says by which name
    return value


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
    return str(error)


def _given(**values: Want | None) -> dict[str, Want]:
    return {name: value for name, value in values.items() if value is not None}
