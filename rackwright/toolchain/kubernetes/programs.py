"""Build the programs of a cluster from Go modules, and pack them."""

import platform
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError
from rackwright.progress import Progress
from rackwright.toolchain import cache, go
from rackwright.toolchain.go import Programs
from rackwright.toolchain.kubernetes import images, packages, pins
from rackwright.toolchain.sources import ToolUnavailable

MODULES = Path(__file__).parent / "modules"
_COMPONENTS = (
    "kubelet",
    "kubeadm",
    "kubectl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
)
_VERSION = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = pins.KUBERNETES.split(".")
KUBERNETES = Programs(
    MODULES / "kubernetes",
    (*(f"k8s.io/kubernetes/cmd/{name}" for name in _COMPONENTS), "./pause"),
    stamps={
        f"{_VERSION}.gitVersion": f"v{pins.KUBERNETES}",
        f"{_VERSION}.gitMajor": _MAJOR,
        f"{_VERSION}.gitMinor": _MINOR,
        f"{_VERSION}.gitTreeState": "clean",
        "k8s.io/client-go/pkg/version.gitVersion": f"v{pins.KUBERNETES}",
    },
    tags="grpcnotrace",
)
ETCD = Programs(
    MODULES / "etcd",
    tuple(f"go.etcd.io/etcd/{name}/v3" for name in ("server", "etcdctl", "etcdutl")),
    tags="grpcnotrace",
)
CONTAINERD = Programs(
    MODULES / "containerd",
    tuple(
        f"github.com/containerd/containerd/v2/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    ),
    stamps={"github.com/containerd/containerd/v2/version.Version": f"v{pins.CONTAINERD}"},
    tags="grpcnotrace",
)
COREDNS = Programs(MODULES / "coredns", (".",), tags="grpcnotrace")
_SOURCES = {"Kubernetes": KUBERNETES, "etcd": ETCD, "containerd": CONTAINERD, "CoreDNS": COREDNS}


def ensure(progress: Progress) -> Path:
    """Return the directory with the programs in bin/ and their packages, after a build if there is none yet.

    Raises:
        SetupError: Go or a program that packs is missing, or a build failed.
    """
    root = cache.directory() / "kubernetes"
    directory = root / f"{pins.KUBERNETES}-{go.digest(Path(__file__).parent)}-{platform.machine()}"
    if directory.is_dir():
        return directory
    # the lock of the build of pulumi, which removes Go's caches at its end
    with cache.hold_lock(cache.directory() / "toolchain" / "lock", progress):
        if not directory.is_dir():
            root.mkdir(parents=True, exist_ok=True)
            with cache.replace_directory(directory) as half_made:
                _build(half_made, progress)
    return directory


def _build(into: Path, progress: Progress) -> None:
    packages.require()
    programs = into / "bin"
    try:
        builder = go.find(cache.directory() / "logs" / "kubernetes.log", progress)
        for number, (name, source) in enumerate(_SOURCES.items(), start=1):
            progress(f"building {name} from Go modules, {number} of {len(_SOURCES)} (log {builder.log})")
            builder.build(source, programs)
    except ToolUnavailable as reason:
        raise SetupError(
            Diagnostic("kubernetes", str(reason), "Go 1.21 or newer", "Install Go, and run the command again")
        ) from None
    (programs / "server").rename(programs / "etcd")
    progress("packing the programs and the images of the control plane")
    layer, archive = packages.debian_layer(into, ("nftables", "conntrack", "kmod")), into / "images.tar"
    images.write(images.of_cluster(programs, layer), archive)
    for package in packages.of_cluster(programs, archive):
        packages.write(package, into)
    for file in (layer, archive):
        file.unlink()
    builder.remove_caches()
