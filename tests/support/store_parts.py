"""The parts of an object store as its role starts them, on loopback, and the texts that the role writes."""

import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rackwright.core.repository import Repository
from rackwright.endpoints.s3 import session
from rackwright.kinds.role.promise import Promises, promises
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.support.object_store import certificates, free_ports
from tests.support.our_roles import REPOSITORY, ROLES

SOURCE = ROLES["object_store"]
CONFIGURED = "/etc/rackwright/object_store"
SECRETS = {"archive_key": "key-of-the-manager-1", "trainer_key": "key-of-the-trainer-1", "internal": "i" * 32}
ACCOUNTS = [
    {"name": "rackwright", "admin": True, "key": {"secret": "archive_key"}},
    {"name": "trainer", "key": {"secret": "trainer_key"}},
]
PEM = "-----BEGIN CERTIFICATE-----\n…"
READY_SECONDS = 120


def promised(secrets: dict[str, str] | None = None, **variables: Any) -> Promises:
    values = {**SECRETS, "store_tls": "of the host", **(secrets or {})}
    repository = Repository(REPOSITORY.templates, REPOSITORY.roles, REPOSITORY.salt, values)
    return promises(spec(**variables), repository)


def spec(**variables: Any) -> RoleSpec:
    common = {
        "accounts": ACCOUNTS,
        "certificate": PEM,
        "authority": PEM,
        "key": {"secret": "store_tls"},
        "internal_key": {"secret": "internal"},
    }
    return RoleSpec(
        host="alpha",
        role="object_store",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables={**common, **variables},
    )


def files(made: Promises) -> dict[str, str]:
    return {file.file: str(file.content) for file in made.files}


def commands(made: Promises) -> dict[str, list[str]]:
    """Return the arguments of each unit, by its name."""
    units = {Path(path).stem: text for path, text in files(made).items() if path.endswith(".service")}
    return {
        name: shlex.split(re.findall(r"^ExecStart=(.*)$", text.replace("\\\n", " "), re.MULTILINE)[0])
        for name, text in units.items()
    }


class Parts:
    """The four parts, started with the arguments of their units on other ports, from files below a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        certificates(directory, ["127.0.0.1"])
        pem = {name: (directory / f"{name}.crt").read_text() for name in ("authority", "host")}
        key = (directory / "host.key").read_text()
        made = promised(
            {"store_tls": key},
            certificate=pem["host"],
            authority=pem["authority"],
            data=str(directory / "tier"),
            volume_mib=64,  # for a computer with little space
        )
        self.ports = dict(
            zip(("9333", "9340", "8888", "8333", "9324", "9325", "9326", "9327"), free_ports(8), strict=True)
        )
        for path, text in files(made).items():
            place = directory / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(self.moved(text))
        self.commands = {name: [self.moved(each) for each in argv] for name, argv in commands(made).items()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def moved(self, text: str) -> str:
        """Return *text* with the paths and ports of this test."""
        for port, other in self.ports.items():
            text = re.sub(rf"(?<![0-9]){port}(?![0-9])", str(other), text)
        text = text.replace("-minFreeSpace=5", "-minFreeSpace=1MiB")  # the same
        return text.replace("/etc/", f"{self.directory}/etc/").replace("/run/object_store", str(self.directory))

    def __enter__(self) -> "Parts":
        for part in ("master", "volumes", "filer"):
            (self.directory / "tier/object_store" / part).mkdir(parents=True)
        for name in ("master", "volume", "filer", "s3"):
            self.start(name)
        return self

    def __exit__(self, *exception: object) -> None:
        for name in reversed([*self.processes]):
            self.stop(name)

    @property
    def program(self) -> list[str]:
        weed = shutil.which("weed", path=str(Path(sys.executable).parent))
        assert weed
        return [weed]

    def start(self, name: str) -> None:
        """Start a part, and return when it listens."""
        with (self.directory / f"{name}.log").open("ab") as log:
            argv = [*self.program, *self.commands[f"object-store-{name}"][1:]]
            where = self.directory / "etc/seaweedfs"
            self.processes[name] = subprocess.Popen(argv, cwd=where, stdout=log, stderr=log, env={"HOME": "/"})
        wait_for(self.ports[{"master": "9333", "volume": "9340", "filer": "8888", "s3": "8333"}[name]])

    def stop(self, name: str) -> None:
        self.processes[name].kill()  # SeaweedFS 4.48: a filer may wait for ever for its clients
        self.processes[name].wait()

    def client(self, account: str, key: str) -> Any:
        url = f"https://127.0.0.1:{self.ports['8333']}"
        return session("us-east-1", url, str(self.directory / "authority.crt"))(account, SECRETS[key])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(port: int) -> None:
    end = time.monotonic() + READY_SECONDS
    while not answers(port):
        assert time.monotonic() < end, f"nothing listens on {port}"
        time.sleep(0.2)


def make_synchronous(*directories: Path) -> subprocess.CompletedProcess[str]:
    """Run the program with which the role makes the writes of the store synchronous."""
    text = files(promised())["/opt/rackwright/object_store/synchronous.py"]
    return subprocess.run((sys.executable, "-c", text, *map(str, directories)), capture_output=True, text=True)
