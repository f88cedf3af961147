"""The environment in which pulumi works on this checkout: unattended, offline, with its state in .rackwright/.

Whatever a person has set already is left as it is: another backend is only a matter of PULUMI_BACKEND_URL. The
environment has no passphrase: the pulumi that comes first in PATH gives the lab's to stacks of twins alone
(run_pulumi.py).
"""

import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from rackwright.toolchain.choose import Toolchain
from rackwright.toolchain.sources import WRAPPER

_MARK = "RACKWRIGHT_ROOT"
"""The checkout an environment was made for: a second checkout must not take the first one's values for wishes."""


def environment(root: Path, toolchain: Toolchain, base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set on top of *base* for work in the checkout *root*."""
    before = _defaults(Path(base[_MARK])) if _MARK in base else {}
    wishes = {name for name, value in base.items() if before.get(name) != value}
    ours = {name: value for name, value in _defaults(root).items() if name == _MARK or name not in wishes}
    return {"PATH": _path(root, toolchain, base.get("PATH", os.defpath)), **ours}


def exports(variables: Mapping[str, str]) -> str:
    """Return *variables* as lines that a POSIX shell evaluates."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def prepare(root: Path) -> None:
    """Make what the environment of the checkout *root* points to; safe to repeat, and when two do it at once."""
    ours = _own(root)
    for directory in (ours / "state", ours / "pulumi"):
        directory.mkdir(parents=True, exist_ok=True)
    if not (ours / "passphrase").exists():
        from rackwright.schema.secret import LAB_PASSPHRASE  # here: its package is the whole schema

        handle, written = tempfile.mkstemp(dir=ours)  # readable by its owner only
        with os.fdopen(handle, "w") as file:
            file.write(LAB_PASSPHRASE)
        Path(written).replace(ours / "passphrase")


def _own(root: Path) -> Path:
    return root / ".rackwright"


def _defaults(root: Path) -> dict[str, str]:
    ours = _own(root)
    return {
        _MARK: str(root),
        "PULUMI_HOME": str(ours / "pulumi"),
        "PULUMI_BACKEND_URL": f"file://{quote(str(ours / 'state'))}",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_DISABLE_REGISTRY_RESOLVE": "true",
        "PULUMI_SKIP_CONFIRMATIONS": "true",
        "GOGC": "400",  # an engine lives for seconds: a fifth of its work was to look for memory it could free
        "PULUMI_PARALLEL": "512",  # resources wait for hosts, not for this computer's cores
        "PULUMI_CONTINUE_ON_ERROR": "true",  # one failed host must not stop the others
        "PULUMI_SKIP_CHECKPOINTS": "true",  # hosts carry owner files, so a lost state is found again
    }


def _path(root: Path, toolchain: Toolchain, path: str) -> str:
    """Return *path* with our directories first: the language host takes the virtual environment from there."""
    ours = [str(WRAPPER), str(toolchain.directory), str(root / ".venv" / "bin")]
    return os.pathsep.join(ours + [directory for directory in path.split(os.pathsep) if directory not in ours])
