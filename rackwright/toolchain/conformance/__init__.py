"""Kubernetes' own conformance tests, built from its Go module, and the images of their pods."""

import json
from pathlib import Path

from rackwright.progress import Progress
from rackwright.toolchain import go
from rackwright.toolchain.conformance import pod_images
from rackwright.toolchain.go import Programs
from rackwright.toolchain.kubernetes import images, packages, programs

PROGRAM = "e2e.test"
"""Name of the program with all tests."""
ARCHIVE = "images.tar"
"""Name of the archive of the images, which `ctr images import` reads."""
DIGESTS = "digests.json"
"""Name of the file with the digest of each image by its name."""
MODULE = Path(__file__).parent / "module"
TESTS = Programs(
    MODULE,
    ("k8s.io/kubernetes/test/e2e",),
    stamps=programs.KUBERNETES.stamps,
    tags=programs.KUBERNETES.tags,
    tests=True,
)
AGNHOST = Programs(MODULE, ("k8s.io/kubernetes/test/images/agnhost",), tags=programs.KUBERNETES.tags)
_SOURCES = {"the tests of Kubernetes": TESTS, "the program of their pods": AGNHOST}


def ensure(progress: Progress) -> Path:
    """Return the directory with PROGRAM, ARCHIVE and DIGESTS, after a build if there is none yet.

    Raises:
        SetupError: Go or a program that packs is missing, or a build failed.
    """
    code = go.digest(Path(__file__).parent)
    return programs.ensure_entry(
        f"conformance-{code}", lambda into: _pack(into, _programs(progress), progress), progress
    )


def read_digests(directory: Path) -> dict[str, str]:
    """Return the digest of each image in *directory*, which `ensure` has returned, by its name."""
    digests: dict[str, str] = json.loads((directory / DIGESTS).read_text())
    return digests


def _programs(progress: Progress) -> Path:
    """Return the directory with the programs, which changes of the images leave as it is."""
    name = f"conformance-programs-{go.digest(MODULE)}"
    return programs.ensure_entry(name, lambda into: programs.build(into, progress, _SOURCES), progress)


def _pack(into: Path, built: Path, progress: Progress) -> None:
    packages.require()
    progress("packing the images of the pods")
    base = packages.debian_layer(into, pod_images.DEBIAN)
    digests = images.write(pod_images.of_tests(built / "agnhost", base, into), into / ARCHIVE)
    (into / DIGESTS).write_text(json.dumps(digests, indent=1))
    for file in into.iterdir():
        if file.name not in (ARCHIVE, DIGESTS):
            file.unlink()
    (into / PROGRAM).hardlink_to(built / PROGRAM)
