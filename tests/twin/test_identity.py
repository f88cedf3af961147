"""The archive from which a guest takes its identity."""

import io
import tarfile
from dataclasses import replace

from rackwright.twin.identity import ensure_key, known_hosts_line, machine_id, write_seed
from tests.twin.conftest import container, machine


def seed(layout, one):
    """Return the seed of machine *one*: mode, owner and text by path."""
    write_seed(one, layout)
    with tarfile.open(fileobj=io.BytesIO(layout.seed(one.name).read_bytes())) as tar:
        files = {entry: tar.extractfile(entry) for entry in tar}
        return {entry.name: (entry.mode, entry.uid, file and file.read().decode()) for entry, file in files.items()}


def test_known_hosts_has_the_host_key_that_the_guest_gets(layout):
    """
    A reader of known_hosts trusts the right machine before its first start.
    """
    one = machine(1)
    entries = seed(layout, one)
    public = ensure_key(layout.host_key(one.name), one.name)

    assert entries["etc/ssh/ssh_host_ed25519_key"][0] == 0o600
    assert entries["etc/ssh/ssh_host_ed25519_key"][2] == layout.host_key(one.name).read_text()
    assert known_hosts_line(2222, public) == f"[127.0.0.1]:2222 {' '.join(public.split()[:2])}\n"


def test_only_the_key_of_the_twin_logs_in(layout):
    """
    The seed has one key, of the unprivileged user, with the file modes that sshd requires.
    """
    entries = seed(layout, machine(1))
    mode, owner, keys = entries["home/rackwright/.ssh/authorized_keys"]

    assert (mode, owner, keys) == (0o600, 1000, ensure_key(layout.key, "twin") + "\n")
    assert entries["home/rackwright/.ssh"][:2] == (0o700, 1000)
    assert layout.key.stat().st_mode & 0o777 == 0o600


def test_keys_survive_a_second_start(layout):
    """
    A second start changes no identity, so known_hosts stays valid.
    """
    assert seed(layout, machine(1)) == seed(layout, machine(1))


def test_two_machines_share_no_id_and_no_key(layout):
    """
    Two machines have different ids and host keys.
    """
    assert machine_id(machine(1)) != machine_id(machine(2))
    assert ensure_key(layout.host_key("a"), "") != ensure_key(layout.host_key("b"), "")


def test_nics_are_named_by_their_address(layout):
    """
    NICs have their declared names, and a VLAN on a NIC does not. The files are in memory, new at each boot.
    """
    entries = seed(layout, machine(1))

    assert entries["run/systemd/network/10-rack0.link"][2] == (
        "[Match]\nMACAddress=52:54:00:01:00:01\nType=ether\n\n[Link]\nName=rack0\n"
    )


def test_only_a_host_with_mirrors_has_package_sources(layout):
    """
    A container resolves each mirror's name to its proxy; a virtual machine has a network of its own.
    """
    sources = ("deb [a=b] http://one.example/debian bookworm main",)
    for one, host in ((machine(1), ""), (container(2), "127.0.2.1 one.example\n")):
        entries = seed(layout, replace(one, mirrors=sources))
        assert entries["etc/apt/sources.list.d/twin.list"][2] == f"{sources[0]}\n"
        assert entries["etc/hosts"][2].endswith(f"127.0.1.1 {one.name}\n{host}")
        assert "etc/apt/sources.list.d/twin.list" not in seed(layout, one)
