"""Line 16: an acknowledged object is on the drives of all its copies, of whatever size."""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from rackwright.facts.probe.object_store import buffered_files
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.store_cuts import BUCKET, Machines, lost_objects, machines
from tests.support.store_parts import make_synchronous

SIZES = {"tiny": 100, "small": 4 << 10, "medium": 500_000, "large": 5 << 20}
PART_BYTES, PARTS = 5 << 20, 2


@line("hardening2", 16)
def test_an_acknowledged_object_survives_a_power_cut(log: Log) -> str:
    directory = log.empty_directory()
    new, old = directory / "new", directory / "old"
    new.mkdir()
    old.mkdir()
    with machines(new, "ext4", 2, _synchronous) as store:
        kept = _put(store, "first") | _put_parts(store) | _put(store, "first")  # the second time over the first
        store.stop()  # a kill, and a start on the same drives: new files have the attribute as well
        store.start()
        store.wait_for_objects()
        kept |= _put(store, "restarted")
        for number in range(2):
            need(not (found := buffered_files(f"{new}/mount-{number}/object_store")), f"buffered: {found}")
        need(not (lost := lost_objects(store, store.cut("now"), kept)), f"lost {lost}")
    log(f"{len(kept)} objects of a store with two copies: none lost")
    with machines(old, "xfs", 1, lambda directory: None) as store:
        before = _put(store, "before")
        need(
            bool(buffered_files(f"{old}/mount-0/object_store")), "the probe does not see that writes are kept in memory"
        )
        unsafe = store.cut("before")
        _synchronous(old / "mount-0/object_store")
        after = before | _put(store, "after")
        safe = store.cut("after")
        lost = lost_objects(store, unsafe, before)
        need(len(lost) == len(before), f"as versions before made it, the store lost {len(lost)} of {len(before)}")
        need(not (left := lost_objects(store, safe, after)), f"after the role has run: lost {left}")
    log(f"a store from before: {len(lost)} of {len(before)} lost; after the role has run, 0 of {len(after)}")
    refused = _refusals(directory)
    figure = f"{len(kept) + len(after)} objects kept; without the attribute {len(lost)} of {len(before)} lost"
    return f"{figure}; {refused} refused"


def _synchronous(directory: Path) -> None:
    done = make_synchronous(directory)
    need(done.returncode == 0, done.stderr)


def _put(store: Machines, name: str) -> dict[str, str]:
    """Put an object of each size, and return their digests by key."""
    client, digests = store.client(), {}
    for size, count in SIZES.items():
        content = os.urandom(count)
        store.wait(lambda key=f"{name}/{size}", body=content: client.put_object(Bucket=BUCKET, Key=key, Body=body))
        digests[f"{name}/{size}"] = hashlib.sha256(content).hexdigest()
    return digests


def _put_parts(store: Machines) -> dict[str, str]:
    """Put an object in parts, and return its digest by key."""
    client, of = store.client(), {"Bucket": BUCKET, "Key": "parts"}
    contents = [os.urandom(PART_BYTES) for _ in range(PARTS)]
    upload = {**of, "UploadId": client.create_multipart_upload(**of)["UploadId"]}
    parts = [
        {"PartNumber": number, "ETag": client.upload_part(**upload, PartNumber=number, Body=content)["ETag"]}
        for number, content in enumerate(contents, start=1)
    ]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    return {"parts": hashlib.sha256(b"".join(contents)).hexdigest()}


def _refusals(directory: Path) -> int:
    """Check what the program and the probe say of files without the attribute, and of a filesystem without it."""
    place = directory / "store"
    place.mkdir()
    _synchronous(place)
    (place / "1.dat").write_text("objects")
    subprocess.run(("chattr", "-S", place / "1.dat"), check=True)
    need(buffered_files(str(place)) == [f"{place}/1.dat"], "a file whose attribute was removed is not named")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        done = make_synchronous(Path(other))
        need(done.returncode == 1 and "use xfs or ext4" in done.stderr, f"tmpfs is not refused: {done}")
    return 2
