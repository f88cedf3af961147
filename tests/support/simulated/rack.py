"""The test's side of simulated hosts: their directories, keys, facts and steps."""

import base64
import contextlib
import json
import os
import pwd
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from rackwright.schema.ssh import Endpoint, Login

Facts = Mapping[str, Any]
Step = dict[str, Any]
ROOT = Path(__file__).parents[3]

# SHLVL: bash reads the .bashrc of whoever tests for its first shell of a connection; that has cost 100 ms of processor
SSHD_CONFIG = """\
HostKey {directory}/host_key
AuthorizedKeysFile {authorized_keys}
PidFile none
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding {forwarding}
MaxSessions 100
LogLevel ERROR
SetEnv SHLVL=1
"""
ANSWER = """\
case "$SSH_ORIGINAL_COMMAND" in
*" steps") exec {python} -I {program} {root} {directory} ;;
*" texts") exec cat {directory}/texts ;;
*" abilities") exec cat {directory}/abilities ;;
*python3*) exec {probe} ;;
"ledctl "*) exec sh {directory}/ledctl ;;
true) ;;
*) echo "$SSH_ORIGINAL_COMMAND: not simulated" >&2; exit 127 ;;
esac
"""


class SimulatedHost:
    """One host of a rack. Without facts it is a real shell of the test's user."""

    def __init__(self, name: str, raw_facts: Facts | None, directory: Path, address: str) -> None:
        self.name, self.directory, self.address = name, directory, address
        self.port = 0
        self.on_step: Callable[[Step], None] = lambda step: None
        """Called with each step (and the ``pid`` of its runner); what it raises is how the step fails."""
        directory.mkdir()
        if raw_facts is not None:
            self.set_facts(raw_facts)
        self.host_key = new_key(directory / "host_key")

    def set_facts(self, raw: Facts) -> None:
        """Make the next probe answer with *raw*."""
        beside = self.directory / "facts.new"
        beside.write_bytes(pack(raw))
        beside.rename(self.directory / "facts")

    def set_texts(self, texts: Mapping[str, str]) -> None:
        """Answer requests for texts with these."""
        (self.directory / "texts").write_text(json.dumps(texts))

    def set_abilities(self, abilities: Mapping[str, Any]) -> None:
        """Answer requests for the capabilities of drives with these."""
        (self.directory / "abilities").write_text(json.dumps(abilities))

    def set_ledctl(self, script: str) -> None:
        """Use the shell *script* as ledctl. It finds the whole command line in ``SSH_ORIGINAL_COMMAND``."""
        (self.directory / "ledctl").write_text(script)

    @property
    def steps(self) -> list[Step]:
        """The steps it was asked for, in order."""
        log = self.directory / "steps"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def probe(self) -> str:
        """The command that prints its facts, signed with its key."""
        return f"{sys.executable} -I {Path(__file__).with_name('sign.py')} {ROOT} {self.directory}"

    @property
    def pin(self) -> str:
        return f"[{self.address}]:{self.port} {self.host_key}\n"

    def endpoint(self, rack: "SimulatedRack", **changes: Any) -> Endpoint:
        login = Login(name="test", user=rack.user, key=str(rack.key), become=False)
        return Endpoint(
            **{
                "host": self.name,
                "address": self.address,
                "port": self.port,
                "logins": (login,),
                "known_hosts": rack.known_hosts,
                **changes,
            }
        )


class SimulatedRack:
    """Hosts by name, on from the beginning of the ``with`` block to its end."""

    def __init__(self, raw_facts: Mapping[str, Facts | None]) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rackwright-"))
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self._telling = threading.Lock()
        self.key, self.known_hosts = self.directory / "key", self.directory / "known_hosts"
        public = new_key(self.key)
        (self.directory / "authorized_keys").write_text(f"{public}\n")
        self.hosts = {
            name: self._host(number, name, facts) for number, (name, facts) in enumerate(raw_facts.items(), start=1)
        }

    def _host(self, number: int, name: str, facts: Facts | None) -> SimulatedHost:
        directory = self.directory / str(number)
        host = SimulatedHost(name, facts, directory, f"127.1.{number // 250}.{number % 250 + 1}")
        config = SSHD_CONFIG.format(
            directory=directory,
            authorized_keys=self.directory / "authorized_keys",
            forwarding="yes" if facts is None else "no",
        )
        if facts is not None:
            program = Path(__file__).with_name("steps.py")
            answer = ANSWER.format(
                python=sys.executable, program=program, root=ROOT, directory=directory, probe=host.probe
            )
            (directory / "answer").write_text(answer)
            config += f"ForceCommand exec /bin/sh {directory}/answer\n"
        (directory / "sshd_config").write_text(config)
        return host

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd separates its privileges there, and asks no questions
        self._listener = subprocess.Popen(
            [sys.executable, "-I", Path(__file__).with_name("listener.py")],  # by its path, it imports nothing of ours
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for host in self.hosts.values():
            self.switch_on(host.name)
        self.known_hosts.write_text("".join(host.pin for host in self.hosts.values()))
        self._steps = socketserver.ThreadingUnixStreamServer(str(self.directory / "steps.sock"), _handler(self))
        self._steps.daemon_threads = True
        threading.Thread(target=self._steps.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._steps.shutdown()
        self._steps.server_close()
        self._listener.communicate()
        shutil.rmtree(self.directory)

    def __getitem__(self, name: str) -> SimulatedHost:
        return self.hosts[name]

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        return {host.name: host.endpoint(self) for host in self.hosts.values()}

    def switch_on(self, name: str) -> None:
        host = self.hosts[name]
        host.port = self._tell(on=[str(host.directory), host.address, host.port])

    def switch_off(self, name: str) -> None:
        """Refuse connections, and cut those that stand."""
        self._tell(off=str(self.hosts[name].directory))

    def cpu_seconds(self) -> float:
        """Return the processor time of all servers, once every connection has been closed."""
        seconds: float = self._tell(cpu=True)
        return seconds

    def _tell(self, **order: Any) -> Any:
        assert self._listener.stdin and self._listener.stdout
        with self._telling:  # a step may switch its host off while the test switches it on
            self._listener.stdin.write(json.dumps(order) + "\n")
            self._listener.stdin.flush()
            return json.loads(self._listener.stdout.readline())


def _handler(rack: SimulatedRack) -> type[socketserver.StreamRequestHandler]:
    by_directory = {str(host.directory): host for host in rack.hosts.values()}

    class Handler(socketserver.StreamRequestHandler):
        """One step: asked as a line, answered with why it failed, or null."""

        def handle(self) -> None:
            request = json.loads(self.rfile.readline())
            try:
                by_directory[request["directory"]].on_step(request["step"])
                reason = None
            except Exception as error:
                reason = str(error) or type(error).__name__
            with contextlib.suppress(OSError):  # the step may have been the end of its host
                self.wfile.write(json.dumps(reason).encode() + b"\n")

    return Handler


def pack(raw: Facts) -> bytes:
    """Return *raw* as a probe prints it."""
    return base64.b64encode(zlib.compress(json.dumps(raw).encode(), 1)) + b"\n"


def new_key(path: Path) -> str:
    """Write a new private key and return its public half as ``type key``."""
    key = Ed25519PrivateKey.generate()
    path.touch(0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
