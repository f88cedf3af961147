"""A directory like the one that `make wheel` writes."""

import hashlib
from pathlib import Path

from rackwright import __version__
from rackwright.cli.packages import ALL_REQUIREMENTS

WHEEL = f"rackwright-{__version__}-py3-none-any.whl"
CONTENT = b"a wheel"
OURS = f"rackwright=={__version__} --hash=sha256:{hashlib.sha256(CONTENT).hexdigest()}\n"
OTHER = f"# pip-compile\nattrs==25.1 \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n    # via x\n"


def write_wheel(directory: Path, requirements: str, wheel: str = WHEEL) -> Path:
    (directory / ALL_REQUIREMENTS).write_text(requirements)
    (directory / wheel).write_bytes(CONTENT)
    return directory
