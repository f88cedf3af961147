"""Line 2: moves into a bucket with seeded failures lose nothing."""

import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from rackwright.endpoints.s3 import session
from rackwright.errors import StepFailed, UserError
from rackwright.tiering import archive, directory
from rackwright.tiering.bucket import Bucket
from rackwright.tiering.directory import LocalDirectory
from tests.support.acceptance import line
from tests.support.cut_network import CutNetwork
from tests.support.expect import need
from tests.support.log import Log
from tests.support.object_store import ACCESS_KEY, KEYS, Server, seaweedfs

RUNS = 50
PART_BYTES = 1 << 20
FAULTS = (
    *("network cut", "server killed", "wrong credentials", "object changed", "file changed"),
    *("disk full", "replica corrupted", "delete refused", "names lost", "none"),
)
BUCKET = "moves"
"""One bucket for all moves: the first object of a bucket makes several volumes, which takes seconds."""


@dataclass
class Scene:
    """One seeded move: a directory, the bucket, and the fault that meets them."""

    seed: int
    fault: str
    place: Path
    files: dict[str, bytes]
    server: Server
    network: CutNetwork
    random: random.Random

    @property
    def archive(self) -> str:
        return f"model-{self.seed}"

    def bucket(self, key: str = KEYS[ACCESS_KEY]) -> Bucket:
        """Return the bucket, behind the network that may be cut."""
        return Bucket(BUCKET, session("us-east-1", self.network.url, True)(ACCESS_KEY, key))


@line("cold", 2, part="moves")
def test_seeded_failures_of_moves_lose_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of 50 moves meets a fault, is repeated after the repair, and every byte comes back from the bucket."""
    if os.geteuid() != 0:
        pytest.skip("a full disk is a small filesystem in memory, which root alone mounts")
    monkeypatch.setattr(directory, "PART_BYTES", PART_BYTES)
    root, stopped = log.empty_directory(), Counter[str]()
    with seaweedfs(root, copies=True) as server, CutNetwork(urlsplit(server.url).port or 0) as network:
        server.client().create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        for seed in range(RUNS):
            generator = random.Random(seed)
            fault = FAULTS[seed % len(FAULTS)]
            place = root / "work" / "model"
            scene = Scene(seed, fault, place, _files(generator), server, network, generator)
            log.write(f"seed {seed}: {fault}, {sum(map(len, scene.files.values()))} bytes")
            _write(place, scene.files)
            stopped[fault] += _run(scene, log)
            _need_whole(scene, root / "work")
            _need_retention(scene)
            shutil.rmtree(root / "work")
    met = ", ".join(f"{fault} {stopped[fault]}" for fault in FAULTS)
    need(stopped["none"] == 0, "a move without a fault failed")
    need(all(stopped[fault] for fault in FAULTS if fault != "none"), f"a fault had no effect: {met}")
    return f"{RUNS} moves, nothing lost; effects of each fault: {met}"


def _files(generator: random.Random) -> dict[str, bytes]:
    names = [f"{generator.choice(('', 'a/', 'a/b/'))}{number}.bin" for number in range(generator.randint(1, 5))]
    sizes = (0, 1, generator.randint(2, 1 << 18), PART_BYTES, generator.randint(PART_BYTES, 4 * PART_BYTES))
    return {name: generator.randbytes(generator.choice(sizes)) for name in names} | {
        "large.bin": generator.randbytes(3 * PART_BYTES + generator.randint(1, PART_BYTES - 1))
    }


def _write(place: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)


def _run(scene: Scene, log: Log) -> int:
    """Move with the fault, repair it, and move again until done; return the number of moves that the fault stopped."""
    failures = 0
    try:
        _move(scene, faulty=True)
    except UserError as error:
        failures += 1
        log.write(f"stopped: {error}")
    _need_nothing_lost(scene)
    _repair(scene)
    if scene.place.exists():
        _move(scene, faulty=False)
    if later := LATER.get(scene.fault):
        failures += later(scene)
    return failures


def _move(scene: Scene, faulty: bool) -> None:
    fault = scene.fault if faulty else "none"
    source, total = LocalDirectory(scene.place), sum(map(len, scene.files.values()))
    bucket = scene.bucket("another-key-of-nobody" if fault == "wrong credentials" else KEYS[ACCESS_KEY])
    moment = scene.random.randint(0, len(scene.files) - 1)

    def meet(text: str) -> None:
        """Let the fault happen before one of the uploads, or before the files are read back."""
        if fault == "server killed" and text.startswith(f"upload {moment + 1} "):
            scene.server.kill()
        if fault == "object changed" and text.startswith("read back"):
            name = scene.random.choice([*scene.files])
            key = bucket.key(scene.archive, name)
            scene.server.client().put_object(Bucket=bucket.name, Key=key, Body=b"another content")
        if fault == "file changed" and text.startswith("read back"):
            name = scene.random.choice([*scene.files])
            scene.files[name] += b"more"
            (scene.place / name).write_bytes(scene.files[name])

    planned = archive.plan(bucket, scene.archive, source)
    if fault == "network cut":
        scene.network.cut_after(scene.random.randint(1, total))
    archive.move(bucket, planned, source, False, None, meet)


def _repair(scene: Scene) -> None:
    """End the fault. A changed file needs another name for its archive, so the objects of the stopped move go."""
    scene.network.mend()
    if scene.fault == "server killed":
        scene.server.start()
    client = scene.server.client()
    if scene.fault == "file changed":
        for page in client.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix=f"{scene.archive}/"):
            for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                client.delete_object(Bucket=BUCKET, Key=each["Key"], VersionId=each["VersionId"])


def _fill_disk(scene: Scene) -> int:
    """Restore to a filesystem without room, which gets no part of a file, and return the number of errors."""
    small = scene.place.parent / "small"
    small.mkdir(parents=True)
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=2m", "small", str(small)), check=True)
    try:
        with pytest.raises(StepFailed, match="No space left on device"):
            _restore(scene, small / "back")
        found = {str(each.relative_to(small / "back")): each for each in small.rglob("*") if each.is_file()}
        wrong = [name for name, each in found.items() if each.read_bytes() != scene.files.get(name)]
        need(not wrong, f"seed {scene.seed}: the full disk has parts of files: {wrong}")
    finally:
        subprocess.run(("umount", str(small)), check=True)
    return 1


def _corrupt_replica(scene: Scene) -> int:
    """Change a byte of an object in one of its two copies, and return the number of changed bytes."""
    assert scene.server.copies
    sample = scene.files["large.bin"][1000:1100]
    for volume in scene.server.copies.data.glob("*.dat"):
        content = volume.read_bytes()
        if (place := content.find(sample)) >= 0:
            with volume.open("r+b") as file:
                file.seek(place)
                file.write(bytes([sample[0] ^ 1]))
            return 1
    return 0


def _refuse_delete(scene: Scene) -> int:
    """Put all versions of the archive under retention, try to delete each, and return the number of refusals."""
    client, until = scene.server.client(), datetime.now(UTC) + timedelta(days=1)
    listed = client.list_object_versions(Bucket=BUCKET, Prefix=f"{scene.archive}/")["Versions"]
    versions = [{"Bucket": BUCKET, "Key": each["Key"], "VersionId": each["VersionId"]} for each in listed]
    for version in versions:
        client.put_object_retention(**version, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until})
        with pytest.raises(client.exceptions.ClientError):
            client.delete_object(**version, BypassGovernanceRetention=True)
    return len(versions)


def _lose_names(scene: Scene) -> int:
    """Lose the database with the names of all objects, and take the copy of the second server."""
    assert scene.server.copies
    scene.server.copies.recover_names(scene.server, scene.bucket().manifest_key(scene.archive))
    return 1


LATER: dict[str, Callable[[Scene], int]] = {
    "disk full": _fill_disk,
    "replica corrupted": _corrupt_replica,
    "delete refused": _refuse_delete,
    "names lost": _lose_names,
}
"""Faults that meet an archive after its move. Each returns how often it had an effect."""


def _restore(scene: Scene, to: Path) -> None:
    bucket = scene.bucket()
    archive.restore(bucket, archive.load_manifest(bucket, scene.archive), LocalDirectory(to), lambda text: None)


def _need_nothing_lost(scene: Scene) -> None:
    """Require that each file is where it was, unless the whole archive is in the bucket."""
    missing = [name for name, content in scene.files.items() if _read(scene.place / name) != content]
    if missing:
        scene.network.mend()
        need(archive.find_manifest(scene.bucket(), scene.archive) is not None, f"seed {scene.seed}: lost {missing}")


def _need_whole(scene: Scene, work: Path) -> None:
    """Require that the bucket gives back every byte."""
    back = work / "back"
    _restore(scene, back)
    found = {name: _read(back / name) for name in scene.files}
    need(found == scene.files, f"seed {scene.seed}: other files came back after {scene.fault}")
    need(not scene.place.exists(), f"seed {scene.seed}: the directory is still there")


def _need_retention(scene: Scene) -> None:
    """Require that an archive under retention cannot be deleted, and is whole after the attempt."""
    client: Any = scene.server.client()
    bucket, key = BUCKET, scene.bucket().manifest_key(scene.archive)
    version = client.head_object(Bucket=bucket, Key=key)["VersionId"]
    client.put_object_legal_hold(Bucket=bucket, Key=key, VersionId=version, LegalHold={"Status": "ON"})
    with pytest.raises(client.exceptions.ClientError):
        client.delete_object(Bucket=bucket, Key=key, VersionId=version)
    need(archive.find_manifest(scene.bucket(), scene.archive) is not None, f"seed {scene.seed}: the manifest is gone")


def _read(place: Path) -> bytes | None:
    return place.read_bytes() if place.is_file() else None
