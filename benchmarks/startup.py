"""The processor time of short commands from start to end: `python -m benchmarks.startup`.

The commands run in turns, each in a new process that finds the compiled bytecode of all modules. The figure
of a command is its least time, because other load on the computer only adds to it. Beside them run an empty Python, the
imports of Typer and pydantic alone, and ansible-playbook's own check of the playbook that plays all roles.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import children_seconds, start

ROUNDS = 15
AIM_SECONDS = 0.25
"""Processor seconds of `rackwright --help` and `rackwright check` on an idle core."""
ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LIBRARIES = "Typer and pydantic"
CHECK, ANSIBLE = "rackwright check lab", "ansible-playbook --syntax-check"
COMMANDS: Mapping[str, Sequence[str]] = {
    "python": (sys.executable, "-c", ""),
    LIBRARIES: (sys.executable, "-c", "import typer, pydantic; pydantic.TypeAdapter(str)"),
    "rackwright --help": (str(BIN / "rackwright"), "--help"),
    CHECK: (str(BIN / "rackwright"), "check", "lab"),
    "rackwright check lab-full": (str(BIN / "rackwright"), "check", "lab-full"),
    ANSIBLE: (str(BIN / "ansible-playbook"), "--syntax-check", "-i", "localhost,", "playbooks/site.yml"),
}
"""The measured commands by their names in the report."""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["RACKWRIGHT_SALT_FILE"] = f"{directory}/salt"
        for argv in COMMANDS.values():
            _seconds(argv, environment)  # this run writes the bytecode that the measured ones read
        rounds = [{name: _seconds(argv, environment) for name, argv in COMMANDS.items()} for _ in range(ROUNDS)]
    _report({name: min(each[name] for each in rounds) for name in COMMANDS})


def _seconds(argv: Sequence[str], environment: Mapping[str, str]) -> float:
    """Return the processor seconds of one run of *argv*."""
    before = children_seconds()
    subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, check=True)
    return children_seconds() - before


def _report(seconds: Mapping[str, float]) -> None:
    print(f"processor seconds, user and system, the least of {ROUNDS} runs; Python {sys.version.split()[0]}")
    for name, value in seconds.items():
        print(f"{name:<32} {value:.3f}")
    libraries, ansible = (seconds[CHECK] / seconds[name] for name in (LIBRARIES, ANSIBLE))
    print(f"the aim of --help and check is {AIM_SECONDS} s on an idle core")
    print(f"check takes {libraries:.2f} times the imports of its libraries")
    print(f"check takes {ansible:.2f} times the check of ansible-playbook")
    ratios = {"check_per_libraries": round(libraries, 2), "check_per_ansible": round(ansible, 2)}
    print(json.dumps({"seconds": {name: round(value, 3) for name, value in seconds.items()}, **ratios}))


if __name__ == "__main__":
    start(main, (globals(), {"ROUNDS": 1}))
