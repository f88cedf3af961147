"""Hosts that are namespaces of this one's kernel, on one switch: each has processes, a NIC and an sshd of its own.

Nothing of them is seen from outside, and all of it ends with their first processes. Only root makes them.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.training_runs import ROOT

NIC = "fabric0"
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
SSHD_CONFIG = """\
HostKey {directory}/key
AuthorizedKeysFile {directory}/key.pub
PidFile none
PermitRootLogin prohibit-password
StrictModes no
"""
SSH_COMMAND = """\
#!/bin/sh
exec /usr/bin/ssh -i {directory}/key -o IdentitiesOnly=yes -o UserKnownHostsFile={directory}/known_hosts \\
    -o LogLevel=ERROR -o ServerAliveInterval=3 -o ServerAliveCountMax=2 "$@"
"""
"""As templates/training_run has it; with the keys of these hosts."""


class Network:
    """Hosts by number, from 1."""

    def __init__(self, directory: Path, holders: Sequence[int], switch: int) -> None:
        self.commands = directory
        """A directory for PATH: its ``ssh`` reaches the hosts."""
        self._holders, self._switch = holders, switch

    @staticmethod
    def address(number: int) -> str:
        return f"198.51.100.{number}"

    def inside(self, number: int, *argv: str) -> list[str]:
        """Return the command that runs *argv* on a host, in the checkout."""
        return inside(self._holders[number - 1], *argv)

    def cut(self, number: int) -> None:
        """Take a host off the switch. Whoever waits for it hears nothing: no end of a connection, no refusal."""
        _ip(self._switch, f"link set port{number} down")


@contextmanager
def network(directory: Path, hosts: int) -> Iterator[Network]:
    """Have so many hosts, and end all that runs on them."""
    holders: list[subprocess.Popen[str]] = []
    try:
        holders.extend(_holder() for _ in range(hosts + 1))
        switch, *others = (_first(holder) for holder in holders)
        _ip(switch, "link add switch up type bridge")
        _keys(directory)
        for number, host in enumerate(others, 1):
            _ip(switch, f"link add port{number} type veth peer name {NIC} netns {host}")
            _ip(switch, f"link set port{number} master switch up")
            _ip(host, f"address add {Network.address(number)}/24 dev {NIC}")
            for nic in ("lo", NIC):
                _ip(host, f"link set {nic} up")
            subprocess.run(inside(host, str(SSHD), "-f", str(directory / "sshd_config")), check=True)
        yield Network(directory, others, switch)
    finally:
        for holder in holders:
            holder.kill()  # the first process of its host: the kernel ends the others
            holder.wait()


def inside(host: int, *argv: str) -> list[str]:
    return ["nsenter", "--target", str(host), "--net", "--pid", "--mount", f"--wd={ROOT}", "--", *argv]


def _holder() -> "subprocess.Popen[str]":
    """Start the first process of a host."""
    argv = [
        "unshare",
        "--net",
        "--pid",
        "--mount-proc",
        "--kill-child",
        "sh",
        "-c",
        "echo there && exec sleep infinity",
    ]
    return subprocess.Popen(argv, text=True, stdout=subprocess.PIPE)


def _first(holder: "subprocess.Popen[str]") -> int:
    """Return the number by which others know the first process of a host, once it is there."""
    assert holder.stdout and holder.stdout.readline() == "there\n"
    return int(Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text())


def _ip(host: int, command: str) -> None:
    """Change the network of a host, from where all of them have numbers."""
    subprocess.run(["nsenter", "--target", str(host), "--net", "ip", *command.split()], check=True)


def _keys(directory: Path) -> None:
    """Write one key, which is that of all hosts and of all logins to them, and its configuration of sshd and ssh."""
    directory.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "key")], check=True)
    (directory / "known_hosts").write_text(f"* {(directory / 'key.pub').read_text()}")
    (directory / "sshd_config").write_text(SSHD_CONFIG.format(directory=directory))
    (directory / "ssh").write_text(SSH_COMMAND.format(directory=directory))
    (directory / "ssh").chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd separates its privileges there, and asks no questions
