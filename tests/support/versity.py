"""A second object store of another make on loopback: Versity's S3 gateway over a directory."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from rackwright.progress import Progress
from tests.support.built_server import ensure_program, wait_for_port
from tests.support.object_store import ACCESS_KEY, KEYS, Server, free_ports

MODULE = Path(__file__).with_name("versitygw")
"""Directory with the go.mod and the go.sum that pin the server's version and the checksums of its sources."""
PACKAGE = "github.com/versity/versitygw/cmd/versitygw"


@contextlib.contextmanager
def versity(directory: Path, progress: Progress) -> Iterator[Server]:
    """Run the gateway over the empty *directory*, with the accounts of `tests.support.object_store`."""
    program = ensure_program(MODULE, PACKAGE, progress)
    for name in ("data", "versions", "accounts"):
        (directory / name).mkdir()
    (directory / "accounts/users.json").write_text(json.dumps({"accessAccounts": _accounts()}))
    [port] = free_ports(1)
    argv = [
        *(program, f"--port=127.0.0.1:{port}", f"--iam-dir={directory}/accounts", "--region=us-east-1", "--quiet"),
        *("posix", f"--versioning-dir={directory}/versions", directory / "data"),
    ]
    environment = {"HOME": str(directory), "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": KEYS[ACCESS_KEY]}
    with (directory / "versitygw.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=directory, env=environment)
    try:
        wait_for_port(port, process, directory / "versitygw.log")
        yield Server(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def _accounts() -> dict[str, dict[str, object]]:
    """Return the accounts without a right of their own, as the gateway's file has them."""
    names = (name for name in KEYS if name != ACCESS_KEY)
    return {name: {"access": name, "secret": KEYS[name], "role": "user"} for name in names}
