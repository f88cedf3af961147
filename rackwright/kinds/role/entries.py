"""The entries of a role's ``meta/claims.yml``: what each sort of promise says, and which claim it becomes.

An entry has one key that is its sort (``file``, ``package``, ``unit``, …), that sort's own keys, and may have any of:
``when`` (an expression; without it always), ``each`` (a list; the entry stands once for each ``item``), ``owned``,
``scope``, ``severity``, ``remedy``, ``remedy_absent`` (see Claim), ``by_hand`` (only a person can make it hold),
``restart`` (it holds from the next start of the host's kernel), ``disturbs`` (properties that are mended only while
nobody computes on GPUs).
Texts may hold ``{{ … }}`` over the role's variables, ``host``, ``fleet`` and ``probe_program``, the text of the probe
as a program, ``krl``, which makes a list of what is revoked, and ``sha256``, which makes a text's digest; and over the
role's ``names``, worked out in their order. Names that begin with ``__`` are variables of its tasks, too.
"""

import re
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Json

from rackwright.core.contract import Between, Claim, Scope, Severity, Want, Within
from rackwright.core.repository import Repository
from rackwright.facts.probe.accounts import KEY, fingerprint


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
    remedy_absent: str | None = None
    by_hand: bool = False
    restart: bool = False
    disturbs: tuple[str, ...] = ()

    @property
    def thing(self) -> str:
        return f"{self.sort}:{getattr(self, self.sort)}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        raise NotImplementedError

    def claim(self, repository: Repository) -> Claim:
        scope = self.scope or ("kernel" if self.restart else self.usual_scope)
        return Claim(
            self.thing,
            self.want(repository),
            self.owned,
            scope,
            severity=self.severity,
            remedy=self.remedy,
            remedy_absent=self.remedy_absent,
        )


class File(Entry):
    """A file with exactly this content."""

    sort = "file"
    file: str
    content: str | bytes
    """All of it; an entry writes ``template`` instead, or neither for the template of the same path."""
    mode: str = "0644"
    owner: str = "root:root"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"content": repository.digest(self.content), "mode": self.mode, "owner": self.owner}


class Link(Entry):
    """A symbolic link."""

    sort = "link"
    link: str
    to: str

    @property
    def thing(self) -> str:
        return f"file:{self.link}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"content": f"-> {self.to}"}


class Directory(Entry):
    """A directory, and, where *only* is given, no other names in it."""

    sort = "directory"
    directory: str
    mode: str | None = None
    owner: str | None = None
    only: tuple[str, ...] | None = None

    def want(self, repository: Repository) -> Mapping[str, Want]:
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

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"mode": self.mode, "owner": self.owner}


class AbsentFile(Entry):
    """A path where nothing stands."""

    sort = "absent"
    absent: str

    @property
    def thing(self) -> str:
        return f"file:{self.absent}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"present": False}


class Package(Entry):
    """An installed package, or one that is not; with *version*, that one; with *held*, one that updates leave alone."""

    sort = "package"
    package: str
    installed: bool = True
    version: str | None = None
    held: bool | None = None

    def want(self, repository: Repository) -> Mapping[str, Want]:
        there = {"version": self.version} if self.version else {"installed": self.installed}
        return {**there, **_given(held=self.held)}


class Environment(Entry):
    """A directory with an environment of Python, and in it each package of *requirements*, a list of pip's."""

    sort = "environment"
    environment: str
    requirements: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        pinned = re.findall(r"^([\w.-]+)==([^\s;]+)", self.requirements, re.MULTILINE)
        return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned}


class Unit(Entry):
    """A systemd unit: its state as `systemctl is-enabled` and `is-active` say it."""

    sort = "unit"
    unit: str
    enabled: str | None = "enabled"
    active: str | None = "active"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return _given(state=self.enabled, active=self.active)


class Sysctl(Entry):
    """The value that the running kernel has; what it has at boot is the content of a file."""

    sort = "sysctl"
    usual_scope = "kernel"
    sysctl: str
    value: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"value": " ".join(self.value.split())}


class Module(Entry):
    """A kernel module, in the kernel or not; with *version*, that one."""

    sort = "module"
    usual_scope = "kernel"
    module: str
    loaded: bool = True
    version: str | None = None

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"loaded": self.loaded, **_given(version=self.version)}


class BuiltModule(Entry):
    """A module that was built for every kernel that the next start may take, in this version and no other."""

    sort = "built_module"
    built_module: str
    version: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"versions": (self.version,), "missing_for": ()}


class Library(Entry):
    """A shared library that the dynamic linker finds, once, in this version: ``libcuda.so.1``."""

    sort = "library"
    library: str
    version: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"versions": (self.version,)}


class DkmsTree(Entry):
    """A module in DKMS's tree: this version and no other, built for every kernel that the next start may take."""

    sort = "dkms"
    dkms: str
    version: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"versions": (self.version,), "missing_for": ()}


class Reading(Entry):
    """What a vendor's software says of itself in a file of its own: ``rocm.release``; see facts/probe/vendors.py."""

    sort = "reading"
    reading: str
    value: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"value": self.value}


class Bridges(Entry):
    """That no PCI bridge sends packets between devices through the root complex: Access Control Services are off."""

    sort = "bridges"
    usual_scope = "hardware"
    bridges: Literal["direct"]

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"redirecting": ()}


class KernelParameter(Entry):
    """A word of the command line that the kernel was started with."""

    sort = "kernel_parameter"
    usual_scope = "kernel"
    kernel_parameter: str
    present: bool = True
    restart: bool = True

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"present": self.present}


class GpuSetting(Entry):
    """What every GPU is set to: ``on`` or ``off``; a limit in watts; the profiles of its MIG instances, or ``off``."""

    sort = "gpu"
    gpu: Literal["persistence", "ecc", "power_limit_watts", "mig"]
    value: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
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

    def want(self, repository: Repository) -> Mapping[str, Want]:
        lacking: dict[str, Want] = {"lacking": ()} if self.every_gpu else {}
        missing: dict[str, Want] = {f"missing_{self.there}": ()} if self.there else {}
        return {**({"by": (self.by,)} if self.by else {}), **lacking, **missing}


class Image(Entry):
    """An image that an engine has: ``registry.example/name@sha256:…``, or one that was made here, by its tag."""

    sort = "image"
    image: str
    engine: Literal["podman", "containerd"]

    def want(self, repository: Repository) -> Mapping[str, Want]:
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

    def want(self, repository: Repository) -> Mapping[str, Want]:
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

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"present": True} if self.members is None else {"members": tuple(sorted(self.members))}


class AuthorizedKeys(Entry):
    """The keys by which sshd lets an account in, wherever it looks for them: no others than *only*.

    With *noted*, also those that the account had when the role was first played, which the role notes on the host.
    """

    sort = "authorized_keys"
    authorized_keys: str
    only: tuple[str, ...]
    """Lines of authorized_keys."""
    noted: bool = False

    def want(self, repository: Repository) -> Mapping[str, Want]:
        known = Within(tuple(sorted({fingerprint(key) for line in self.only for key in KEY.findall(line)})))
        return {"command": "none", "added" if self.noted else "keys": known}


class Socket(Entry):
    """A port that somebody listens on, or nobody: ``tcp:22``; with *address*, there and nowhere else."""

    sort = "socket"
    socket: str
    listening: bool = True
    address: str | None = None

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"addresses": (self.address,)} if self.address else {"listening": self.listening}


class Accounts(Entry):
    """All accounts of a server, each with its function, as the server itself knows them; *functions* is JSON."""

    sort = "accounts"
    accounts: Literal["mlflow"]
    functions: Json[Mapping[str, str]]

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"functions": tuple(sorted(f"{name}: {is_}" for name, is_ in self.functions.items()))}


class Hostname(Entry):
    """What the running kernel calls the host."""

    sort = "hostname"
    hostname: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
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

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"value": Between(None, self.below)}


class MountOption(Entry):
    """An option that a mount point has."""

    sort = "mount_option"
    mount_option: str
    at: str

    @property
    def thing(self) -> str:
        return f"mount-option:{self.at}:{self.mount_option}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"set": True}


SORTS: Mapping[str, type[Entry]] = {
    entry.sort: entry
    for entry in (
        *(File, Link, Directory, PresentFile, AbsentFile, Package, Unit, Sysctl, Module, KernelParameter),
        *(Environment, BuiltModule, Library, GpuSetting, Cdi, Image, DkmsTree, Reading, Bridges),
        *(User, Group, AuthorizedKeys, Socket, Accounts, Hostname, Measure, MountOption),
    )
}


def _given(**values: Want | None) -> dict[str, Want]:
    return {name: value for name, value in values.items() if value is not None}
