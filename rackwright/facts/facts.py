"""What a host really is: typed views over what one probe printed.

The raw form is the probe's JSON. Wherever the probe could not look it wrote ``{"unknown": reason}``; reading such a
place, or one that an older probe did not write, raises UnknownFact. So nothing that was not read can pass for empty.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from rackwright.facts.container import CdiSpecification, Image
from rackwright.facts.gpu import AcceleratorUser, Gpu, GpuDriver, Xid
from rackwright.facts.run import Run
from rackwright.facts.server import Server
from rackwright.facts.storage import Array, Credential, CryptMapping, Drive, Filesystem, LuksHeader, Mount
from rackwright.facts.view import Fact, UnknownFact, View, mapping, optional, optional_number, texts

FORMAT = 1


class Identity(View):
    """Which machine this is."""

    serial = Fact(optional, "Chassis serial; None for none or a placeholder.")
    uuid = Fact(optional, "Product UUID; None for none or a placeholder.")
    bmc_mac = Fact(optional)
    device_tree_serial = Fact(optional)
    hostname = Fact(str)
    machine_id = Fact(str)


class Unit(View):
    """A systemd unit as systemd sees it."""

    load = Fact(str, "loaded, masked, not-found, bad-setting.")
    active = Fact(str)
    enabled = Fact(str, "enabled, disabled, masked, static, generated.")


class Directory(View):
    """A directory under the probe's fixed roots, or one of these."""

    mode = Fact(str, "Four octal digits.")
    owner = Fact(str, "user:group by name.")
    mtime_ns = Fact(int)


class File(Directory):
    """A file or link under the probe's fixed roots."""

    digest = Fact(str, "Keyed blake2s of the content; ``-> target`` for a link.")


def _is_link(raw: Any) -> bool:
    return isinstance(raw, Mapping) and str(raw.get("digest")).startswith("-> ")


class Package(View):
    """An installed package."""

    version = Fact(str)
    held = Fact(bool, "Whether the package manager was told to leave it as it is.")


class User(View):
    """A user of the host's own files."""

    name = Fact(str)
    uid = Fact(int)
    gid = Fact(int)
    home = Fact(str)
    shell = Fact(str)
    password = Fact(str, "none (lets in without asking), locked, set.")
    expires = Fact(optional, "The day on which the account ends, as ISO 8601 has it; None where it does not.")
    groups = Fact(texts, "Names of all its groups, sorted.")


class Group(View):
    """A group of the host's own files."""

    gid = Fact(int)
    members = Fact(texts, "Who is listed in it, and whose primary group it is; sorted.")


class LoginKeys(View):
    """How sshd finds the keys of an account."""

    command = Fact(str, "A command that names keys; ``none`` where sshd runs none.")

    @property
    def keys(self) -> frozenset[str]:
        """The fingerprints in all files that sshd reads for the account; a line without a key is one of them.

        Raises:
            UnknownFact: one of the files cannot be read.
        """
        files = View(self.table("files"), f"{self._where}.files")
        return frozenset(key for path in files._raw for key in files.value(path, _optional_texts) or ())

    @property
    def noted(self) -> tuple[str, ...] | None:
        """The keys that role access noted on the host; None where it noted none."""
        return self.value("noted", _optional_texts)


def _optional_texts(raw: Any) -> tuple[str, ...] | None:
    return None if raw is None else texts(raw)


class Socket(View):
    """Where the host waits for others: a listening TCP socket, or a UDP one that is not connected."""

    protocol = Fact(str, "tcp or udp, of IPv4 and IPv6 alike.")
    address = Fact(str, "``0.0.0.0`` and ``::`` for all.")
    port = Fact(int)


class Link(View):
    """A network interface."""

    name = Fact(str)
    kind = Fact(str, "physical, bond, vlan, bridge, loopback, other.")
    mac = Fact(str, "The address of today; members of a bond share one.")
    permanent_mac = Fact(str, "The hardware's own address; of a link without hardware that of today.")
    mtu = Fact(int)
    up = Fact(bool, "Switched on, and with a carrier.")
    carrier = Fact(bool, "There is a signal; not known of what is switched off.")
    addresses = Fact(texts, "Those of global scope, ``192.0.2.11/24``, sorted.")
    master = Fact(optional, "The bond or bridge that it is a port of.")
    slaves = Fact(texts, "The ports of a bond or bridge, sorted.")
    vlan_id = Fact(optional_number, "None for what is no VLAN.")
    parent = Fact(optional, "What a VLAN stands on.")
    pci_address = Fact(optional, "``0000:3b:00.0``; None where it is no PCI function.")
    bond_mode = Fact(optional, "In the kernel's words: 802.3ad, active-backup.")


class Route(View):
    """A way out that somebody or something has set, of the main table."""

    destination = Fact(str, "``198.51.100.0/24`` or default.")
    gateway = Fact(optional, "None where the destination is on the link itself.")
    link = Fact(str)
    metric = Fact(int)


class DeadRoute(View):
    """A route of the main table that leads nowhere."""

    destination = Fact(str)
    kind = Fact(str, "blackhole, unreachable, prohibit.")
    metric = Fact(int)
    gateway = Fact(optional, "None; of IPv6 ``::``, by which its family is known.")


class PeerPath(View):
    """How large a packet passes to a peer's address and back in one piece."""

    asked = Fact(int, "Bytes, as the host was told; no more was tried.")
    passed = Fact(int, "Bytes of the largest that did.")


class AddedModule(View):
    """A module that was added to an installed kernel, by DKMS or by hand."""

    path = Fact(str)
    name = Fact(str, "As the kernel calls it once it is loaded, with ``_`` for ``-``.")
    version = Fact(optional)


class Kernel(View):
    """A kernel that is installed, running or not."""

    bootable = Fact(bool, "Its image is in /boot.")

    @property
    def modules(self) -> tuple[AddedModule, ...]:
        return self.rows("modules", AddedModule, "path")


def _owner_content(value: Any) -> Mapping[str, Any]:
    """Return the content of an owner file, whose values are texts, numbers, or lists of texts.

    Raises:
        TypeError: it has another value.
    """
    for key, item in mapping(value).items():
        if key in ("wrote", "made", "serials", "former") or isinstance(item, list):
            if not isinstance(item, list) or not all(isinstance(text, str) for text in item):
                raise TypeError("no list of texts")
        elif not isinstance(item, str | int | None):
            raise TypeError("no text")
    return mapping(value)


def _lists(raw: Any, where: str) -> Mapping[str, tuple[str, ...]]:
    table = View(raw, where)
    return {name: table.value(name, texts) for name in raw}


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """Return by what releases are put in order: their numbers as numbers."""
    return tuple((int(digits or -1), other) for digits, other in re.findall(r"([0-9]{1,18})|([^0-9]+)", text))


class Facts(View):
    """Everything one probe saw on one host."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw, "facts")

    @property
    def raw(self) -> Mapping[str, Any]:
        return self._raw

    taken_at = Fact(float, "Seconds since 1970 by the host's clock.")

    @cached_property
    def identity(self) -> Identity:
        return Identity(self.read("identity"), "identity")

    @property
    def os(self) -> str:
        """``debian-12``."""
        release = View(self.read("os"), "os")
        return f"{release.read('id')}-{release.read('version_id')}"

    @property
    def memory_bytes(self) -> int:
        return View(self.read("hardware"), "hardware").value("memory_bytes", int)

    @property
    def pci(self) -> tuple[str, ...]:
        """``vendor:device`` of every PCI function, as often as it is there."""
        return View(self.read("hardware"), "hardware").value("pci", texts)

    @cached_property
    def drives(self) -> tuple[Drive, ...]:
        return self.rows("drives", Drive, "name")

    @cached_property
    def arrays(self) -> tuple[Array, ...]:
        return self.rows("arrays", Array, "name")

    @cached_property
    def filesystems(self) -> tuple[Filesystem, ...]:
        return self.rows("filesystems", Filesystem, "device")

    @cached_property
    def mappings(self) -> tuple[CryptMapping, ...]:
        return self.rows("mappings", CryptMapping, "name")

    @cached_property
    def luks_headers(self) -> tuple[LuksHeader, ...]:
        return self.rows("luks_headers", LuksHeader, "device")

    @cached_property
    def mounts(self) -> tuple[Mount, ...]:
        return self.rows("mounts", Mount, "target")

    @cached_property
    def links(self) -> tuple[Link, ...]:
        return self.rows("links", Link, "name")

    @property
    def packages(self) -> Mapping[str, str]:
        """Installed package to version."""
        return self.table("packages")

    @cached_property
    def dead_routes(self) -> tuple[DeadRoute, ...]:
        return self.rows("dead_routes", DeadRoute, "destination")

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        return self.rows("routes", Route, "destination")

    @property
    def gpu_driver(self) -> GpuDriver:
        return GpuDriver(self.read("gpu_driver"), "gpu_driver")

    @cached_property
    def gpus(self) -> tuple[Gpu, ...]:
        """All that NVIDIA's driver knows of; not known where no driver answers."""
        return self.rows("gpus", Gpu, "index")

    @property
    def xids(self) -> tuple[Xid, ...]:
        """The newest errors of GPUs since the kernel was started, the newest last."""
        return self.rows("xids", Xid)

    def cdi(self, kind: str) -> tuple[CdiSpecification, ...]:
        """Return the CDI specifications of this kind of devices; not known where the kind of one is not."""
        found = self.rows("cdi", CdiSpecification, "path")
        return tuple(specification for specification in found if specification.kind == kind)

    def images(self, engine: str) -> tuple[Image, ...]:
        """Return the images that podman or containerd has."""
        return View(self.read("images"), "facts.images").rows(engine, Image)

    @cached_property
    def sockets(self) -> tuple[Socket, ...]:
        return self.rows("sockets", Socket)

    resolvers = Fact(texts, "Nameservers in the order in which they are asked.")
    search_domains = Fact(texts, "Where a name without a dot is looked for, in this order.")
    kernel_parameters = Fact(texts, "Words of the kernel's command line, without the quotes around blanks.")
    boot_id = Fact(str, "What the kernel calls this start of it.")
    tpm = Fact(optional_number, "Version of the TPM; None where there is none.")

    @cached_property
    def users(self) -> tuple[User, ...]:
        return tuple(there for name in self.table("users") if (there := self.user(name)))

    def drive(self, serial: str) -> Drive | None:
        """Return the drive with this serial; None where every drive tells its serial and none has this one."""
        unread = None
        for drive in self.drives:
            try:
                if drive.serial == serial:
                    return drive
            except UnknownFact as reason:
                unread = reason
        if unread:
            raise unread
        return None

    def link(self, name: str) -> Link | None:
        return next((link for link in self.links if link.name == name), None)

    def port(self, mac: str | None, pci: str | None) -> Link | None:
        """Return the port with this hardware address, or in this place; None where every one tells and none is it."""
        unread = None
        for link in self.links:
            try:
                if link.kind in ("physical", "other") and (
                    link.permanent_mac == mac if pci is None else link.pci_address == pci
                ):
                    return link
            except UnknownFact as reason:
                unread = reason
        if unread:
            raise unread
        return None

    def path(self, address: str) -> PeerPath | None:
        """Return the way to a peer's address; None where the host was not told to ask there."""
        raw = self.find("paths", address)
        return None if raw is None else PeerPath(raw, f"facts.paths.{address}")

    def unit(self, name: str) -> Unit | None:
        raw = self.find("units", name)
        return None if raw is None else Unit(raw, f"facts.units.{name}")

    def unit_overrides(self, name: str) -> tuple[str, ...]:
        """Return the files that change what systemd does with a unit, beside its own; drop-ins above all."""
        return texts(self.find("unit_overrides", name) or ())

    def package(self, name: str) -> Package | None:
        """Return an installed package; one of a foreign architecture is called ``name:architecture``."""
        version = self.find("packages", name)
        if version is None:
            return None
        try:
            held: Any = name in self.value("held", texts)
        except UnknownFact as reason:
            held = {"unknown": str(reason)}
        return Package({"version": version, "held": held}, f"facts.packages.{name}")

    def run(self, name: str) -> Run | None:
        """Return a training that was put here; None where none of that name was."""
        raw = self.find("runs", name)
        return None if raw is None else Run(raw, f"facts.runs.{name}")

    def server(self, name: str) -> Server | None:
        """Return a model server that was put here; None where none of that name was."""
        raw = self.find("servers", name)
        return None if raw is None else Server(raw, f"facts.servers.{name}")

    def user(self, name: str) -> User | None:
        raw = self.find("users", name, mapping)
        return None if raw is None else User({"name": name, **raw}, f"facts.users.{name}")

    def login_keys(self, account: str) -> LoginKeys | None:
        """Return how sshd finds keys of *account*; None where there is no such account with a shell."""
        raw = self.find("login_keys", account, mapping)
        return None if raw is None else LoginKeys(raw, f"facts.login_keys.{account}")

    def group(self, name: str) -> Group | None:
        raw = self.find("groups", name)
        return None if raw is None else Group(raw, f"facts.groups.{name}")

    def sysctl(self, key: str) -> str | None:
        """Return a setting of the running kernel, its words one blank apart; None where the kernel has no such one.

        Args:
            key: As sysctl(8) prints it: ``vm.swappiness``, with ``/`` for a dot within a name.
        """
        from rackwright.facts.probe.kernel import SYSCTLS_LEFT_OUT  # here: the package of the probe imports this module

        left_out = self._covers("sysctls_left_out")
        if not set(left_out) <= set(SYSCTLS_LEFT_OUT):  # no expression that a host sends is ever matched
            raise UnknownFact("the probe leaves out settings that this version does not know of")
        if any(re.match(rf"({pattern})(\.|$)", key) for pattern in left_out):
            raise UnknownFact(f"the probe does not look at the setting {key}")
        for end in (found.start() for found in re.finditer(r"\.", key)):
            self.find("sysctls", key[:end])  # a folder that could not be entered is there with the reason
        return optional(self.find("sysctls", key))

    def module(self, name: str) -> bool:
        """Return whether a module is loaded or part of the kernel; ``-`` and ``_`` in names are the same."""
        name = name.replace("-", "_")
        return name in self.value("modules", texts) or name in self.value("modules_builtin", texts)

    def module_version(self, name: str) -> str | None:
        """Return the version of a loaded module, as the kernel shows it; None where it shows none."""
        return optional(self.find("module_versions", name.replace("-", "_")))

    def dkms(self, module: str) -> Mapping[str, tuple[str, ...]]:
        """Return the versions of a module that DKMS has in its tree, each with the kernels that it was built for."""
        return _lists(self.find("dkms", module) or {}, f"facts.dkms.{module}")

    def environment(self, path: str) -> Mapping[str, str] | None:
        """Return the versions of what is installed in an environment of Python of ours; None where there is none."""
        found: Mapping[str, str] | None = self.find("environments", path, mapping)
        return found

    @property
    def tracking_accounts(self) -> Mapping[str, tuple[str, ...]]:
        """What each account of the host's tracking server is there: admin, trainer, reviewer, auditor, serving."""
        return _lists(self.read("tracking_accounts"), "facts.tracking_accounts")

    def reading(self, name: str) -> str | None:
        """Return what a vendor's software says of itself; None where it is not there. See facts/probe/vendors.py."""
        return optional(self.find("readings", name))

    @property
    def accelerator_users(self) -> tuple[AcceleratorUser, ...]:
        """Who has an accelerator of another vendor than NVIDIA open."""
        return self.rows("accelerator_users", AcceleratorUser)

    redirecting_bridges = Fact(texts, "PCI bridges with Access Control Services on, by their addresses.")

    @cached_property
    def kernels(self) -> Mapping[str, Kernel]:
        """The installed kernels, by release."""
        return {release: Kernel(raw, f"facts.kernels.{release}") for release, raw in self.table("kernels").items()}

    def kernels_to_come(self) -> Mapping[str, Kernel]:
        """Return the kernels that the next start may take, by release: the newest installed, and the one that runs."""
        bootable = sorted((release for release, kernel in self.kernels.items() if kernel.bootable), key=natural)
        running = self.sysctl("kernel.osrelease")
        return {release: self.kernels[release] for release in bootable if release in (bootable[-1], running)}

    def library(self, name: str) -> tuple[str, ...]:
        """Return the files to which the dynamic linker's directories lead for a name such as ``libc.so.6``."""
        found: tuple[str, ...] = self.find("libraries", name, texts) or ()
        return found

    def measure(self, name: str) -> float:
        """Return ``chrony.offset_seconds`` or ``chrony.stratum`` at the time of the look."""
        return View(self.read("measures"), "facts.measures").value(name, float)

    def file(self, path: str) -> File | None:
        """Return a file or link below the probe's roots; None where there is no such file."""
        self._look_below_roots(path)
        raw = self.find("files", path)
        return None if raw is None else File(raw, f"facts.files.{path}")

    def directory(self, path: str) -> Directory | None:
        """Return one of the probe's roots or a directory below; None where there is no such directory."""
        self._look_below_roots(path)
        raw = self.find("directories", path)
        if raw is not None:
            return Directory(raw, f"facts.directories.{path}")
        if _is_link(self.find("files", path)):
            raise UnknownFact(f"{path} is a link")
        return None

    def listing(self, path: str) -> tuple[str, ...] | None:
        """Return the names in a directory, sorted; None where there is no such directory."""
        if self.directory(path) is None:
            return None
        self.find("files", path)  # that it could not be entered stands there
        return tuple(sorted(self._names_in.get(path, ())))

    @cached_property
    def _names_in(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for path in {*self.table("files"), *self.table("directories")}:
            folder, _, name = path.rpartition("/")
            found.setdefault(folder, []).append(name)
        return found

    def _look_below_roots(self, path: str) -> None:
        """Raise UnknownFact for a path that the probe has not seen, so that there nothing passes for absent."""
        if not any(path == root or path.startswith(f"{root}/") for root in self._covers("files")):
            raise UnknownFact(f"the probe does not look at {path}")
        for parent in PurePosixPath(path).parents:
            if self.find("files", str(parent)) is not None:
                raise UnknownFact(f"{path} lies behind {parent}, which is a link")

    def luks_copy(self, path: str) -> LuksHeader | None:
        """Return the copy of a LUKS header that is kept there; None where there is none."""
        raw = self.find("luks_copies", path)
        return None if raw is None else LuksHeader(raw, f"facts.luks_copies.{path}")

    def credential(self, path: str) -> Credential | None:
        """Return the key that is sealed there; None where there is none."""
        raw = self.find("credentials", path)
        return None if raw is None else Credential(raw, f"facts.credentials.{path}")

    def text(self, path: str) -> str | None:
        """Return one of the few texts that the probe brings along, passwords masked; None where there is no file."""
        if not any(fnmatch(path, pattern) for pattern in self._covers("texts")):
            raise UnknownFact(f"the probe does not bring the text of {path}")
        return optional(self.find("texts", path))

    def _covers(self, key: str) -> tuple[str, ...]:
        """Return where the probe looked, so that elsewhere nothing passes for absent."""
        return View(self.read("covers"), "facts.covers").value(key, texts)

    def owner(self, name: str) -> Mapping[str, Any] | None:
        """Return the owner file ``/var/lib/rackwright/owners/<name>.json``; None where there is none."""
        raw: Mapping[str, Any] | None = self.find("owners", name, _owner_content)
        return raw

    def initramfs_times(self) -> Iterator[int]:
        """When each initramfs under /boot was written, in nanoseconds since 1970; none where the host boots without."""
        return (view.value("mtime_ns", int) for view in self.rows("initramfs", View))
