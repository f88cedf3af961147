"""Typed views of the facts that one probe printed about a host.

The raw form is the probe's JSON. The probe writes ``{"unknown": reason}`` for each value that it could not read.
Access to such a value, or to one that an older probe did not write, raises UnknownFact. An unread value therefore
never passes for an empty one.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from rackwright.facts.account_files import HostAccountFiles
from rackwright.facts.boot import HostBoot
from rackwright.facts.complete import reason_incomplete
from rackwright.facts.container import HostContainers
from rackwright.facts.files import HostFiles
from rackwright.facts.gpu import HostAccelerators
from rackwright.facts.integrity import HostIntegrity
from rackwright.facts.inventory import HostInventory
from rackwright.facts.kubernetes import HostKubernetes
from rackwright.facts.log_chain import HostLogChain
from rackwright.facts.network import HostNetwork
from rackwright.facts.nftables import HostNftables
from rackwright.facts.object_store import ObjectStoreFacts
from rackwright.facts.package_database import HostPackageDatabase
from rackwright.facts.run import HostRuns
from rackwright.facts.s3 import EndpointFacts
from rackwright.facts.server import HostServers
from rackwright.facts.service import HostServices
from rackwright.facts.service_state import ServiceCertificateFacts, StateDirectoryFacts
from rackwright.facts.storage import HostStorage
from rackwright.facts.table import keys_starting_with, plain
from rackwright.facts.view import Fact, UnknownFact, View, mapping, optional, optional_flag, optional_number, texts

FORMAT = 1


class IdentityFacts(View):
    """The identity of a machine."""

    serial = Fact(optional, "Chassis serial; None if absent or a placeholder.")
    uuid = Fact(optional, "Product UUID; None if absent or a placeholder.")
    bmc_mac = Fact(optional, "MAC address of the management controller (BMC); None without one, and unknown with one.")
    device_tree_serial = Fact(optional, "Serial in the device tree, of boards without DMI; None without one.")
    hostname = Fact(str, "Host name, without a domain.")
    machine_id = Fact(str, "Content of /etc/machine-id.")


class UnitFacts(View):
    """The state of a systemd unit, as systemd reports it."""

    load = Fact(str, "loaded, masked, not-found, bad-setting.")
    active = Fact(str, "active, inactive, failed, activating, deactivating.")
    enabled = Fact(str, "enabled, disabled, masked, static, generated.")


class PackageFacts(View):
    """An installed package."""

    version = Fact(str, "Installed version.")
    held = Fact(bool, "Whether a hold keeps the package manager from changing it.")


class UserFacts(View):
    """A user in the host's own files, not in a directory service."""

    name = Fact(str, "Name of the account.")
    uid = Fact(int, "Numeric id of the account.")
    gid = Fact(int, "Numeric id of its first group.")
    home = Fact(str, "Home directory.")
    shell = Fact(str, "Program that a login starts.")
    password = Fact(str, "none (login without a password), locked, set.")
    expires = Fact(optional, "Day on which the account expires, in ISO 8601; None for no expiry.")
    groups = Fact(texts, "Names of all its groups, sorted.")


class GroupFacts(View):
    """A group in the host's own files, not in a directory service."""

    gid = Fact(int, "Numeric id of the group.")
    members = Fact(texts, "Names of listed members and of users with this primary group, sorted.")


class FactorFacts(View):
    """The second factor of a person on a host."""

    key = Fact(str, "Keyed digest of the key that the person's authenticator shares.")
    options = Fact(texts, "Options of the PAM module, without its notes.")
    codes = Fact(int, "Number of the emergency codes that are left.")
    other_lines = Fact(int, "Number of lines that are neither.")


class LoginKeys(View):
    """The sources from which sshd reads the keys of an account."""

    command = Fact(str, "Command that prints keys; ``none`` if sshd runs none.")

    @property
    def keys(self) -> frozenset[str]:
        """Fingerprints in all files that sshd reads for the account; a line without a key counts as one.

        Raises:
            UnknownFact: one of the files cannot be read.
        """
        files = View(self.table("files"), f"{self._where}.files")
        return frozenset(key for path in files._raw for key in files.value(path, _optional_texts) or ())

    @property
    def files(self) -> Mapping[str, Any]:
        """Files from which sshd reads the keys of the account, each with its fingerprints or None."""
        return self.table("files")

    @property
    def authorities(self) -> Mapping[str, tuple[str, ...]]:
        """Keys of the authorities whose certificates sshd accepts for the account, by the file that names them."""
        return _text_lists(self.read("authorities"), f"{self._where}.authorities")

    principals_command = Fact(str, "Command that prints names of certificates; ``none`` if sshd runs none.")
    methods = Fact(texts, "Ways to log in, such as ``publickey``, each with all its methods; empty for any method.")

    @property
    def principals(self) -> Mapping[str, tuple[str, ...]]:
        """Names that certificates may have for the account, by the file with them; empty if its own name is the one."""
        return _text_lists(self.read("principals"), f"{self._where}.principals")

    @property
    def original_keys(self) -> tuple[str, ...] | None:
        """Recorded keys that the login had before role access was first applied; None without a record."""
        return self.value("noted", _optional_texts)


def _optional_texts(raw: Any) -> tuple[str, ...] | None:
    return None if raw is None else texts(raw)


class AddedModule(View):
    """A module that DKMS or a person added to an installed kernel."""

    path = Fact(str, "Path of the file.")
    name = Fact(str, "Name of the loaded module in the kernel, with ``_`` for ``-``.")
    version = Fact(optional, "Version that the module states; None if it states none.")
    signed = Fact(optional_flag, "Whether its file ends with a signature; None on a host without Secure Boot.")


class Kernel(View):
    """An installed kernel, running or not."""

    bootable = Fact(bool, "Whether its image is in /boot.")

    @property
    def modules(self) -> tuple[AddedModule, ...]:
        return self.rows("modules", AddedModule, "path")


def _owner_content(value: Any) -> Mapping[str, Any]:
    """Return the content of an owner file, whose values are strings, integers, or lists of strings.

    Raises:
        TypeError: a value has another type.
    """
    for key, item in mapping(value).items():
        if key in ("wrote", "made", "serials", "former") or isinstance(item, list):
            if not isinstance(item, list) or not all(isinstance(text, str) for text in item):
                raise TypeError("no list of texts")
        elif not isinstance(item, str | int | None):
            raise TypeError("no text")
    return mapping(value)


def _text_lists(raw: Any, where: str) -> Mapping[str, tuple[str, ...]]:
    table = View(raw, where)
    return {name: table.value(name, texts) for name in raw}


def natural_key(text: str) -> tuple[tuple[int, str], ...]:
    """Return the sort key of a release, which compares its numbers as numbers."""
    return tuple((int(digits or -1), other) for digits, other in re.findall(r"([0-9]{1,18})|([^0-9]+)", text))


class Facts(
    HostStorage,
    HostAccelerators,
    HostContainers,
    HostFiles,
    HostIntegrity,
    HostInventory,
    HostKubernetes,
    HostLogChain,
    HostNetwork,
    HostNftables,
    HostAccountFiles,
    HostBoot,
    HostPackageDatabase,
    HostRuns,
    HostServers,
    HostServices,
    EndpointFacts,
):
    """All facts of one host or endpoint. Each base class has those of its module's topic; others are unknown."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw, "facts")

    def read(self, key: str) -> Any:
        """Return the raw value under *key*, or raise UnknownFact; an incomplete list is unknown."""
        value = super().read(key)
        if reason := reason_incomplete(key, value):
            raise UnknownFact(f"{self._where}.{key}: {reason}")
        return value

    @cached_property
    def raw(self) -> Mapping[str, Any]:
        """All facts as plain data."""
        return plain(self._raw)

    taken_at = Fact(float, "Time of the observation in seconds since 1970, by the host's clock.")
    finished_at = Fact(float, "Time of its end in seconds since 1970, by the host's clock.")
    clock_offset_seconds = Fact(float, "Least offset of the host's clock from the caller's; negative if it is behind.")

    @property
    def proofs(self) -> tuple[tuple[str, str], ...]:
        """Texts about the host's identity, each with its signature by one of the host's SSH keys."""
        return tuple((row.value("text", str), row.value("signature", str)) for row in self.rows("proofs", View))

    @cached_property
    def identity(self) -> IdentityFacts:
        return IdentityFacts(self.read("identity"), "identity")

    @property
    def os(self) -> str:
        """Operating system and release: ``debian-12``."""
        release = View(self.read("os"), "os")
        return f"{release.read('id')}-{release.read('version_id')}"

    @property
    def memory_bytes(self) -> int:
        return View(self.read("hardware"), "hardware").value("memory_bytes", int)

    @property
    def pci(self) -> tuple[str, ...]:
        """``vendor:device`` of every PCI function; equal functions are repeated."""
        return View(self.read("hardware"), "hardware").value("pci", texts)

    @property
    def packages(self) -> Mapping[str, str]:
        """Version of each installed package."""
        return self.table("packages")

    def packages_starting_with(self, *prefixes: str) -> Mapping[str, str]:
        """Return the versions of the installed packages whose names start with one of *prefixes*."""
        packages = self.packages
        return {name: packages[name] for name in keys_starting_with(packages, *prefixes)}

    kernel_parameters = Fact(texts, "Words of the kernel's command line, without quotes.")
    boot_id = Fact(str, "The kernel's identifier of the current boot.")
    tpm = Fact(optional_number, "Version of the TPM; None without a TPM.")

    @property
    def held_packages(self) -> tuple[str, ...]:
        """Installed packages with a hold of the package manager."""
        return self.value("held", texts)

    @cached_property
    def users(self) -> tuple[UserFacts, ...]:
        return tuple(user for name in self.table("users") if (user := self.user(name)))

    def unit(self, name: str) -> UnitFacts | None:
        return self.entry("units", name, UnitFacts)

    def unit_overrides(self, name: str) -> tuple[str, ...]:
        """Return the files that change the behaviour of a unit, beside its own file; most are drop-ins."""
        return texts(self.find("unit_overrides", name) or ())

    def package(self, name: str) -> PackageFacts | None:
        """Return an installed package; the name of a foreign one is ``name:architecture``. None if not installed."""
        version = self.find("packages", name)
        if version is None:
            return None
        try:
            is_held: Any = name in self.value("held", texts)
        except UnknownFact as reason:
            is_held = {"unknown": str(reason)}
        return PackageFacts({"version": version, "held": is_held}, f"facts.packages.{name}")

    def user(self, name: str) -> UserFacts | None:
        raw = self.find("users", name, mapping)
        return None if raw is None else UserFacts({"name": name, **raw}, f"facts.users.{name}")

    @property
    def login_accounts(self) -> tuple[str, ...]:
        """Accounts whose shell allows a login."""
        return tuple(self.table("login_keys"))

    def login_keys(self, account: str) -> LoginKeys | None:
        """Return the key sources of *account*; None if the host has no such account with a shell."""
        raw = self.find("login_keys", account, mapping)
        return None if raw is None else LoginKeys(raw, f"facts.login_keys.{account}")

    def factor(self, person: str) -> "FactorFacts | None":
        """Return what the host knows of a person's second factor; None if it has none."""
        return self.entry("factors", person, FactorFacts)

    def group(self, name: str) -> GroupFacts | None:
        return self.entry("groups", name, GroupFacts)

    def sysctl(self, key: str) -> str | None:
        """Return a kernel setting with single spaces between words; None if the running kernel has no such setting.

        Args:
            key: Name as sysctl(8) prints it: ``vm.swappiness``, with ``/`` for a dot within a name.
        """
        from rackwright.facts.probe.kernel import (
            SYSCTLS_LEFT_OUT,
        )  # imported here because the probe package imports this module

        left_out = self._covers("sysctls_left_out")
        if not set(left_out) <= set(SYSCTLS_LEFT_OUT):  # a regular expression from a host is never evaluated
            raise UnknownFact("the probe leaves out settings that this version does not know")
        if any(re.match(rf"({pattern})(\.|$)", key) for pattern in left_out):
            raise UnknownFact(f"the probe does not read the setting {key}")
        for position in (dot.start() for dot in re.finditer(r"\.", key)):
            self.find("sysctls", key[:position])  # an unreadable folder is an entry of its own, with the reason
        return optional(self.find("sysctls", key))

    def module(self, name: str) -> bool:
        """Return whether a module is loaded or built in; ``-`` and ``_`` in names are equal."""
        name = name.replace("-", "_")
        return name in self.value("modules", texts) or name in self.value("modules_builtin", texts)

    def module_version(self, name: str) -> str | None:
        """Return the version of a loaded module that the kernel shows; None if it shows none."""
        return optional(self.find("module_versions", name.replace("-", "_")))

    def dkms(self, module: str) -> Mapping[str, tuple[str, ...]]:
        """Return the versions of a module in the tree of DKMS, each with the kernels that it is built for."""
        return _text_lists(self.find("dkms", module) or {}, f"facts.dkms.{module}")

    def environment(self, path: str) -> Mapping[str, str] | None:
        """Return package versions in a Python environment that rackwright manages; None if there is none at *path*."""
        versions: Mapping[str, str] | None = self.find("environments", path, mapping)
        return versions

    def other_environment(self, path: str) -> tuple[str, ...]:
        """Return what is odd in a Python environment of a server or run that no role made, one of the table's keys."""
        odd: tuple[str, ...] | None = self.find("other_environments", path, texts)
        return odd or ()

    def environment_files(self, path: str) -> tuple[str, ...] | None:
        """Return what is odd in the files of a managed Python environment; None if there is none at *path*."""
        odd: tuple[str, ...] | None = self.find("environment_files", path, texts)
        return odd

    @property
    def tracking_accounts(self) -> Mapping[str, tuple[str, ...]]:
        """Roles of each account of the host's tracking server: admin, trainer, reviewer, auditor, serving."""
        return _text_lists(self.read("tracking_accounts"), "facts.tracking_accounts")

    @property
    def tracking_rights(self) -> Mapping[str, tuple[str, ...]]:
        """Rights in the database of the host's tracking server, by ``role NAME`` and ``account NAME``."""
        return _text_lists(self.read("tracking_rights"), "facts.tracking_rights")

    def state_directory(self, path: str) -> StateDirectoryFacts | None:
        """Return a directory that a unit of a role may write to; None if it does not exist, or no unit names it."""
        return self.entry("state_directories", path, StateDirectoryFacts)

    def service_variables(self, path: str) -> tuple[str, ...] | None:
        """Return the names of the variables in a file of a role in /etc/rackwright; None without the file."""
        names: tuple[str, ...] | None = self.find("service_variables", path, texts)
        return names

    def service_certificate(self, path: str) -> ServiceCertificateFacts | None:
        """Return the certificate of a role's service; None without the file."""
        return self.entry("service_certificates", path, ServiceCertificateFacts)

    @cached_property
    def object_store(self) -> ObjectStoreFacts | None:
        """The part of an object store on this host; None without one."""
        raw = self.table("object_store")
        return ObjectStoreFacts(raw, "facts.object_store") if raw else None

    def reading(self, name: str) -> str | None:
        """Return a value that a vendor's software reports; None if it is absent. See facts/probe/vendors.py."""
        return optional(self.find("readings", name))

    redirecting_bridges = Fact(texts, "Addresses of PCI bridges with active Access Control Services.")

    secure_boot = Fact(optional_flag, "Whether the firmware loads only signed programs; None without the setting.")

    @cached_property
    def kernels(self) -> Mapping[str, Kernel]:
        """Installed kernels, by release."""
        return {release: Kernel(raw, f"facts.kernels.{release}") for release, raw in self.table("kernels").items()}

    def next_kernels(self) -> Mapping[str, Kernel]:
        """Return the kernels that the next boot may start, by release: the newest installed one and the running one."""
        bootable = sorted((release for release, kernel in self.kernels.items() if kernel.bootable), key=natural_key)
        running = self.sysctl("kernel.osrelease")
        return {release: self.kernels[release] for release in bootable if release in (bootable[-1], running)}

    def library(self, name: str) -> tuple[str, ...]:
        """Return the files that the dynamic linker can find for a name such as ``libc.so.6``."""
        paths: tuple[str, ...] = self.find("libraries", name, texts) or ()
        return paths

    def measure(self, name: str) -> float:
        """Return a measured value: ``chrony.offset_seconds``, ``chrony.stratum``, ``kubernetes.snapshot_age_hours``."""
        return View(self.read("measures"), "facts.measures").value(name, float)

    def owner(self, name: str) -> Mapping[str, Any] | None:
        """Return the owner file ``/var/lib/rackwright/owners/<name>.json``; None if there is none."""
        raw: Mapping[str, Any] | None = self.find("owners", name, _owner_content)
        return raw

    def initramfs_times(self) -> Iterator[int]:
        """Yield when each initramfs in /boot was written, in nanoseconds since 1970; nothing if the host has none."""
        return (view.value("mtime_ns", int) for view in self.rows("initramfs", View))
