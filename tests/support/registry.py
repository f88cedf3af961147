"""The registry of role registry on loopback: the program that the toolchain builds, with the files of the role."""

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rackwright.core.repository import Repository
from rackwright.endpoints.registry import RegistryClient
from rackwright.kinds.role.promise import Promises, promises
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from rackwright.toolchain import registry
from rackwright.toolchain.kubernetes import images
from rackwright.toolchain.kubernetes.images import Image
from tests.support.object_store import certificates, free_ports
from tests.support.our_roles import REPOSITORY

ETC = "/etc/rackwright/registry"
READY_SECONDS = 60
WRITER, READER = "builder", "nodes"
PASSWORDS = {WRITER: "password-of-the-builder", READER: "password-of-the-nodes"}
SECRETS = {f"registry_{name}": password for name, password in PASSWORDS.items()}
ACCOUNTS: list[dict[str, Any]] = [
    {"name": WRITER, "password": {"secret": f"registry_{WRITER}"}},
    {"name": READER, "read_only": True, "password": {"secret": f"registry_{READER}"}},
]
PEM = "-----BEGIN CERTIFICATE-----\n…"


def spec(**variables: Any) -> RoleSpec:
    common = {"accounts": ACCOUNTS, "certificate": PEM, "authority": PEM, "key": {"secret": "registry_tls"}}
    return RoleSpec(
        host="alpha",
        role="registry",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables={**common, **variables},
    )


def promised(key: str = "the key", **variables: Any) -> Promises:
    """Return the promises of the role with *variables*, and *key* of its certificate."""
    values = {**SECRETS, "registry_tls": key}
    return promises(spec(**variables), Repository(REPOSITORY.templates, REPOSITORY.roles, REPOSITORY.salt, values))


def files(made: Promises) -> dict[str, str]:
    return {file.file: str(file.content) for file in made.files}


@dataclass
class Servers:
    """Both servers of a registry, which run with the arguments of their units below a directory."""

    directory: Path
    variables: dict[str, Any] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        pem = certificates(self.directory, ["127.0.0.1"])
        self.authority = pem["authority.crt"]
        self.port, self.read_port = free_ports(2)
        made = promised(
            pem["host.key"],
            certificate=pem["host.crt"],
            authority=self.authority,
            port=self.port,
            read_port=self.read_port,
            data=str(self.directory / "tier"),
            **self.variables,
        )
        self.units: dict[str, str] = {}
        for path, text in files(made).items():
            if path.endswith(".service"):
                self.units[Path(path).stem] = text
                continue
            place = self.directory / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(self._moved(text))
        self.store.mkdir(parents=True)

    @property
    def store(self) -> Path:
        return self.directory / "tier/registry"

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.directory.glob("*.log")))

    def blob(self, digest: str) -> Path:
        """Return the path of the content of *digest*."""
        name = digest.removeprefix("sha256:")
        return self.store / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"

    def client(self, account: str = WRITER, password: str = "", port: int = 0) -> RegistryClient:
        url = f"https://127.0.0.1:{port or self.port}"
        return RegistryClient(url, self.authority, account, password or PASSWORDS.get(account, ""))

    def run(self, unit: str) -> subprocess.Popen[bytes]:
        """Start the program of *unit*."""
        [command] = re.findall(r"^ExecStart=/usr/bin/registry (.*)$", self.units[unit], re.MULTILINE)
        for before in re.findall(r"^ExecStartPre=(.*)$", self.units[unit], re.MULTILINE):
            subprocess.run(self._moved(before).split(), check=True)
        environment = dict(re.findall(r"^Environment=(\w+)=(.*)$", self.units[unit], re.MULTILINE))
        with (self.directory / f"{unit}.log").open("ab") as log:
            return subprocess.Popen(
                [program(), *self._moved(command).split()], stdout=log, stderr=log, cwd=self.directory, env=environment
            )

    def start(self, unit: str, port: int) -> None:
        """Start the server of *unit*, and return when it listens."""
        self.processes.append(self.run(unit))
        end = time.monotonic() + READY_SECONDS
        while not _listens(port):
            assert self.processes[-1].poll() is None and time.monotonic() < end, self.log[-2000:]
            time.sleep(0.1)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()

    def _moved(self, text: str) -> str:
        return text.replace("/etc/", f"{self.directory}/etc/")


@contextlib.contextmanager
def servers(directory: Path, **variables: Any) -> Iterator[Servers]:
    """Yield both servers while they run."""
    running = Servers(directory, variables)
    try:
        running.start("registry", running.port)
        running.start("registry-readers", running.read_port)
        yield running
    finally:
        running.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program() -> str:
    """Return the path of the program, or skip the test."""
    if (found := registry.found_program()) is None:
        pytest.skip("`rackwright toolchain registry` has not built the registry here")
    return str(found)


def write_image(path: Path, name: str = "example.invalid/digits:1", content: bytes = b"program") -> str:
    """Write an image with a program of *content* to the archive *path*, and return its digest."""
    return write_images(path, [name], content)[name]


def write_images(path: Path, names: Sequence[str], content: bytes = b"program") -> dict[str, str]:
    """Write images with a program of *content* into the archive *path*, and return their digests by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    program = path.parent / "program"
    program.write_bytes(content)
    return images.write([Image(name, (program,), (f"/{program.name}",), directory=".") for name in names], path)
