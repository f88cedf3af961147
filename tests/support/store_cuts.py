"""A real SeaweedFS on drives of its own, whose power can be cut: what the kernel has not written to them is gone."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rackwright.endpoints.s3 import session
from rackwright.tiering import archive
from rackwright.tiering.bucket import Bucket
from rackwright.tiering.directory import LocalDirectory
from rackwright.tiering.manifest import SourceFile
from tests.support.object_store import READY_SECONDS, free_ports

KEY, BUCKET = "key-of-this-test-alone", "models"
SIZE = "1500M"
"""Of a drive; SeaweedFS makes several volumes for a bucket."""


class Machines:
    """One store over machines with a drive each; the first one has the names of objects, too."""

    def __init__(self, directory: Path, filesystem: str, count: int, prepare: Callable[[Path], None]) -> None:
        """
        Args:
            prepare: Prepares the directory of the store on a drive, before it starts.
        """
        if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
            pytest.skip("drives in files need root and loop devices")
        self._directory, self._prepare = directory, prepare
        # a program with mounts of its own may keep the first drive mounted, and XFS then refuses the copy by its UUID
        self._options = "loop,nouuid" if filesystem == "xfs" else "loop"
        self._images = [directory / f"{number}.img" for number in range(count)]
        self._mounts = [directory / f"mount-{number}" for number in range(count)]
        for image, mount in zip(self._images, self._mounts, strict=True):
            mount.mkdir()
            run("truncate", "--size", SIZE, str(image))
            run(f"mkfs.{filesystem}", "-q", str(image))
        self._ports = free_ports(3 + count)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._accounts = directory / "accounts.json"
        account = {"name": "rackwright", "credentials": [{"accessKey": "rackwright", "secretKey": KEY}]}
        self._accounts.write_text(
            json.dumps({"identities": [{**account, "actions": ["Admin", "Read", "Write", "List"]}]})
        )

    def client(self) -> Any:
        return session("us-east-1", f"http://127.0.0.1:{self._ports[2]}", True)("rackwright", KEY)

    def start(self, images: Sequence[Path] = ()) -> None:
        """Mount *images*, by default the own ones, and start the store on them."""
        for image, mount in zip(images or self._images, self._mounts, strict=True):
            run("mount", "--options", self._options, str(image), str(mount))
            data = mount / "object_store"
            if not data.exists():
                data.mkdir()
                self._prepare(data)
        master, filer, s3, first, *others = self._ports
        common = ("-ip=127.0.0.1", "-ip.bind=127.0.0.1")
        self._run(
            *(
                "server",
                *common,
                f"-dir={self._mounts[0]}/object_store",
                "-filer",
                "-s3",
                f"-s3.config={self._accounts}",
            ),
            *(f"-master.port={master}", f"-filer.port={filer}", f"-s3.port={s3}", f"-volume.port={first}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=12", "-master.volumeSizeLimitMB=64"),
            *("-volume.minFreeSpace=1MiB", f"-master.defaultReplication=00{len(others)}"),
        )
        for mount, port in zip(self._mounts[1:], others, strict=True):
            on = (f"-dir={mount}/object_store", f"-port={port}", f"-master=127.0.0.1:{master}")
            self._run("volume", *common, *on, "-max=12", "-minFreeSpace=1MiB")

    def make_bucket(self) -> None:
        """Make the bucket, and return when it takes objects."""
        client = self.client()

        def make() -> None:
            if BUCKET not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="first", Body=b"first")

        self.wait(make)
        run("sync")

    def wait_for_objects(self) -> None:
        """Return when the store that was started again answers for its volumes; an object of the beginning is there."""
        client = self.client()
        self.wait(lambda: client.get_object(Bucket=BUCKET, Key="first"))

    def cut(self, name: str) -> list[Path]:
        """Return copies of the drives as a cut of the power would leave them now. The store goes on afterwards."""
        for process in self._processes:
            os.killpg(process.pid, signal.SIGSTOP)
        try:
            copies = [self._directory / f"cut-{name}-{number}.img" for number in range(len(self._images))]
            self._copy(copies)
        finally:
            for process in self._processes:
                os.killpg(process.pid, signal.SIGCONT)
        return copies

    def _copy(self, copies: Sequence[Path]) -> None:
        """Copy all drives as they are at one moment: again, if the kernel has written to one in between."""
        end = time.monotonic() + READY_SECONDS
        while True:
            before = self._written()
            for image, copy in zip(self._images, copies, strict=True):
                run("cp", "--sparse=always", str(image), str(copy))
            after = self._written()
            if before == after and not any(underway for _, underway in after):
                return
            assert time.monotonic() < end, "the kernel writes to the drives without end"

    def _written(self) -> list[tuple[int, int]]:
        """Return the number of sectors written to each drive, and of requests on their way."""
        found: list[tuple[int, int]] = []
        for mount in self._mounts:
            device = run("findmnt", "--noheadings", "--output", "SOURCE", str(mount)).strip()
            fields = Path(f"/sys/block/{Path(device).name}/stat").read_text().split()
            found.append((int(fields[6]), int(fields[8])))
        return found

    def stop(self) -> None:
        for process in self._processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()
        for mount in self._mounts:
            if mount.is_mount():
                run("umount", str(mount))

    def wait(self, request: Callable[[], Any]) -> Any:
        """Return what *request* does once it succeeds."""
        end = time.monotonic() + READY_SECONDS
        while True:
            try:
                return request()
            except Exception as error:
                log = (self._directory / "weed.log").read_text(errors="replace")[-2000:]
                assert time.monotonic() < end, f"{error}: {log}"
                time.sleep(0.3)

    def _run(self, *arguments: str) -> None:
        with (self._directory / "weed.log").open("ab") as log:
            argv = [str(Path(sys.executable).parent / "weed"), *arguments]
            environment = {"HOME": str(self._directory)}
            options: dict[str, Any] = {"cwd": self._directory, "env": environment, "start_new_session": True}
            self._processes.append(subprocess.Popen(argv, stdout=log, stderr=log, **options))


@contextmanager
def machines(directory: Path, filesystem: str, count: int, prepare: Callable[[Path], None]) -> Iterator[Machines]:
    """Yield a running store with a bucket."""
    store = Machines(directory, filesystem, count, prepare)
    try:
        store.start()
        store.make_bucket()
        yield store
    finally:
        store.stop()


def lost_objects(store: Machines, drives: Sequence[Path], acknowledged: Mapping[str, str]) -> list[str]:
    """Start the store on *drives*, and return the keys of those objects that it has no more, or otherwise.

    Args:
        acknowledged: Digests of contents, by key.
    """
    store.stop()
    store.start(drives)
    store.wait_for_objects()
    client, lost = store.client(), []
    for key, digest in acknowledged.items():
        try:
            body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except Exception:  # of any sort: it is not there
            body = b""
        if hashlib.sha256(body).hexdigest() != digest:
            lost.append(key)
    store.stop()
    return lost


def run(*argv: str) -> str:
    """Return what a command prints."""
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Cut:
    """A cut of the power during a move."""

    step: str
    drives: Sequence[Path]
    acknowledged: Mapping[str, str]
    """Digests of the objects that the store had acknowledged, by key."""
    source: frozenset[str]
    """Files of the source that were left."""


class CuttingClient:
    """A client of the store that cuts the power of its machines after each answer to a move."""

    def __init__(self, store: Machines, source: Path) -> None:
        self._store, self._source, self._client = store, source, store.client()
        self._digests = {
            path.relative_to(source).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in source.rglob("*")
            if path.is_file()
        }
        self._acknowledged: dict[str, str] = {}
        self._guard = threading.Lock()
        self.cuts: list[Cut] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return partial(self._call, name, value) if name in CUT_AFTER else value

    def cut(self, step: str) -> None:
        """Cut the power now; the store goes on afterwards."""
        with self._guard:
            acknowledged = dict(self._acknowledged)
            left = frozenset(p.relative_to(self._source).as_posix() for p in self._source.rglob("*") if p.is_file())
            drives = self._store.cut(str(len(self.cuts)))
            self.cuts.append(Cut(step, drives, acknowledged, left))

    def _call(self, name: str, send: Callable[..., Any], **parameters: Any) -> Any:
        answer = send(**parameters)
        key = parameters["Key"]
        if name == "put_object" and isinstance(parameters["Body"], bytes):
            self._acknowledged[key] = hashlib.sha256(parameters["Body"]).hexdigest()
        elif name in ("put_object", "complete_multipart_upload"):
            self._acknowledged[key] = self._digests[key.partition("/files/")[2]]
        self.cut(f"{name} of {key}")
        return answer


CUT_AFTER = ("put_object", "create_multipart_upload", "upload_part", "complete_multipart_upload")


class CuttingDirectory(LocalDirectory):
    """A directory of this computer, whose move cuts the power of the store before and after it is deleted."""

    def delete(self, sources: Sequence[SourceFile]) -> Sequence[str]:
        CLIENTS[self.path].cut("before the source is deleted")
        changed = super().delete(sources)
        CLIENTS[self.path].cut("after the source is deleted")
        return changed


CLIENTS: dict[Path, CuttingClient] = {}
"""The client of each directory that is moved."""


def move_with_cuts(store: Machines, source: Path) -> list[Cut]:
    """Move *source* into the bucket, and return the cuts of the power at its steps."""
    client = CLIENTS[source] = CuttingClient(store, source)
    bucket, directory = Bucket(BUCKET, client), CuttingDirectory(source)
    planned = archive.plan(bucket, "model-1", directory)
    client.cut("before the first request")
    archive.move(bucket, planned, directory, False, None, lambda text: None)
    return client.cuts


def losses(store: Machines, cut: Cut, files: Mapping[str, bytes]) -> list[str]:
    """Return what is lost after *cut*: acknowledged objects, and files that neither the source nor the store has."""
    lost = lost_objects(store, cut.drives, cut.acknowledged)
    kept = {key.partition("/files/")[2] for key in cut.acknowledged if key not in lost}
    return [*lost, *(f"the file {path}" for path in files if path not in cut.source and path not in kept)]
