"""The installation of a driver on a twin."""

import base64
import subprocess
from pathlib import Path

from rackwright.twin.gpu import library, plug

HOST, VERSION = "test-01", "535.261.03"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
REAL = f"{LIBRARIES}/libnvidia-ml.so.{VERSION}"
INSTALL = f"sudo cp {plug.FOLDER}/{library.SONAME} {REAL} && sudo ldconfig"
"""Command that installs a driver: a library with the name and path of the real one, whose content is not read."""


def libraries_script(directory: Path, version: str) -> str:
    """Return the script that puts libraries of a driver in the place of another's, as Debian's packages do.

    Args:
        directory: Directory of this computer for the compiled library.
    """
    cuda = directory / "libcuda.so"
    compiler = ["cc", "-shared", "-x", "c", "/dev/null", "-Wl,-soname,libcuda.so.1", "-o", str(cuda)]
    subprocess.run(compiler, check=True)
    return f"""
        current={LIBRARIES}/nvidia/current
        rm -rf $current /run/rackwright-twin-gpu-driver
        mkdir -p $current
        touch $current/libnvidia-ml.so.{version}
        base64 -d > $current/libcuda.so.{version} <<'END'
{base64.b64encode(cuda.read_bytes()).decode()}
END
        for name in libcuda libnvidia-ml; do
            ln -s $name.so.{version} $current/$name.so.1
            # as the packages do by Debian's alternatives
            ln -sf $current/$name.so.1 /etc/alternatives/nvidia--$name.so.1-x86_64-linux-gnu
            ln -sf /etc/alternatives/nvidia--$name.so.1-x86_64-linux-gnu {LIBRARIES}/$name.so.1
        done
        ldconfig
        """
