"""The images of the pods of conformance tests: agnhost of Kubernetes and busybox of Debian."""

import io
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError
from rackwright.toolchain.conformance.self_signed import make_certificate
from rackwright.toolchain.kubernetes.images import REGISTRY, Image

AGNHOST = f"{REGISTRY}/e2e-test-images/agnhost:2.66.1"
BUSYBOX = f"{REGISTRY}/e2e-test-images/busybox:1.37.0-2"
"""Names under which the tests of Kubernetes 1.37.2 ask for them. Source: its test/utils/image/manifest.go.

The program in BUSYBOX is that of Debian, an older version.
"""
DEBIAN = (
    *("bash", "bind9-dnsutils", "busybox-static", "coreutils", "curl", "dash", "iproute2", "netcat-openbsd"),
    *("socat", "util-linux"),
)
"""Debian packages with the commands that tests run in AGNHOST."""
_COMMAND_DIRECTORIES = ("bin", "sbin", "usr/bin", "usr/sbin")
_ALTERNATIVES = {"usr/local/bin/nc": "/bin/nc.openbsd"}
"""Links that Debian's packages make when they are configured, which a layer of unpacked packages lacks."""
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
_USER = "user-defined-in-image"
"""User of AGNHOST with a group of its own, which a test asks for. Source: test/images/agnhost/Dockerfile."""
_ACCOUNTS_OF_AGNHOST = {
    "etc/passwd": f"{_ACCOUNTS['etc/passwd']}{_USER}:x:1000:1000::/:/bin/sh\n",
    "etc/group": f"{_ACCOUNTS['etc/group']}{_USER}:x:1000:\ngroup-defined-in-image:x:50000:{_USER}\n",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of text files, symbolic links and empty directories, for root."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """Text files by their path."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Targets of symbolic links by their path."""
    directories: Mapping[str, int] = field(default_factory=dict)
    """Modes of directories by their path."""


def of_tests(agnhost: Path, debian: Path, scratch: Path) -> tuple[Image, ...]:
    """Return the images, whose own layers are written to the directory *scratch*.

    Args:
        agnhost: The program of that name.
        debian: Layer with the packages DEBIAN.
    """
    busybox, present = _read_debian(debian, scratch)
    commands = _commands(busybox)
    missing = [name for name in commands if name not in present and f"usr/local/bin/{name}" not in _ALTERNATIVES]
    certificate, key = make_certificate("localhost")  # the API server forwards to HTTPS of a pod, and verifies nothing
    of_agnhost = Layer(
        {**_ACCOUNTS_OF_AGNHOST, "localhost.crt": certificate, "localhost.key": key},
        {"agnhost-2": "agnhost", **_ALTERNATIVES, **{f"usr/local/bin/{name}": "/bin/busybox" for name in missing}},
        {"uploads": 0o755, "tmp": 0o1777},
    )
    of_busybox = Layer(_ACCOUNTS, {f"bin/{name}": "busybox" for name in commands if name != "busybox"}, {"tmp": 0o1777})
    layers = (debian, write_layer(of_agnhost, scratch / "agnhost.tar"))
    return (
        Image(AGNHOST, (agnhost,), ("/agnhost",), layers, directory=".", command=("pause",)),
        Image(
            BUSYBOX,
            (busybox,),
            layers=(write_layer(of_busybox, scratch / "busybox.tar"),),
            directory="bin",
            command=("sh",),
        ),
    )


def write_layer(layer: Layer, archive: Path) -> Path:
    """Write *layer* to the file *archive*, with equal times and for root, and return its path."""
    with tarfile.open(archive, "w") as out:
        for path, mode in layer.directories.items():
            out.addfile(_member(path, tarfile.DIRTYPE, mode))
        for path, text in layer.texts.items():
            member = _member(path, tarfile.REGTYPE, 0o644)
            member.size = len(text.encode())
            out.addfile(member, io.BytesIO(text.encode()))
        for path, target in layer.links.items():
            member = _member(path, tarfile.SYMTYPE, 0o777)
            member.linkname = target
            out.addfile(member)
    return archive


def _member(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.mode = kind, mode
    return member


def _read_debian(debian: Path, scratch: Path) -> tuple[Path, set[str]]:
    """Return the path of the static busybox of the layer *debian*, written to *scratch*, and all commands there.

    Raises:
        SetupError: The layer has no busybox.
    """
    present, path = set(), scratch / "busybox"
    with tarfile.open(debian) as layer:
        for member in layer:
            directory, _, name = member.name.removeprefix("./").rpartition("/")
            if directory not in _COMMAND_DIRECTORIES:
                continue
            present.add(name)
            if name == "busybox" and (file := layer.extractfile(member)):
                path.write_bytes(file.read())
                path.chmod(0o755)
    if not path.exists():
        problem = "the Debian packages of the images have no busybox"
        raise SetupError(Diagnostic("conformance", problem, help="Use a mirror of Debian 12 with busybox-static"))
    return path, present


def _commands(busybox: Path) -> list[str]:
    """Return the names of the commands that *busybox* has."""
    return subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
