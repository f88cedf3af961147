"""A Python environment as pip makes it, and changes of it by hand."""

import base64
import hashlib
import os
import py_compile
from pathlib import Path
from typing import Any

from rackwright.facts.probe import python_environments

SALT = bytes(16)
PLACE = "/opt/rackwright/mlflow/0123456789abcdef"
CONFIGURATION = f"""home = /usr/bin
include-system-site-packages = false
version = 3.11.2
executable = /usr/bin/python3.11
command = /usr/bin/python3 -m venv --clear {PLACE}
"""


def entry(path: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{path},sha256={digest},{len(content)}\n"


class Host:
    """A root directory with one environment, of one package as pip installs it."""

    def __init__(self, root: Path, place: str = PLACE) -> None:
        self.root, self.top = root, root / place[1:]
        self.packages = self.top / "lib/python3.11/site-packages"
        self.write("pyvenv.cfg", CONFIGURATION)
        for name in ("bin/activate", "bin/activate.csh", "bin/activate.fish", "bin/Activate.ps1"):
            self.write(name, "# of venv")
        (self.top / "include").mkdir()
        (self.top / "lib64").symlink_to("lib")
        for name, target in (("python3", "/usr/bin/python3"), ("python", "python3"), ("python3.11", "python3")):
            (self.top / f"bin/{name}").symlink_to(target)
        self.source = self.write("lib/python3.11/site-packages/zeug/__init__.py", "x = 1\n")
        (self.source.parent / "__pycache__").mkdir()
        self.bytecode = self.source.parent / "__pycache__/__init__.cpython-311.pyc"
        py_compile.compile(str(self.source), str(self.bytecode), doraise=True)
        self.program = self.write("bin/zeug", "#!/bin/sh\n", 0o755)
        for name, content in (("INSTALLER", "pip\n"), ("REQUESTED", ""), ("direct_url.json", "{}"), ("METADATA", "")):
            self.write(f"lib/python3.11/site-packages/zeug-1.0.dist-info/{name}", content)
        self.record()

    def record(self) -> None:
        """Write the list, as pip does at last."""
        info = "zeug-1.0.dist-info"
        listed = (
            "zeug/__init__.py",
            *(f"{info}/{name}" for name in ("INSTALLER", "REQUESTED", "METADATA", "direct_url.json")),
        )
        rows = [entry(path, (self.packages / path).read_bytes()) for path in listed]
        rows += [entry("../../../bin/zeug", self.program.read_bytes()), f"{info}/RECORD,,\n"]
        rows += ["zeug/__pycache__/__init__.cpython-311.pyc,,\n"]
        self.write(f"lib/python3.11/site-packages/{info}/RECORD", "".join(rows))

    def write(self, path: str, content: str, mode: int = 0o644) -> Path:
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)
        return file

    def name_in_unit(self, line: str, name: str = "training-digits.service") -> None:
        """Write a unit of a run with *line*, as rackwright writes it."""
        unit = self.root / "etc/systemd/system" / name
        unit.parent.mkdir(parents=True, exist_ok=True)
        unit.write_text(f"# alpha/digits: written by rackwright, and put back when it is changed.\n[Service]\n{line}\n")

    def odd(self) -> Any:
        [found] = python_environments.environment_files(str(self.root), SALT).values()
        return found


def replace_interpreter(host: Host) -> None:
    (host.top / "bin/python3").unlink()
    (host.top / "bin/python3").symlink_to("/opt/x/python3")


def run_unchecked(host: Host) -> None:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(host.source), str(host.bytecode), doraise=True, invalidation_mode=mode)


def other_package(host: Host, *names: str) -> None:
    for name in names:
        host.write(f"lib/python3.11/site-packages/other-1.dist-info/{name}", "")


def list_without_digest(host: Host, path: str) -> None:
    """Write code into *path*, and a line without a digest in place of its line in the list."""
    host.write(f"lib/python3.11/site-packages/{path}", "import os\n")
    record = host.packages / "zeug-1.0.dist-info/RECORD"
    lines = [line for line in record.read_text().splitlines(True) if not line.startswith(f"{path},")]
    record.write_text("".join([*lines, f"{path},,\n"]))


CHANGES: dict[str, tuple[Any, list[str]]] = {
    "a changed module": (
        lambda host: host.source.write_text("x = 2\n"),
        ["lib/python3.11/site-packages/zeug/__init__.py differs from its package"],
    ),
    "a module without a digest": (
        lambda host: list_without_digest(host, "zeug/__init__.py"),
        [
            "lib/python3.11/site-packages/zeug/__init__.py: "
            "lib/python3.11/site-packages/zeug-1.0.dist-info/RECORD has no digest of it"
        ],
    ),
    "a .pth file that a list names without a digest": (
        lambda host: list_without_digest(host, "evil.pth"),
        [
            "lib/python3.11/site-packages/evil.pth: "
            "lib/python3.11/site-packages/zeug-1.0.dist-info/RECORD has no digest of it"
        ],
    ),
    "bytecode without a source that a list names": (
        lambda host: list_without_digest(host, "evil.pyc"),
        [
            "lib/python3.11/site-packages/evil.pyc: "
            "lib/python3.11/site-packages/zeug-1.0.dist-info/RECORD has no digest of it"
        ],
    ),
    "a program replaced by a wrapper": (
        lambda host: host.program.write_text("#!/bin/sh\nexec /opt/x\n"),
        ["bin/zeug differs from its package"],
    ),
    "a removed program": (lambda host: host.program.unlink(), ["bin/zeug is missing"]),
    "a .pth file": (
        lambda host: host.write("lib/python3.11/site-packages/zz.pth", "import os\n"),
        ["lib/python3.11/site-packages/zz.pth: no package lists it"],
    ),
    "packages of the system": (
        lambda host: host.write("pyvenv.cfg", CONFIGURATION.replace("false", "true")),
        ["pyvenv.cfg: include-system-site-packages = true"],
    ),
    "a setting that is there twice": (
        lambda host: host.write("pyvenv.cfg", f"{CONFIGURATION}home = /usr/bin\n"),
        ["pyvenv.cfg: home = /usr/bin"],
    ),
    "another interpreter": (
        replace_interpreter,
        [
            "bin/python leads to no program",
            "bin/python3 is a link to /opt/x/python3",
            "bin/python3 leads to no program",
        ],
    ),
    "a module beside the packages": (
        lambda host: host.write("lib/python3.11/site-packages/queue.py", ""),
        ["lib/python3.11/site-packages/queue.py: no package lists it"],
    ),
    "bytecode without a source": (
        lambda host: host.bytecode.rename(host.bytecode.parent / "more.cpython-311.pyc"),
        ["lib/python3.11/site-packages/zeug/__pycache__/more.cpython-311.pyc: no package lists its source"],
    ),
    "bytecode that is not compared": (
        run_unchecked,
        ["lib/python3.11/site-packages/zeug/__pycache__/__init__.cpython-311.pyc runs without a look at its source"],
    ),
    "a package without a list": (
        lambda host: other_package(host, "METADATA", "entry_points.txt"),
        [
            f"lib/python3.11/site-packages/other-1.dist-info/{name}: no package lists it"
            for name in ("METADATA", "entry_points.txt")
        ],
    ),
    "entry points of a package with an empty list": (
        lambda host: other_package(host, "METADATA", "INSTALLER", "RECORD", "entry_points.txt"),
        ["lib/python3.11/site-packages/other-1.dist-info/entry_points.txt: no package lists it"],
    ),
    "a writable package": (
        lambda host: host.source.parent.chmod(0o777),
        ["lib/python3.11/site-packages/zeug: mode 0777"],
    ),
    "a writable file": (lambda host: host.program.chmod(0o757), ["bin/zeug: mode 0757"]),
    "a link in the place of a file": (
        lambda host: (host.source.unlink(), host.source.symlink_to("/opt/x.py")),
        ["lib/python3.11/site-packages/zeug/__init__.py is a link to /opt/x.py"],
    ),
    "a pipe": (
        lambda host: os.mkfifo(host.top / "bin/pipe", 0o644),
        ["bin/pipe is no regular file"],
    ),
}
