"""Container images of single programs, as an archive of the OCI that containerd imports; equal inputs, equal bytes."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rackwright.toolchain.kubernetes import pins

REGISTRY = "registry.k8s.io"
"""Name of the registry that kubeadm writes before the names of its images."""
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Image:
    """An image whose content is a program, or several of them, and below them layers."""

    name: str
    programs: tuple[Path, ...]
    entrypoint: tuple[str, ...] = ()
    layers: tuple[Path, ...] = ()
    """Archives of the layers below the programs."""
    directory: str = "usr/local/bin"
    """Directory of the programs in the image."""
    command: tuple[str, ...] = ()
    """Arguments of a container that has no others."""


def of_cluster(programs: Path, debian: Path, kubernetes: str = pins.KUBERNETES) -> tuple[Image, ...]:
    """Return the images that kubeadm asks for.

    Args:
        programs: Directory of the programs.
        debian: Layer with nft, which kube-proxy runs.
        kubernetes: Version of Kubernetes.
    """
    version = f"v{kubernetes}"
    components = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    return (
        *(Image(f"{REGISTRY}/{name}:{version}", (programs / name,)) for name in components),
        Image(f"{REGISTRY}/kube-proxy:{version}", (programs / "kube-proxy",), layers=(debian,)),
        Image(f"{REGISTRY}/etcd:{pins.ETCD}-0", tuple(programs / name for name in ("etcd", "etcdctl", "etcdutl"))),
        Image(f"{REGISTRY}/coredns/coredns:v{pins.COREDNS}", (programs / "coredns",), ("/coredns",), directory="."),
        Image(f"{REGISTRY}/pause:{pins.PAUSE}", (programs / "pause",), ("/pause",), directory="."),
    )


def write(images: Sequence[Image], archive: Path) -> dict[str, str]:
    """Write *images* into one *archive*, and return the digest of each by its name."""
    manifests = []
    with tarfile.open(archive, "w") as out:
        _add(out, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        for image in images:
            texts = [*(path.read_bytes() for path in image.layers), _layer_of_programs(image)]
            config = {
                "architecture": "amd64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [_digest(text) for text in texts]},
                "config": {
                    "Entrypoint": list(image.entrypoint) or None,
                    **({"Cmd": list(image.command)} if image.command else {}),
                    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                },
            }
            described = {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _blob(out, _json(config), _CONFIG),
                "layers": [_blob(out, gzip.compress(text, 6, mtime=0), _LAYER) for text in texts],
            }
            manifest = _blob(out, _json(described), _MANIFEST)
            tag = image.name.rpartition(":")[2]
            names = {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": tag}
            manifests.append({**manifest, "annotations": names})
        _add(out, "index.json", _json({"schemaVersion": 2, "manifests": manifests}))
    return {image.name: str(manifest["digest"]) for image, manifest in zip(images, manifests, strict=True)}


def _layer_of_programs(image: Image) -> bytes:
    text = io.BytesIO()
    with tarfile.open(fileobj=text, mode="w") as layer:
        parts = Path(image.directory).parts
        for depth in range(1, len(parts) + 1):
            folder = tarfile.TarInfo("/".join(parts[:depth]))
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            layer.addfile(folder)
        for program in image.programs:
            info = tarfile.TarInfo(str(Path(image.directory) / program.name))
            info.size, info.mode = program.stat().st_size, 0o755
            with program.open("rb") as file:
                layer.addfile(info, file)
    return text.getvalue()


def _blob(out: tarfile.TarFile, data: bytes, kind: str) -> dict[str, object]:
    digest = _digest(data)
    _add(out, f"blobs/{digest.replace(':', '/')}", data)
    return {"mediaType": kind, "digest": digest, "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    out.addfile(info, io.BytesIO(data))


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
