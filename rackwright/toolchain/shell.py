"""The environment of pulumi for a project: unattended, with its state in .rackwright/.

Variables that a person has set stay: for another backend, set PULUMI_BACKEND_URL. The environment has no passphrase:
the first pulumi in PATH passes the lab's passphrase only to stacks of twins (run_pulumi.py). Pulumi installs the
plugins of other providers, which a program may have; our own provider has a path.
"""

import hashlib
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from rackwright import locations
from rackwright.files import write_atomic
from rackwright.toolchain import cache
from rackwright.toolchain.choose import Toolchain
from rackwright.toolchain.run_pulumi import LAUNCHERS

NOTE = "# rackwright writes this file."
_MARK = "RACKWRIGHT_ROOT"
"""Variable with the project of an environment, so that another project does not keep its values as a person's."""


def environment(root: Path, toolchain: Toolchain, base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set on top of *base* for work in the project *root*."""
    customized = own_variables(root, base)
    defaults = {name: value for name, value in _defaults(root).items() if name not in customized}
    return {"PATH": _path(root, toolchain, base.get("PATH", os.defpath)), **defaults}


def own_variables(root: Path, base: Mapping[str, str]) -> set[str]:
    """Return the variables of *base* that a person has set, and that stay in the project *root*."""
    previous = _defaults(Path(base[_MARK])) if _MARK in base else {}
    return {name for name in _defaults(root) if name != _MARK and name in base and previous.get(name) != base[name]}


def exports(variables: Mapping[str, str]) -> str:
    """Return *variables* as lines for a POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def prepare(root: Path) -> None:
    """Make the files to which the environment of the project *root* refers; several processes may do it at once."""
    own = _own_directory(root)
    for directory in (own / "state", own / "pulumi"):
        directory.mkdir(parents=True, exist_ok=True)
    for name, text in {".gitignore": "*\n", **_launchers()}.items():
        if not (own / name).exists() or (own / name).read_text() != text:
            write_atomic(own / name, text, 0o755 if name.startswith("bin/") else 0o644)
    if not (own / "passphrase").exists():
        from rackwright.schema.secret import LAB_PASSPHRASE  # here, because it imports the whole schema

        handle, temporary = tempfile.mkstemp(dir=own)  # only its owner may read it
        with os.fdopen(handle, "w") as file:
            file.write(LAB_PASSPHRASE)
        Path(temporary).replace(own / "passphrase")


def write_python(root: Path, name: str, python: Path) -> Path:
    """Write a launcher of *python*, which can import workloads then, below *root*, and return its path."""
    launcher = root.joinpath(*LAUNCHERS, f"python-{name}")
    search = f'{shlex.quote(str(locations.repository()))}"${{PYTHONPATH:+:$PYTHONPATH}}"'
    text = f'#!/bin/sh\n{NOTE}\nexport PYTHONPATH={search}\nexec {shlex.quote(str(python))} "$@"\n'
    write_atomic(launcher, text, 0o755)
    return launcher


def launchers_of_installation() -> Path:
    """Return the directory in the cache for launchers outside of a project; each installation has one of its own."""
    digest = hashlib.sha256(str(locations.repository()).encode()).hexdigest()
    return cache.directory() / "launchers" / digest[:12]


def _own_directory(root: Path) -> Path:
    return root / ".rackwright"


def _launchers() -> dict[str, str]:
    """Return the programs of a project with this installation's interpreter: Pulumi.yaml names their directory."""
    here, python = Path(__file__).resolve().parent, shlex.quote(sys.executable)
    commands = {
        "bin/pulumi": f"{python} -I {shlex.quote(str(here / 'run_pulumi.py'))}",
        "bin/pulumi-resource-rackwright": f"/bin/sh {shlex.quote(str(here / 'provider.sh'))} {python}",
    }
    return {path: f'#!/bin/sh\n{NOTE}\nexec {argv} "$@"\n' for path, argv in commands.items()}


def _defaults(root: Path) -> dict[str, str]:
    own = _own_directory(root)
    return {
        _MARK: str(root),
        "PULUMI_HOME": str(own / "pulumi"),
        "PULUMI_BACKEND_URL": f"file://{quote(str(own / 'state'))}",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_REGISTRY_RESOLVE": "true",
        "GOGC": "400",  # an engine runs for seconds, and spent a fifth of its time in the garbage collector
        "PULUMI_PARALLEL": "512",  # resources wait for hosts, not for this computer's cores
        "PULUMI_CONTINUE_ON_ERROR": "true",  # a failed host must not stop the others
        "PULUMI_SKIP_CHECKPOINTS": "true",  # hosts have owner files, from which a lost state is restored
    }


def _path(root: Path, toolchain: Toolchain, path: str) -> str:
    """Return *path* with rackwright's directories first: the language host looks for Python there."""
    own = [str(root.joinpath(*LAUNCHERS)), str(toolchain.directory), str(Path(sys.executable).parent)]
    return os.pathsep.join(own + [directory for directory in path.split(os.pathsep) if directory not in own])
