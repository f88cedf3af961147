"""Build the programs of a cluster from Go modules, and pack them."""

import platform
from collections.abc import Callable, Mapping
from pathlib import Path

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


def _kubernetes(module: Path, version: str, *more: str) -> Programs:
    """Return the programs of Kubernetes in *version*, and those of the packages *more*."""
    major, minor, _ = version.split(".")
    return Programs(
        module,
        (*(f"k8s.io/kubernetes/cmd/{name}" for name in _COMPONENTS), *more),
        stamps={
            f"{_VERSION}.gitVersion": f"v{version}",
            f"{_VERSION}.gitMajor": major,
            f"{_VERSION}.gitMinor": minor,
            f"{_VERSION}.gitTreeState": "clean",
            "k8s.io/client-go/pkg/version.gitVersion": f"v{version}",
        },
        tags="grpcnotrace",
    )


KUBERNETES = _kubernetes(MODULES / "kubernetes", pins.KUBERNETES, "./pause")
PREVIOUS = _kubernetes(MODULES.with_name("previous"), pins.PREVIOUS)
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
    """Return the directory with the packages of a cluster, after a build if there is none yet.

    Raises:
        SetupError: Go or a program that packs is missing, or a build failed.
    """
    code = go.digest(Path(__file__).parent)
    return ensure_entry(f"packages-{code}", lambda into: _pack(into, ensure_programs(progress), progress), progress)


def ensure_programs(progress: Progress) -> Path:
    """Return the directory with the programs of a cluster, after a build if there is none yet.

    Raises:
        SetupError: Go is missing, or a build failed.
    """
    return ensure_entry(f"programs-{go.digest(MODULES)}", lambda into: build(into, progress), progress)


def ensure_previous(progress: Progress) -> Path:
    """Return the directory with the packages of the minor version before, after a build if there is none yet.

    Raises:
        SetupError: Go or a program that packs is missing, or a build failed.
    """
    current = ensure_programs(progress)
    sources = {f"Kubernetes {pins.PREVIOUS}": PREVIOUS}
    name, version = f"programs-{go.digest(PREVIOUS.module)}", pins.PREVIOUS
    built = ensure_entry(name, lambda into: build(into, progress, sources), progress, version)
    code = go.digest(Path(__file__).parent)
    return ensure_entry(
        f"packages-{code}", lambda into: _pack_previous(into, built, current, progress), progress, version
    )


def sources() -> str:
    """Return a digest of all that is built and packed, without the code that packs it."""
    return go.digest(MODULES) + go.digest(MODULES.with_name("units"))


def found_programs() -> Path | None:
    """Return the directory with the programs of a cluster; None if they are not built."""
    directory = _directory(f"programs-{go.digest(MODULES)}")
    return directory if directory.is_dir() else None


def _directory(name: str, version: str = pins.KUBERNETES) -> Path:
    return cache.directory() / "kubernetes" / f"{version}-{name}-{platform.machine()}"


def ensure_entry(name: str, make: Callable[[Path], None], progress: Progress, version: str = pins.KUBERNETES) -> Path:
    """Return the directory *name* of the cache, after *make* has filled it if there is none yet."""
    directory = _directory(name, version)
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with cache.hold_lock(directory.parent / f"{name}.lock", progress):
            if not directory.is_dir():
                with cache.replace_directory(directory) as half_made:
                    make(half_made)
    return directory


def build(into: Path, progress: Progress, sources: Mapping[str, Programs] = _SOURCES) -> None:
    """Build the programs of *sources* into the directory *into*.

    Args:
        sources: Programs by the name under which the progress shows them.

    Raises:
        SetupError: Go is missing, or a build failed.
    """
    try:
        with go.hold_builder("kubernetes", progress) as builder:
            for number, (name, source) in enumerate(sources.items(), start=1):
                progress(f"building {name} from Go modules, {number} of {len(sources)} (log {builder.log})")
                builder.build(source, into)
    except ToolUnavailable as reason:
        raise go.setup_error("kubernetes", reason) from None
    if (into / "server").exists():
        (into / "server").rename(into / "etcd")


def _pack(into: Path, programs: Path, progress: Progress, version: str = pins.KUBERNETES) -> None:
    packages.require()
    progress("packing the programs and the images of the control plane")
    layer, archive = packages.debian_layer(into, ("nftables", "conntrack", "kmod")), into / "images.tar"
    images.write(images.of_cluster(programs, layer, version), archive)
    for package in packages.of_cluster(programs, archive, version):
        packages.write(package, into)
    for file in (layer, archive):
        file.unlink()


def _pack_previous(into: Path, built: Path, current: Path, progress: Progress) -> None:
    """Pack the programs *built* with those of other projects that *current* has."""
    for program in current.iterdir():
        if not (built / program.name).exists():
            (into / program.name).symlink_to(program)
    for program in built.iterdir():
        (into / program.name).symlink_to(program)
    _pack(into, into, progress, pins.PREVIOUS)
    for program in into.iterdir():
        if program.is_symlink():
            program.unlink()
