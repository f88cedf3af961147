"""The image of all pods: an empty root, into which each pod mounts the programs of its host; equal bytes everywhere."""

import hashlib
import io
import json
import tarfile
from functools import cache

ACCOUNT = 70000
"""Number of user and group of all processes in pods; Debian gives no account a number above 65535."""
REPOSITORY = "localhost/rackwright/host"
_DIRECTORIES = ("dev", "etc", "home", "opt", "proc", "run", "srv", "sys", "tmp", "usr", "var", "var/lib")
_LINKS = ("bin", "lib", "lib64", "sbin")
"""Links into /usr, as on Debian since its version 12."""
_FILES = {
    "etc/passwd": f"root:x:0:0::/:/usr/sbin/nologin\npods:x:{ACCOUNT}:{ACCOUNT}::/tmp:/usr/sbin/nologin\n",
    "etc/group": f"root:x:0:\npods:x:{ACCOUNT}:\n",
}
_OCI = "application/vnd.oci.image"


@cache
def archive() -> tuple[str, bytes]:
    """Return the digest of the image and an archive in OCI's layout, which `ctr images import` reads."""
    layer = _tar({path: text.encode() for path, text in _FILES.items()}, _DIRECTORIES, _LINKS)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "config": {"User": str(ACCOUNT), "WorkingDir": "/tmp"},
    }
    blobs: dict[str, bytes] = {}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": _blob(blobs, _json(config), f"{_OCI}.config.v1+json"),
        "layers": [_blob(blobs, layer, f"{_OCI}.layer.v1.tar")],
    }
    entry = _blob(blobs, _json(manifest), f"{_OCI}.manifest.v1+json")
    digest = str(entry["digest"])
    names = {"io.containerd.image.name": _name(digest), "org.opencontainers.image.ref.name": _tag(digest)}
    index = {"schemaVersion": 2, "manifests": [{**entry, "annotations": names}]}
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": _json(index)}
    return digest, _tar({**files, **{f"blobs/{each.replace(':', '/')}": data for each, data in blobs.items()}})


def name() -> str:
    """Return the name of the image, whose tag follows from its digest."""
    return _name(archive()[0])


def _name(digest: str) -> str:
    return f"{REPOSITORY}:{_tag(digest)}"


def _tag(digest: str) -> str:
    return digest.partition(":")[2][:16]


def _tar(files: dict[str, bytes], directories: tuple[str, ...] = (), links: tuple[str, ...] = ()) -> bytes:
    """Return an archive of *directories*, *links* into /usr and *files*, without times and owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as out:
        for directory in directories:
            info = tarfile.TarInfo(directory)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            out.addfile(info)
        for link in links:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, f"usr/{link}"
            out.addfile(info)
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), 0o644
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _blob(blobs: dict[str, bytes], data: bytes, kind: str) -> dict[str, object]:
    digest = _digest(data)
    blobs[digest] = data
    return {"mediaType": kind, "digest": digest, "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
