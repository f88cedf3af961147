"""Views of what a host has beside its packages: archives, rules of rights, schedules, listeners, containers."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from rackwright.facts.table import Table
from rackwright.facts.view import Fact, View, optional, optional_number, texts


class ListenerFacts(View):
    """A listening TCP socket, or a UDP socket that is not connected, with the processes behind it."""

    protocol = Fact(str, "tcp or udp, for both IPv4 and IPv6.")
    address = Fact(str, "Local address; ``0.0.0.0`` and ``::`` stand for all.")
    port = Fact(int, "Port number.")
    programs = Fact(texts, "Paths of the programs, sorted; empty for a socket of the kernel.")
    units = Fact(texts, "systemd units of the processes, sorted.")


class ArchiveFacts(View):
    """An archive from which apt installs packages."""

    path = Fact(str, "File that lists the archive.")
    uri = Fact(str, "URI, with ``***`` in the place of a password.")
    suite = Fact(str, "Suite: bookworm, bookworm-security.")
    key = Fact(optional, "File of the key that signs it, or ``inline``; None if any trusted key will do.")
    unchecked = Fact(bool, "Whether apt installs from it without a signature.")


class ContainerFacts(View):
    """A container of an engine, running or not."""

    name = Fact(str, "Name that the engine shows.")
    image = Fact(str, "Image that it was made from.")


def _has_plain_mode(entry: Any) -> bool:
    return type(entry) is dict and str(entry.get("mode")).startswith("0")


TRANSIENT = "transient"
"""State of a unit without a file, which a program has started."""
HAS_FILE, PLAIN_MODE = re.compile(rb'"enabled":"(?!transient")'), re.compile(rb'"mode":"0')
"""The JSON of most units and files, which is not worth decoding."""


def _has_no_file(raw: Any) -> bool:
    return not isinstance(raw, dict) or raw.get("enabled", TRANSIENT) == TRANSIENT


def top_of(path: str) -> str:
    """Return the first two parts of a path: ``/etc/apt`` of ``/etc/apt/apt.conf.d/x``."""
    return "/".join(path.split("/", 3)[:3])


class NfsExport(View):
    """A directory that the host offers to other machines over NFS."""

    path = Fact(str, "File that names the directory; that of the running server for one without a line elsewhere.")
    directory = Fact(str, "Shared directory.")
    clients = Fact(texts, "Machines and their options, as in exports(5).")


class SudoFileFacts(View):
    """How sudo reads a file of its configuration."""

    ignored = Fact(optional, "Why sudo ignores the file, as a noun; None if it reads the file.")
    settings = Fact(texts, "Its settings: lines that begin with Defaults.")


class TrialFacts(View):
    """A change that the host takes back by itself unless a new login comes in time."""

    state = Fact(str, "waiting, undoing, confirmed, or left: only its earlier files are there.")
    until = Fact(optional_number, "Time at which the host takes it back, in seconds since 1970; None without a record.")
    boot = Fact(optional, "Id of the boot in which that time was set; None without a record.")
    service = Fact(optional, "Text of the service that takes it back; None without one.")
    timer = Fact(optional, "Text of its timer; None without one.")
    deadline = Fact(optional, "Text with the time for this boot; None without one.")


class HostInventory(View):
    """The things of a host that its packages did not bring."""

    unpackaged = Fact(texts, "Paths in /etc and in the folders of units and keys that no package installed.")
    shadowing_programs = Fact(texts, "Programs in /usr/local that are found before one of the system of the same name.")
    base_programs = Fact(texts, "Listening programs of packages that every system of the distribution has.")
    at_jobs = Fact(texts, "Waiting jobs of at.")
    lingering = Fact(texts, "Accounts whose own units start at boot.")
    pam_profile_modules = Fact(texts, "PAM modules that packages offer to pam-auth-update.")

    @cached_property
    def unpackaged_by_top(self) -> Mapping[str, Sequence[str]]:
        """The same paths by their first two directories, such as ``/etc/apt``: a rule looks at few of them."""
        paths: dict[str, list[str]] = {}
        for path in self.unpackaged:
            paths.setdefault(top_of(path), []).append(path)
        return paths

    @cached_property
    def special_files(self) -> Mapping[str, Any]:
        """The files with rights beyond those of permissions, and the places without an answer: few of thousands."""
        files = self.table("files")
        if isinstance(files, Table):
            files = files.without(PLAIN_MODE)  # nearly all: to decode them would take ten times as long
        return {path: entry for path, entry in files.items() if not _has_plain_mode(entry)}

    @cached_property
    def units_without_file(self) -> Mapping[str, Any]:
        """The units without a file, and the entries without a state at boot: few of hundreds."""
        units = self.table("units")
        if isinstance(units, Table):
            units = units.without(HAS_FILE)
        return {name: raw for name, raw in units.items() if _has_no_file(raw)}

    @cached_property
    def unread_folders(self) -> Mapping[str, str]:
        """The places in /etc of which the probe lists no files, each with the reason: a foreign owner, or a mount."""
        return {
            path: str(entry["unknown"])
            for path, entry in self.special_files.items()
            if path.startswith("/etc/") and isinstance(entry, dict) and entry.keys() == {"unknown"}
        }

    @cached_property
    def trials(self) -> Mapping[str, TrialFacts]:
        """The changes on trial, by name."""
        table = self.table("trials")
        return {name: TrialFacts(View(table, "facts.trials").read(name), f"facts.trials.{name}") for name in table}

    def is_recorded_step(self, unit: str) -> bool:
        """Return whether rackwright has recorded the transient *unit*, and systemd runs the recorded command in it."""
        return self.find("step_units", unit) is True

    @property
    def changed_conffiles(self) -> Mapping[str, Any]:
        """Configuration files that differ from their packages, each ``changed``, ``missing`` or ``link``."""
        return self.table("changed_conffiles")

    @property
    def foreign_packages(self) -> Mapping[str, str]:
        """Installed packages that no archive of the distribution has, with their origin; empty for none."""
        return self.table("foreign_packages")

    @cached_property
    def archives(self) -> tuple[ArchiveFacts, ...]:
        return self.rows("archives", ArchiveFacts, "path")

    @property
    def nfs_exports(self) -> tuple[NfsExport, ...]:
        return self.rows("nfs_exports", NfsExport, "directory")

    @cached_property
    def listeners(self) -> tuple[ListenerFacts, ...]:
        return self.rows("listeners", ListenerFacts)

    def containers(self, engine: str) -> tuple[ContainerFacts, ...]:
        """Return the containers of an engine: podman, docker or containerd."""
        return View(self.read("containers"), "facts.containers").rows(engine, ContainerFacts)

    def sudo_rules(self) -> Mapping[str, tuple[str, ...]]:
        """Return the rules of sudo by file."""
        return self._text_lists("sudoers")

    def sudo_file(self, path: str) -> SudoFileFacts | None:
        """Return how sudo reads a file; None if it has no such file, or if an earlier probe did not look."""
        return self.entry("sudo_settings", path, SudoFileFacts) if self.has("sudo_settings") else None

    def pam_modules(self) -> Mapping[str, tuple[str, ...]]:
        """Return the PAM modules of each service's file."""
        return self._text_lists("pam_modules")

    def user_units(self) -> Mapping[str, tuple[str, ...]]:
        """Return the files of the accounts' own systemd units, by account."""
        return self._text_lists("user_units")

    def grub_parameters(self) -> Mapping[str, tuple[str, ...]]:
        """Return the kernel parameters of each configuration file of GRUB."""
        return self._text_lists("grub_parameters")

    def kernel_names(self) -> Mapping[str, tuple[str, ...]]:
        """Return the devices that files of the system name as the kernel does, such as ``/dev/sda1``, by file."""
        return self._text_lists("kernel_names")

    def crontabs(self) -> Mapping[str, int]:
        """Return the number of commands in each account's crontab."""
        table = View(self.table("crontabs"), "facts.crontabs")
        return {name: table.value(name, int) for name in table._raw}

    def module_taints(self) -> Mapping[str, str]:
        """Return the flags of each loaded module that taints the kernel, such as ``OE``."""
        table = View(self.table("module_taints"), "facts.module_taints")
        return {name: table.value(name, str) for name in table._raw}

    def _text_lists(self, key: str) -> Mapping[str, tuple[str, ...]]:
        table = View(self.table(key), f"facts.{key}")
        return {name: table.value(name, texts) for name in table._raw}
