"""The paths of a twin: all files are in one directory, except for the sockets."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from rackwright import scratch
from rackwright.errors import Diagnostic, SetupError

SOCKETS = Path("/tmp")
"""Directory with that of this user's sockets."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one twin. *directory* is absolute."""

    directory: Path

    @property
    def runtime(self) -> Path:
        """Directory of the sockets, short since a socket's path has at most 107 bytes.

        The path depends only on the twin's directory and the user. `stop` therefore finds the sockets of `start`
        in any environment.
        """
        return runtime_base() / hashlib.blake2s(os.fsencode(self.directory), digest_size=6).hexdigest()

    @property
    def supervisor_socket(self) -> Path:
        return self.runtime / "supervisor"

    @property
    def switch_socket(self) -> Path:
        return self.runtime / "switch"

    @property
    def switch_limits(self) -> Path:
        """File of the packet limits of the switch's ports; removed together with the switch when the twin stops."""
        return self.runtime / "switch.limits"

    def monitor_socket(self, host: str) -> Path:
        return self.runtime / f"{_short(host)}.qmp"

    def tpm_socket(self, host: str) -> Path:
        return self.runtime / f"{_short(host)}.tpm"

    def power_file(self, host: str) -> Path:
        """File with the id of the process that has switched a container on."""
        return self.runtime / f"{_short(host)}.powered"

    def no_cables(self, host: str) -> Path:
        """File that exists while the network cables of a host are pulled out."""
        return self.runtime / f"{_short(host)}.no-cables"

    @property
    def supervisor_lock(self) -> Path:
        """File with the supervisor's process id, locked while the supervisor runs."""
        return self.directory / "supervisor.lock"

    @property
    def command_lock(self) -> Path:
        """File that a command locks while it changes the twin."""
        return self.directory / "command.lock"

    @property
    def supervisor_log(self) -> Path:
        return self.directory / "supervisor.log"

    @property
    def key(self) -> Path:
        """Private key that logs in to every guest."""
        return self.directory / "key"

    @property
    def endpoints(self) -> Path:
        return self.directory / "endpoints.json"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def disks(self) -> Path:
        return self.directory / "disks"

    def disks_of(self, host: str) -> Path:
        """Directory of all disks of one machine."""
        return self.disks / host

    def disk(self, host: str, serial: str) -> Path:
        return self.disks / host / f"{serial}.raw"

    def boot_disk(self, host: str, serial: str) -> Path:
        """File with a guest's changes to its boot drive, over the image."""
        return self.disks / host / f"{serial}.qcow2"

    def tpm(self, host: str) -> Path:
        """Directory of the state of a TPM; a new directory is a new mainboard."""
        return self.disks / host / "tpm"

    def root_disk(self, host: str) -> Path:
        """Directory of a container's changes to its root filesystem."""
        return self.disks / host / "root"

    def provided_tier(self, host: str, mount: str) -> Path:
        """Directory that holds a provided tier of a container."""
        return self.disks / host / "provided" / mount.strip("/").replace("/", "-")

    def nested_data(self, host: str, name: str) -> Path:
        """Directory that holds /var/lib/*name* of a container which starts containers itself."""
        return self.disks / host / "nested" / name

    def environment(self, host: str) -> Path:
        """Directory of the virtual environment that a container uses, without the packages."""
        return self.host(host) / "environment"

    def hosts(self) -> list[str]:
        """Return the names of all machines that were ever started here."""
        return sorted(path.name for path in self.directory.glob("hosts/*"))

    def host(self, host: str) -> Path:
        """Directory of one machine for all but its disks: identity, settings, logs."""
        return self.directory / "hosts" / host

    def host_key(self, host: str) -> Path:
        return self.host(host) / "ssh_host_ed25519_key"

    def seed(self, host: str) -> Path:
        return self.host(host) / "seed.tar"

    def settings(self, host: str) -> Path:
        """File with the settings that stay over starts: the port, the pulled drives."""
        return self.host(host) / "settings.json"

    def console(self, host: str) -> Path:
        return self.host(host) / "console.log"

    def log(self, host: str) -> Path:
        """File with the output of the process of the host: QEMU, or a container's chassis."""
        return self.host(host) / "process.log"

    def remains_lock(self, host: str) -> Path:
        """File that is locked as long as a process of a container runs or its control group exists."""
        return self.host(host) / "remains.lock"


def _short(host: str) -> str:
    return hashlib.blake2s(host.encode(), digest_size=6).hexdigest()


def runtime_base() -> Path:
    """Return this user's directory for sockets, and make it if it is missing.

    Raises:
        SetupError: Another account could listen in: the directory is not one of this account alone.
    """
    try:
        return scratch.own_directory(SOCKETS)
    except scratch.NotOwn as error:
        problem = f"the directory of the twin's sockets is not private: {error}"
        help = "Find out who created it, and remove it"
        raise SetupError(Diagnostic("this computer", problem, help=help)) from None
