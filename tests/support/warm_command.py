"""The command line in copies of one process that has imported it: a command starts in milliseconds, not in a second.

`run` is for tests of what a command does. The start of its own process is the subject of tests/cli/test_imports.py.
"""

import atexit
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.support import json_documents

ROOT = Path(__file__).parents[2]
COMMANDS = ("app", "arguments", "audit", "discover", "drive", "host", "project")
IMPORTED_AT_USE = ("rackwright.stack", "rackwright.kinds.table", "rackwright.hosts.pool", "rackwright.hosts.steps")
"""Modules that these commands import when they are used. None imports grpc, whose threads no copy has."""


def run(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `rackwright ARGUMENTS` in *cwd* with an empty standard input, and return its status and output."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        files = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
        order = {"argv": arguments, "cwd": str(cwd), "env": dict(env or os.environ), "files": files}
        with _guard:
            server = _server()
            assert server.stdin and server.stdout
            server.stdin.write(json.dumps(order) + "\n")
            server.stdin.flush()
            status = int(server.stdout.readline())
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(["rackwright", *arguments], status, out.read(), err.read())


_guard = threading.Lock()


@cache
def _server() -> "subprocess.Popen[str]":
    """Start the process that has the command line; it ends with this process."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(process.communicate)
    return process


def _serve() -> None:
    """Run each command that a line of standard input describes, and answer with its status."""
    for name in (*(f"rackwright.cli.{name}" for name in COMMANDS), *IMPORTED_AT_USE):
        import_module(name)
    json_documents.check_all()
    assert threading.active_count() == 1 and "grpc" not in sys.modules
    gc.freeze()
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            _become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(order: Mapping[str, Any]) -> None:
    """Run a command in this process, and end it as the interpreter would."""
    for number, path in enumerate((os.devnull, *order["files"])):
        os.dup2(os.open(path, os.O_RDWR), number)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = ["rackwright", *order["argv"]]
    sys.modules["__main__"].__package__ = ""  # otherwise the usage names this module
    status = 1
    try:
        from rackwright.cli import main

        main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve()
