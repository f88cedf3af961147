"""Controllers of clusters, built from Go modules.

Kueue and JobSet make queues of runs, LeaderWorkerSet makes groups of pods, and Metrics Server measures what pods use.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError
from rackwright.progress import Progress
from rackwright.toolchain import go
from rackwright.toolchain.go import Programs
from rackwright.toolchain.kubernetes import images, packages, pins, programs
from rackwright.toolchain.kubernetes.images import REGISTRY, Image
from rackwright.toolchain.kubernetes.packages import Package
from rackwright.toolchain.kubernetes_controllers import manifests
from rackwright.toolchain.kubernetes_controllers.manifests import Object
from rackwright.toolchain.sources import ToolUnavailable

DIGESTS = "digests.json"
"""Name of the file with the digests of the objects by their names, which kind Cluster claims."""
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Project:
    """A project of Kubernetes with one controller."""

    name: str
    """Name of its module below sigs.k8s.io, and of its program."""
    title: str
    version: str
    package: str
    """Package of the program below its module."""
    manifests: str = "config/default"
    """Directory of the manifests below its module."""
    stamp: str = ""
    """Variable with the version of the program; by default that of the module itself."""

    @property
    def module(self) -> str:
        return f"sigs.k8s.io/{self.name}"

    @property
    def image(self) -> str:
        return f"{REGISTRY}/{self.name}/{self.name}:v{self.version}"


@dataclass(frozen=True, slots=True)
class Controllers:
    """Controllers that a cluster has together, as one Debian package; the first one gives the package its version."""

    name: str
    """Name of the option of a cluster, and of the directory with the module that pins the sources."""
    projects: tuple[Project, ...]
    revision: str = "0rackwright1"
    """Debian revision; other sources or manifests need another one, here and in role kubernetes_control_plane."""

    @property
    def package(self) -> str:
        return f"kubernetes-{self.name}"

    @property
    def version(self) -> str:
        return f"{self.projects[0].version}-{self.revision}"

    @property
    def module(self) -> Path:
        return _HERE / self.name

    @property
    def title(self) -> str:
        return " and ".join(f"{each.title} {each.version}" for each in self.projects)


QUEUE = Controllers(
    "queue",
    (Project("kueue", "Kueue", "0.19.1", "/cmd/kueue"), Project("jobset", "JobSet", "0.12.0", "")),
)
METRICS = Controllers(
    "metrics",
    (
        Project(
            "metrics-server",
            "Metrics Server",
            "0.9.0",
            "/cmd/metrics-server",
            "manifests/base",
            "k8s.io/client-go/pkg/version.gitVersion",
        ),
    ),
)
GROUPS = Controllers("groups", (Project("lws", "LeaderWorkerSet", "0.9.0", "/cmd"),))


def ensure(controllers: Controllers, progress: Progress) -> Path:
    """Return the directory with the package of *controllers* and DIGESTS, after a build if there is none yet.

    Raises:
        SetupError: Go or a program that packs is missing, or a build failed.
    """

    def make(into: Path) -> None:
        _pack(controllers, into, ensure_programs(controllers, progress), progress)

    return programs.ensure_entry(entry(controllers), make, progress)


def entry(controllers: Controllers) -> str:
    """Return the name of the package of *controllers* in the cache, which follows from its sources and this code."""
    code = go.digest_files([*sorted(_HERE.glob("*.py")), *sorted(controllers.module.iterdir())], _HERE)
    return f"{controllers.name}-{code}"


def ensure_programs(controllers: Controllers, progress: Progress) -> Path:
    """Return the directory with the programs and the manifests of all projects, after a build if there is none yet.

    Raises:
        SetupError: Go is missing, or a build failed.
    """
    kubectl = programs.ensure_programs(progress) / "kubectl"
    name = f"{controllers.name}-programs-{go.digest(controllers.module)}"
    return programs.ensure_entry(name, lambda into: _build(controllers, into, kubectl, progress), progress)


def read_objects(controllers: Controllers, built: Path) -> list[Object]:
    """Return the objects of *controllers* in a cluster.

    Args:
        built: Directory with the programs and the manifests.
    """
    texts = {each: (built / f"{each.name}.yaml").read_text() for each in controllers.projects}
    return [
        item for each, text in texts.items() for item in manifests.adapt(each.name, each.image, text, controllers.name)
    ]


def _build(controllers: Controllers, into: Path, kubectl: Path, progress: Progress) -> None:
    try:
        with go.hold_builder(controllers.package, progress) as builder:
            for each in controllers.projects:
                progress(f"building {each.title} from Go modules (log {builder.log})")
                source = Programs(
                    controllers.module, (f"{each.module}{each.package}",),
                    stamps={each.stamp or f"{each.module}/pkg/version.GitVersion": f"v{each.version}"},
                    tags="grpcnotrace",
                )  # fmt: skip
                builder.build(source, into)
                built = into / source.packages[0].rpartition("/")[2]
                built.rename(into / each.name)
                place = builder.query("list", "-m", "-f", "{{.Dir}}", each.module, module=controllers.module)
                (into / f"{each.name}.yaml").write_text(_kustomize(kubectl, Path(place) / each.manifests))
    except ToolUnavailable as reason:
        raise go.setup_error(controllers.package, reason) from None


def _kustomize(kubectl: Path, directory: Path) -> str:
    done = subprocess.run([kubectl, "kustomize", directory], capture_output=True, text=True)
    if done.returncode:
        problem = f"kubectl kustomize failed: {done.stderr.strip()}"
        raise SetupError(Diagnostic(str(directory), problem, help="Remove the cause, and run it again"))
    return done.stdout


def _pack(controllers: Controllers, into: Path, built: Path, progress: Progress) -> None:
    packages.require()
    progress(f"packing {controllers.title} with manifests")
    archive = into / "images.tar"
    images.write([Image(each.image, (built / each.name,), directory=".") for each in controllers.projects], archive)
    objects = read_objects(controllers, built)
    place = f"usr/share/{controllers.package}"
    package = Package(
        controllers.package, controllers.version, f"{controllers.title}, for Kubernetes {pins.KUBERNETES}",
        texts={f"{place}/manifests.json": json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})},
        files={f"{place}/images.tar": archive},
    )  # fmt: skip
    packages.write(package, into)
    archive.unlink()
    (into / DIGESTS).write_text(json.dumps(manifests.digests(objects), indent=1) + "\n")
