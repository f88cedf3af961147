"""Where a twin keeps its things: all of them in one directory, but for the sockets."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from rackwright.errors import SetupError


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one twin. *directory* is absolute."""

    directory: Path

    @property
    def runtime(self) -> Path:
        """The directory of the sockets, short since a socket's path has at most 107 bytes.

        It depends on nothing but the twin's directory and the user: whatever environment `stop` runs in,
        it finds what `start` has left.
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
        """What the switch's ports do not take; gone when the twin is stopped, with the switch."""
        return self.runtime / "switch.limits"

    def monitor_socket(self, host: str) -> Path:
        return self.runtime / f"{_short(host)}.qmp"

    def tpm_socket(self, host: str) -> Path:
        return self.runtime / f"{_short(host)}.tpm"

    def powered(self, host: str) -> Path:
        """The process that has switched a container on."""
        return self.runtime / f"{_short(host)}.powered"

    @property
    def supervisor_lock(self) -> Path:
        """Locked while a supervisor lives; holds its process id."""
        return self.directory / "supervisor.lock"

    @property
    def command_lock(self) -> Path:
        """Locked by the command that is changing the twin."""
        return self.directory / "command.lock"

    @property
    def supervisor_log(self) -> Path:
        return self.directory / "supervisor.log"

    @property
    def key(self) -> Path:
        """The private key that every guest lets in."""
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

    def disk(self, host: str, serial: str) -> Path:
        return self.disks / host / f"{serial}.raw"

    def boot_disk(self, host: str, serial: str) -> Path:
        """What a guest has changed on its boot drive, over the image."""
        return self.disks / host / f"{serial}.qcow2"

    def tpm(self, host: str) -> Path:
        """The directory of what a TPM keeps: another one is another mainboard."""
        return self.disks / host / "tpm"

    def root_disk(self, host: str) -> Path:
        """What a container has changed of its root filesystem."""
        return self.disks / host / "root"

    def provided(self, host: str, mount: str) -> Path:
        """What a container has of a tier that somebody else provides."""
        return self.disks / host / "provided" / mount.strip("/").replace("/", "-")

    def environment(self, host: str) -> Path:
        """What a container has as its own of the virtual environment that it is lent: all but the packages."""
        return self.host(host) / "environment"

    def hosts(self) -> list[str]:
        """Return the names of all machines that were ever started here."""
        return sorted(path.name for path in self.directory.glob("hosts/*"))

    def host(self, host: str) -> Path:
        """What belongs to one machine and is no disk: identity, settings, logs."""
        return self.directory / "hosts" / host

    def host_key(self, host: str) -> Path:
        return self.host(host) / "ssh_host_ed25519_key"

    def seed(self, host: str) -> Path:
        return self.host(host) / "seed.tar"

    def settings(self, host: str) -> Path:
        """What outlives a start: the port, the drives that are pulled."""
        return self.host(host) / "settings.json"

    def console(self, host: str) -> Path:
        return self.host(host) / "console.log"

    def log(self, host: str) -> Path:
        """What the process said that is the host: QEMU, or a container's chassis."""
        return self.host(host) / "process.log"

    def remains(self, host: str) -> Path:
        """Locked as long as anything of a container lives."""
        return self.host(host) / "remains.lock"


def _short(host: str) -> str:
    return hashlib.blake2s(host.encode(), digest_size=6).hexdigest()


def runtime_base() -> Path:
    """Return this user's directory for sockets, made if missing.

    Raises:
        SetupError: Somebody else made it, who could then listen in.
    """
    base = Path(f"/tmp/rackwright-{os.getuid()}")
    base.mkdir(mode=0o700, exist_ok=True)
    if base.is_symlink() or base.stat().st_uid != os.getuid():
        raise SetupError(
            str(base), "it belongs to somebody else", "the twin's sockets need a directory of their own", "Remove it"
        )
    return base
