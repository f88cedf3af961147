"""The environment of pulumi for a checkout: unattended, with its state in .rackwright/.

Variables that a person has set stay: for another backend, set PULUMI_BACKEND_URL. The environment has no passphrase:
the first pulumi in PATH passes the lab's passphrase only to stacks of twins (run_pulumi.py). Pulumi installs the
plugins of other providers, which a program may have; our own provider has a path.
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
"""Variable with the checkout of an environment, so that another checkout does not keep its values as a person's."""


def environment(root: Path, toolchain: Toolchain, base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set on top of *base* for work in the checkout *root*."""
    previous = _defaults(Path(base[_MARK])) if _MARK in base else {}
    customized = {name for name, value in base.items() if previous.get(name) != value}
    defaults = {name: value for name, value in _defaults(root).items() if name == _MARK or name not in customized}
    return {"PATH": _path(root, toolchain, base.get("PATH", os.defpath)), **defaults}


def exports(variables: Mapping[str, str]) -> str:
    """Return *variables* as lines for a POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def prepare(root: Path) -> None:
    """Make the files to which the environment of the checkout *root* refers; several processes may do it at once."""
    own = _own_directory(root)
    for directory in (own / "state", own / "pulumi"):
        directory.mkdir(parents=True, exist_ok=True)
    if not (own / "passphrase").exists():
        from rackwright.schema.secret import LAB_PASSPHRASE  # here, because it imports the whole schema

        handle, temporary = tempfile.mkstemp(dir=own)  # only its owner may read it
        with os.fdopen(handle, "w") as file:
            file.write(LAB_PASSPHRASE)
        Path(temporary).replace(own / "passphrase")


def _own_directory(root: Path) -> Path:
    return root / ".rackwright"


def _defaults(root: Path) -> dict[str, str]:
    own = _own_directory(root)
    return {
        _MARK: str(root),
        "PULUMI_HOME": str(own / "pulumi"),
        "PULUMI_BACKEND_URL": f"file://{quote(str(own / 'state'))}",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_REGISTRY_RESOLVE": "true",
        "PULUMI_SKIP_CONFIRMATIONS": "true",
        "GOGC": "400",  # an engine runs for seconds, and spent a fifth of its time in the garbage collector
        "PULUMI_PARALLEL": "512",  # resources wait for hosts, not for this computer's cores
        "PULUMI_CONTINUE_ON_ERROR": "true",  # a failed host must not stop the others
        "PULUMI_SKIP_CHECKPOINTS": "true",  # hosts have owner files, from which a lost state is restored
    }


def _path(root: Path, toolchain: Toolchain, path: str) -> str:
    """Return *path* with rackwright's directories first: the language host looks for the virtual environment there."""
    own = [str(WRAPPER), str(toolchain.directory), str(root / ".venv" / "bin")]
    return os.pathsep.join(own + [directory for directory in path.split(os.pathsep) if directory not in own])
