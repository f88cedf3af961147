"""Kueue and JobSet, by which runs of a cluster wait in queues: built from Go modules, as a Debian package."""

import json
import subprocess
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError
from rackwright.progress import Progress
from rackwright.toolchain import cache, go
from rackwright.toolchain.go import Programs
from rackwright.toolchain.kubernetes import images, packages, pins, programs
from rackwright.toolchain.kubernetes.images import REGISTRY, Image
from rackwright.toolchain.kubernetes.packages import Package
from rackwright.toolchain.kubernetes_queue import manifests
from rackwright.toolchain.kubernetes_queue.manifests import Object
from rackwright.toolchain.sources import ToolUnavailable

KUEUE, JOBSET = "0.19.1", "0.12.0"
PACKAGE = "kubernetes-queue"
REVISION = "0rackwright1"
"""Debian revision of the package; other sources or manifests need another one, here and in kubernetes_control_plane."""
DIRECTORY = "usr/share/kubernetes-queue"
"""Directory on a host of the images and the manifests."""
DIGESTS = "digests.json"
"""Name of the file with the digests of the objects by their names, which kind Cluster claims."""
MODULE = Path(__file__).parent / "module"
_SOURCES = {
    name: (
        Programs(
            MODULE, (package,), stamps={f"sigs.k8s.io/{name}/pkg/version.GitVersion": f"v{version}"},
            tags="grpcnotrace",
        ),
        f"{REGISTRY}/{name}/{name}:v{version}",
    )
    for name, package, version in (
        ("kueue", "sigs.k8s.io/kueue/cmd/kueue", KUEUE),
        ("jobset", "sigs.k8s.io/jobset", JOBSET),
    )
}  # fmt: skip


def ensure(progress: Progress) -> Path:
    """Return the directory with the package and DIGESTS, after a build if there is none yet.

    Raises:
        SetupError: Go or a program that packs is missing, or a build failed.
    """
    code = go.digest(Path(__file__).parent)
    return programs.ensure_entry(f"queue-{code}", lambda into: _pack(into, _programs(progress), progress), progress)


def _programs(progress: Progress) -> Path:
    """Return the directory with the programs and the manifests of both projects."""
    kubectl = programs.ensure_programs(progress) / "kubectl"
    name = f"queue-programs-{go.digest(MODULE)}"
    return programs.ensure_entry(name, lambda into: _build(into, kubectl, progress), progress)


def _build(into: Path, kubectl: Path, progress: Progress) -> None:
    try:
        builder = go.find(cache.directory() / "logs" / "kubernetes-queue.log", progress)
        # the lock of the build of pulumi, which removes Go's caches at its end
        with cache.hold_lock(cache.directory() / "toolchain" / "lock", progress):
            for name, (source, _) in _SOURCES.items():
                progress(f"building {name} from Go modules (log {builder.log})")
                builder.build(source, into)
                place = builder.query("list", "-m", "-f", "{{.Dir}}", f"sigs.k8s.io/{name}", module=MODULE)
                (into / f"{name}.yaml").write_text(_kustomize(kubectl, Path(place) / "config" / "default"))
            builder.remove_caches()
    except ToolUnavailable as reason:
        raise SetupError(
            Diagnostic("kubernetes-queue", str(reason), "Go 1.21 or newer", "Install Go, and run the command again")
        ) from None


def _kustomize(kubectl: Path, directory: Path) -> str:
    done = subprocess.run([kubectl, "kustomize", directory], capture_output=True, text=True)
    if done.returncode:
        problem = f"kubectl kustomize failed: {done.stderr.strip()}"
        raise SetupError(Diagnostic("kubernetes-queue", problem, help="Remove the cause, and run it again"))
    return done.stdout


def _pack(into: Path, built: Path, progress: Progress) -> None:
    packages.require()
    progress("packing Kueue and JobSet with their manifests")
    archive = into / "images.tar"
    objects: list[Object] = []
    images.write([Image(image, (built / name,), directory=".") for name, (_, image) in _SOURCES.items()], archive)
    for name, (_, image) in _SOURCES.items():
        objects += manifests.adapt(name, image, (built / f"{name}.yaml").read_text())
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    package = Package(
        PACKAGE, f"{KUEUE}-{REVISION}", f"Kueue, and JobSet {JOBSET}, for Kubernetes {pins.KUBERNETES}",
        texts={f"{DIRECTORY}/manifests.json": text}, files={f"{DIRECTORY}/images.tar": archive},
    )  # fmt: skip
    packages.write(package, into)
    archive.unlink()
    (into / DIGESTS).write_text(json.dumps(manifests.digests(objects), indent=1) + "\n")
