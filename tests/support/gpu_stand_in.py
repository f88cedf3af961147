"""The stand-in for NVIDIA's library, compiled with a folder as the root of its host."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rackwright.facts.probe import gpus
from rackwright.twin.gpu import library, plug, state

DEBIAN, NVIDIA = "usr/lib/x86_64-linux-gnu/nvidia/current", "usr/lib/x86_64-linux-gnu"
MARKER = "run/rackwright-twin-gpu-driver"
MODELS = ("a100-80gb", "t4")
"""GPUs of the host, as names in the catalogue."""
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")


class Host:
    """The folder that the library uses as the root of a host."""

    def __init__(self, root: Path) -> None:
        self.root, self.state, self.library = root, root / state.PATH.lstrip("/"), root / library.SONAME

    def install(self, version: str | None, folder: str = DEBIAN, declared: str | None = None) -> None:
        """Install a driver, or none; *declared* is the one that the twin could not install."""
        driver = self.root / plug.DRIVER.lstrip("/")
        driver.unlink(missing_ok=True)
        if declared:
            driver.parent.mkdir(parents=True, exist_ok=True)
            driver.write_text(declared)
        for place in (DEBIAN, NVIDIA):
            shutil.rmtree(self.root / place, ignore_errors=True)
        if version:
            (self.root / folder).mkdir(parents=True)
            (self.root / folder / f"libnvidia-ml.so.{version}").touch()
            (self.root / folder / "libnvidia-ml.so.1").symlink_to(f"libnvidia-ml.so.{version}")

    def restart(self) -> None:
        (self.root / MARKER).unlink(missing_ok=True)

    def edit(self, gpu: int, **lines: Any) -> None:
        """Add lines to the part of *gpu*, before the existing lines; -1 is the part above all GPUs."""
        parts = self.state.read_text().split("[gpu]\n")
        parts[gpu + 1] = "".join(f"{key}={value}\n" for key, value in lines.items()) + parts[gpu + 1]
        self.state.write_text("[gpu]\n".join(parts))

    def remove(self, gpu: int, key: str) -> None:
        parts = self.state.read_text().split("[gpu]\n")
        parts[gpu + 1] = re.sub(rf"(?m)^{key}=.*\n", "", parts[gpu + 1])
        self.state.write_text("[gpu]\n".join(parts))


@contextmanager
def stand_in(*options: str) -> Iterator[Path]:
    """Yield a folder with the library, compiled with *options* and the folder as its root."""
    with tempfile.TemporaryDirectory(prefix="rackwright-") as folder:
        root = Path(folder)
        root.chmod(0o755)  # unprivileged tests read it, too
        # the dynamic linker answers later tests of this process with a library that it has loaded by that name
        library.compile_to(root / library.SONAME, *options, "-Wl,-soname,of-tests.so", f'-DROOT="{root}"')
        (root / state.PATH.lstrip("/")).parent.mkdir(parents=True)
        (root / "run").mkdir()
        yield root


def read_gpu(index: int = 0) -> dict[str, Any]:
    """Return the properties of a GPU that the probe reads."""
    gpu: dict[str, Any] = gpus.read_nvml()["gpus"][index]
    return gpu
