"""The identity of a guest: keys made on this computer, so that they are pinned before the first connection."""

import hashlib
import io
import tarfile
from pathlib import Path

from rackwright.files import write_atomic
from rackwright.twin.backend import Machine
from rackwright.twin.layout import Layout
from rackwright.twin.mirrors import mirror_proxies
from rackwright.twin.vm.machine import MANAGEMENT_MAC

USER = "rackwright"
_USER_ID = 1000
"""User id of *USER* in the image, whose first and only login account it is."""

_MANAGEMENT_NETWORK = """\
[Match]
Name=management

[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
DNS=10.0.2.3
LinkLocalAddressing=no
IPv6AcceptRA=no
"""
"""Network file for the management NIC, with the addresses of QEMU's user network."""


def ensure_key(path: Path, comment: str) -> str:
    """Return the public half of the ed25519 key at *path* as a line of OpenSSH, and make the key if it is missing."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
        load_ssh_private_key,
    )

    if path.exists():
        key = load_ssh_private_key(path.read_bytes(), password=None)
    else:
        key = Ed25519PrivateKey.generate()
        write_atomic(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), mode=0o600)
    return f"{key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}"


def known_hosts_line(port: int, public_key: str) -> str:
    """Return the line of known_hosts for a guest that answers on *port* of this computer."""
    return f"[127.0.0.1]:{port} {' '.join(public_key.split()[:2])}\n"


def write_seed(machine: Machine, layout: Layout) -> None:
    """Write the archive from which *machine* takes its identity: `etc` and `home` once, `run` at each boot.

    A container needs only its machine id in `run`, since its NICs already have their names.
    """
    login = ensure_key(layout.key, "twin")
    host_key = layout.host_key(machine.name)
    public = ensure_key(host_key, machine.name)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for directory in ("run", "etc", "home"):
            _add(tar, directory, None, mode=0o755)
        _add(tar, "run/twin-machine-id", f"{machine_id(machine)}\n")
        for path, content in network_files(machine).items():
            _add(tar, f"run/systemd/network/{path}", content)
        _add(tar, "etc/hostname", f"{machine.name}\n")
        _add(tar, "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n{_names_of_mirrors(machine)}")
        if machine.mirrors:
            _add(tar, "etc/apt/sources.list.d/twin.list", "".join(f"{line}\n" for line in machine.mirrors))
        _add(tar, f"etc/ssh/{host_key.name}", host_key.read_text(), mode=0o600)
        _add(tar, f"etc/ssh/{host_key.name}.pub", f"{public}\n")
        home = f"home/{USER}/.ssh"
        _add(tar, home, None, mode=0o700, owner=_USER_ID)
        _add(tar, f"{home}/authorized_keys", f"{login}\n", mode=0o600, owner=_USER_ID)
    write_atomic(layout.seed(machine.name), archive.getvalue(), mode=0o600)


def _names_of_mirrors(machine: Machine) -> str:
    """Return the lines of hosts(5) for a container's mirrors. A virtual machine has a network of its own."""
    if machine.backend != "container":
        return ""
    return "".join(
        f"{address} {host}\n"
        for address, host in {proxy.address: proxy.host for proxy in mirror_proxies(machine.mirrors)}.items()
    )


def machine_id(machine: Machine) -> str:
    """Return the machine id of *machine*, which is the same after each reset, like the chassis."""
    return hashlib.blake2s(f"{machine.name}\0{machine.serial}".encode(), digest_size=16).hexdigest()


def network_files(machine: Machine) -> dict[str, str]:
    """Return systemd's network files that name each NIC as declared, and set up the management network.

    `Type=ether` excludes VLANs, which have the address of their NIC and names of their own.
    """
    names = {MANAGEMENT_MAC: "management"} | {nic.mac: nic.name for nic in machine.nics}
    links = {
        f"10-{name}.link": f"[Match]\nMACAddress={mac}\nType=ether\n\n[Link]\nName={name}\n"
        for mac, name in names.items()
    }
    return links | {"10-management.network": _MANAGEMENT_NETWORK}


def _add(tar: tarfile.TarFile, path: str, content: str | None, mode: int = 0o644, owner: int = 0) -> None:
    entry = tarfile.TarInfo(path)
    entry.mode, entry.uid, entry.gid = mode, owner, owner
    if content is None:
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    else:
        data = content.encode()
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
