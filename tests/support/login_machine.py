"""A host made of this computer: its own /etc, /var, /home and /usr/local, and a real sshd with PAM on loopback."""

import base64
import hmac
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pexpect

from rackwright.access.totp import Secret, path
from tests.support.access_role import lay

NEEDS = {
    "sshd": "openssh-server",
    "visudo": "sudo",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "useradd": "passwd",
}
ADDRESSES = ("127.0.0.1", "127.0.0.2")
"""Addresses of the machine, which can stand for two hosts."""
REFUSED = 255
"""Exit status of ssh after a refused login."""
ANSWER = Path(__file__).with_name("answer.sh")
"""Program that ssh runs as SSH_ASKPASS to get a code."""
MODULE = "pam_google_authenticator.so"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
APART = """set -eu
work=$1; shift
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
for place in /etc /home /usr/local /var; do
  upper=$work/upper$place below=$work/below$place
  mkdir -p "$upper" "$below"
  mount -t overlay overlay -o "lowerdir=$place,upperdir=$upper,workdir=$below" "$place"
done
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd /run/lock
rm -rf /etc/ssh /etc/sudoers.d/*
mkdir -p /etc/ssh
cp -a "$1/." /
rm -f /run/nologin /etc/nologin
mkdir -p /etc/ssh/authorized_keys.d
install -d -m 0700 /var/lib/totp
shift
ssh-keygen -q -A
sh -c "$1"
chown -R 0:0 /etc/ssh /etc/sudoers /etc/sudoers.d /etc/pam.d/sshd /usr/local/sbin
exec "$(command -v sshd)" -D -e $2
"""


def lacks() -> str:
    """Return what this computer lacks for it; nothing where it lacks nothing."""
    if os.geteuid() != 0:
        return "needs root, to mount and to be many users"
    missing = [package for program, package in NEEDS.items() if not shutil.which(program, path=PATH)]
    places = [Path("/lib"), *Path("/lib").glob("*-linux-gnu"), *Path("/usr/lib").glob("*-linux-gnu")]
    if not any((place / "security" / MODULE).exists() for place in places):
        missing.append("libpam-google-authenticator")
    return f"needs {', '.join(missing)}" if missing else ""


class Machine:
    """On from the beginning of the ``with`` block to its end, on one port of its addresses."""

    def __init__(self, directory: Path, variables: dict[str, Any]) -> None:
        """
        Args:
            variables: Variables of the role access. Its accounts are made here, as the role's tasks make them.
        """
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.variables = {**variables, "ports": [self.port]}
        self.log = directory / "sshd.log"

    def __enter__(self) -> Self:
        work, files = self.directory / "work", self.directory / "files"
        work.mkdir(parents=True)
        lay(self.variables, files)
        argv = ["unshare", "--mount", "sh", "-c", APART, "sh", str(work), str(files), self._accounts()]
        argv += [" ".join(f"-oListenAddress={address}:{self.port}" for address in ADDRESSES)]
        with self.log.open("wb") as log:
            environment = {**os.environ, "PATH": PATH}
            self._sshd = subprocess.Popen(argv, stdout=log, stderr=log, env=environment, start_new_session=True)
        self._await(0)
        return self

    def __exit__(self, *exception: object) -> None:
        self._sshd.terminate()
        self._sshd.wait()

    def _accounts(self) -> str:
        """Return the commands that make the accounts."""
        functions = ("operator", "data-scientist", "auditor")
        lines = [f"groupadd rackwright-{function}" for function in functions]
        for person in self.variables.get("people", ()):
            shell = person.get("shell", "/bin/bash")
            lines.append(f"useradd -m -U -p '!' -s {shell} -G rackwright-{person['function']} {person['name']}")
        tools = self.variables.get("automation") or {}
        others = [(tools.get("user"), "/bin/sh"), (self.variables.get("bootstrap_user"), "/bin/bash")]
        glass = self.variables.get("break_glass") or {}
        others += [("workload", "/usr/sbin/nologin"), (glass.get("user"), "/bin/bash")]
        lines += [f"useradd -m -U -p '!' -s {shell} {name}" for name, shell in others if name]
        return "set -e\n" + "\n".join(lines)

    def root(self, script: str) -> str:
        """Run *script* as root there, and return what it prints."""
        argv = ["nsenter", f"--target={self._sshd.pid}", "--mount", "--root", "sh", "-e", "-s"]
        done = subprocess.run(argv, input=script, capture_output=True, text=True, env={**os.environ, "PATH": PATH})
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def lay(self, **changes: Any) -> None:
        """Change the role's variables, and let sshd read its files again."""
        self.variables |= changes
        listening = self.log.read_text().count("Server listening")
        files = self.directory / "files"
        lay(self.variables, files)
        self.root(
            f"cp -a {files}/. / && chown -R 0:0 /etc/ssh /etc/sudoers /etc/sudoers.d && kill -HUP {self._sshd.pid}"
        )
        self._await(listening)

    def _await(self, before: int) -> None:
        """Return when sshd listens on all its addresses; *before* is the number of such lines in its log so far."""
        while self.log.read_text().count("Server listening") < before + len(ADDRESSES):
            assert self._sshd.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def enrol(self, person: str) -> Secret:
        """Return a new secret of *person*, which the machine has."""
        secret = Secret.new()
        place = path(person)
        self.root(f"cat > {place}.new <<'END'\n{secret.text}END\nchmod 0400 {place}.new; mv -f {place}.new {place}")
        return secret

    def pin(self) -> str:
        """Return the line of known_hosts for it."""
        line = self.root("cat /etc/ssh/ssh_host_ed25519_key.pub")
        names = ",".join(f"[{address}]:{self.port}" for address in ADDRESSES)
        return f"{names} {line}\n"

    def ssh(self, user: str, key: Path | None, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Log in at its first address; see the function of this name."""
        return ssh(ADDRESSES[0], self.port, user, key, *command, **more)


def ssh(
    address: str,
    port: int,
    user: str,
    key: Path | None,
    *command: str,
    code: str | None = None,
    options: Sequence[str] = (),
    text: str = "",
) -> subprocess.CompletedProcess[str]:
    """Log in as a person types it, with *key* or without any, and run *command*; *code* is what they answer."""
    argv = ["ssh", "-F", "none", "-p", str(port), "-l", user, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]
    argv += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    argv += ["-o", "NumberOfPasswordPrompts=1"]
    argv += ["-i", str(key)] if key else ["-o", "PubkeyAuthentication=no"]
    argv += ["-o", "KbdInteractiveAuthentication=no"] if code is None else []
    asked = {"SSH_ASKPASS": str(ANSWER), "SSH_ASKPASS_REQUIRE": "force", "CODE": code or ""}
    argv += [*options, address, *(command or ("id", "-un"))]
    return subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **asked}, input=text)


def code(secret: Secret, steps: int = 0) -> str:
    """Return what an authenticator shows now, or some half minutes from now. Source: RFC 6238."""
    counter = struct.pack(">Q", int(time.time()) // 30 + steps)
    digest = hmac.digest(base64.b32decode(secret.key), counter, "sha1")
    offset = digest[-1] & 15
    return f"{(int.from_bytes(digest[offset : offset + 4], 'big') & 0x7FFFFFFF) % 10**6:06d}"


def enrol_in_terminal(program: str, arguments: list[str], directory: Path) -> tuple[int, str]:
    """Run `rackwright enrol` in a terminal as a person does, who types a code of the key that it shows.

    Returns:
        The exit status, and the output.
    """
    terminal = pexpect.spawn(program, arguments, timeout=120, cwd=str(directory), encoding="utf-8")
    text = ""
    if terminal.expect_exact(["nothing to stop", pexpect.EOF]) == 0:
        text = str(terminal.before)
        [key] = re.findall(r"type ([A-Z2-7]{32})", text)
        terminal.expect_exact(":")
        terminal.sendline(code(Secret(key, ())))
        terminal.expect_exact(pexpect.EOF)
    text += str(terminal.before)
    terminal.wait()  # its output has ended, and the process ends a moment later
    terminal.close()
    return int(terminal.exitstatus), text


def new_key(path: Path) -> str:
    """Write a new key and return its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)], check=True)
    return path.with_name(f"{path.name}.pub").read_text().strip()


def certificate(
    keys: Path,
    name: str,
    *options: str,
    key: str = "deploy",
    principal: str = "deploy",
    until: str = "+15m",
    authority: str = "ca",
) -> list[str]:
    """Return the options of ssh for a certificate that was made with others of ssh-keygen."""
    public = keys / f"{name}.pub"
    public.write_text((keys / f"{key}.pub").read_text())
    argv = ["ssh-keygen", "-q", "-s", str(keys / authority), "-I", name, "-n", principal]
    argv += ["-V", f"-10m:{until}", "-O", "clear"]
    subprocess.run([*argv, *options, str(public)], check=True)
    return ["-o", f"CertificateFile={keys / name}-cert.pub"]


def ping(port: int, directory: Path, variables: dict[str, object]) -> str:
    """Return what Ansible says after it has become root at *port* of the loopback interface."""
    where = {
        "ansible_host": "127.0.0.1",
        "ansible_port": port,
        "ansible_become": True,
        "ansible_pipelining": True,
    }
    inventory = directory / "inventory.json"
    content = {**where, **variables, "ansible_python_interpreter": "/usr/bin/python3"}
    inventory.write_text(json.dumps({"all": {"hosts": {"alpha": content}}}))
    ansible = Path(__file__).parents[2] / ".venv/bin/ansible"
    argv = [str(ansible), "-i", str(inventory), "alpha", "-m", "ping"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=directory, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr
