"""The installation of a driver on a twin."""

from rackwright.twin.gpu import library, plug

HOST, VERSION = "test-01", "535.261.03"
REAL = f"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{VERSION}"
INSTALL = f"sudo cp {plug.FOLDER}/{library.SONAME} {REAL} && sudo ldconfig"
"""Command that installs a driver: a library with the name and path of the real one, whose content is not read."""
