"""Debian packages of the programs, with the names and paths of the vendor's own; equal inputs give equal bytes."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rackwright import process_tree, scratch
from rackwright.errors import Diagnostic, SetupError
from rackwright.toolchain.apt import SUITES, mirrors, network_settings
from rackwright.toolchain.kubernetes import pins

IMAGES = "usr/share/kubernetes-images/images.tar"
"""Path on a host of the images of the control plane."""
_NEEDED = {"dpkg-deb": "dpkg", "mmdebstrap": "mmdebstrap"}
_SYSTEM = "usr/lib/systemd/system"
_LAYER_OF = "debian-12"


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package of this computer's architecture."""

    name: str
    version: str
    summary: str
    depends: tuple[str, ...] = ()
    programs: Mapping[str, Path] = field(default_factory=dict)
    """Programs by their path on the host."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Text files by their path on the host."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Other files by their path on the host."""


def of_cluster(programs: Path, images: Path, kubernetes: str = pins.KUBERNETES) -> tuple[Package, ...]:
    """Return the packages of a node and of a control plane; of another version those that it changes.

    Args:
        programs: Directory of the programs.
        images: Archive of the images of the control plane.
        kubernetes: Version of Kubernetes.
    """
    of_kubernetes = _of_kubernetes(programs, images, f"{kubernetes}-{pins.REVISION}")
    return of_kubernetes if kubernetes != pins.KUBERNETES else (*of_kubernetes, *_of_others(programs))


def _of_kubernetes(programs: Path, images: Path, version: str) -> tuple[Package, ...]:
    return (
        Package(
            "kubelet", version, "agent of a Kubernetes node",
            ("containernetworking-plugins", "conntrack", "ethtool", "iproute2", "iptables", "mount", "nftables"),
            programs={"usr/bin/kubelet": programs / "kubelet"},
            texts={f"{_SYSTEM}/kubelet.service": _unit("kubelet.service")},
        ),
        Package(
            "kubeadm", version, "makes and upgrades Kubernetes clusters", (f"kubelet (= {version})",),
            programs={"usr/bin/kubeadm": programs / "kubeadm"},
            texts={f"{_SYSTEM}/kubelet.service.d/10-kubeadm.conf": _unit("10-kubeadm.conf")},
        ),
        Package(
            "kubectl", version, "command line of Kubernetes", programs={"usr/bin/kubectl": programs / "kubectl"}
        ),
        Package(
            "kubernetes-images", version, "images of the control plane of Kubernetes", files={IMAGES: images}
        ),
    )  # fmt: skip


def _of_others(programs: Path) -> tuple[Package, ...]:
    return (
        Package(
            "etcd-tools", f"{pins.ETCD}-{pins.REVISION}", "etcdctl and etcdutl, for snapshots",
            programs={f"usr/bin/{name}": programs / name for name in ("etcdctl", "etcdutl")},
        ),
        Package(
            "containerd", f"{pins.CONTAINERD}-{pins.REVISION}", "engine that runs containers", ("runc",),
            {f"usr/bin/{name}": programs / name for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
            {f"{_SYSTEM}/containerd.service": _unit("containerd.service")},
        ),
    )  # fmt: skip


def _unit(name: str) -> str:
    return (Path(__file__).parent / "units" / name).read_text()


def require() -> None:
    """Raise SetupError unless the programs that pack are installed."""
    if missing := [package for program, package in _NEEDED.items() if shutil.which(program) is None]:
        packages = " ".join(missing)
        problem, help = f"programs are missing: {', '.join(missing)}", f"Run `sudo apt-get install {packages}`"
        raise SetupError(Diagnostic("this computer", problem, help=help, note="they pack the programs of a cluster"))


def write(package: Package, into: Path) -> Path:
    """Write *package* into the directory *into*, and return its path."""
    target = into / f"{package.name}_{package.version}_amd64.deb"
    with tempfile.TemporaryDirectory(dir=into) as unpacked:
        root = Path(unpacked) / "root"
        for path, program in package.programs.items():
            _copy(program, root / path, 0o755)
        for path, file in package.files.items():
            _copy(file, root / path, 0o644)
        for path, text in {**package.texts, "DEBIAN/control": _control(package)}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        # all times are the same, so that equal contents are equal packages
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800", "LC_ALL": "C"}
        argv = ["dpkg-deb", "--build", "--root-owner-group", "-Zzstd", "-z3", str(root), str(target)]
        _run(argv, environment)
    return target


def debian_layer(into: Path, names: tuple[str, ...]) -> Path:
    """Return an archive in *into* with the Debian packages *names* and what they need, unpacked and not configured."""
    target, suite, is_root = into / "layer.tar", SUITES[_LAYER_OF], os.getuid() == 0
    argv = [
        "mmdebstrap", f"--mode={'root' if is_root else 'unshare'}", "--variant=extract",
        f"--include={','.join(names)}", *(f"--aptopt={line}" for line in network_settings()),
        suite, str(target), *mirrors(suite),
    ]  # fmt: skip
    with scratch.directory(passable=not is_root) as temporary:  # as for images of the twin
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800", "LC_ALL": "C.UTF-8"}
        _run(argv, environment, ("env", f"TMPDIR={temporary}"))
    return target


def _control(package: Package) -> str:
    fields = {
        "Package": package.name,
        "Version": package.version,
        "Architecture": "amd64",
        "Maintainer": "rackwright",
        "Depends": ", ".join(package.depends),
        "Description": package.summary,
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _run(argv: list[str], environment: Mapping[str, str], starter: tuple[str, ...] = ()) -> None:
    done = process_tree.run([*starter, *argv], env=environment)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise SetupError(
            Diagnostic("kubernetes", f"{argv[0]} failed: {last}", help="Remove the cause, and run it again")
        )
