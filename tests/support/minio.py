"""An object store of a third make on loopback: MinIO's server on one directory."""

import contextlib
import io
import json
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rackwright.endpoints import minio as admin
from rackwright.progress import Progress
from tests.support.built_server import ensure_program, wait_for_port
from tests.support.object_store import ACCESS_KEY, KEYS, READY_SECONDS, Server, free_ports

MODULE = Path(__file__).with_name("minio")
"""Directory with the go.mod and the go.sum that pin the server's version and the checksums of its sources."""
PACKAGE = "github.com/minio/minio"


@contextlib.contextmanager
def minio(directory: Path, progress: Progress) -> Iterator[Server]:
    """Run the server on the empty *directory*, with the accounts of `tests.support.object_store` as its users."""
    program = ensure_program(MODULE, PACKAGE, progress)
    [port] = free_ports(1)
    argv = (program, "server", f"--address=127.0.0.1:{port}", "--quiet", directory / "data")
    environment = {
        "HOME": str(directory),
        "MINIO_ROOT_USER": ACCESS_KEY,
        "MINIO_ROOT_PASSWORD": KEYS[ACCESS_KEY],
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    with (directory / "minio.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=directory, env=environment)
    try:
        wait_for_port(port, process, directory / "minio.log")
        server = Server(f"http://127.0.0.1:{port}")
        _wait_for_users(server.client())
        _add_users(server.client())
        yield server
    finally:
        process.kill()
        process.wait()


def _wait_for_users(client: Any) -> None:
    """Return when the server knows its users: it listens some seconds before."""
    from botocore.exceptions import ClientError

    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            client.list_buckets()
            admin.send(client, "GET", "list-canned-policies", {})
            return
        except ClientError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _add_users(client: Any) -> None:
    """Add the users without any right, by the import of a backup: the request for one user is encrypted."""
    users = {name: {"secretKey": key, "status": "enabled"} for name, key in KEYS.items() if name != ACCESS_KEY}
    backup = io.BytesIO()
    with zipfile.ZipFile(backup, "w") as file:
        file.writestr("iam-assets/users.json", json.dumps(users))
    admin.send(client, "PUT", "import-iam", {}, backup.getvalue())
