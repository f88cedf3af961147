"""An interpreter of the workloads that has imported PyTorch and transformers, for tests of several short processes.

    python -m tests.support.preloaded SOCKET

Each process is a fork of it, with the arguments, variables, directory and files of its caller.
"""

import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.support.expect import eventually
from tests.support.sources import ROOT

MODULES = (
    "onnxruntime",
    "sklearn.datasets",
    "transformers.models.llama.modeling_llama",
    "workloads.training.run",
)
CALLER = """\
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({socket!r})
    job = dict(argv=sys.argv[1:], environment=dict(os.environ), directory=os.getcwd())
    socket.send_fds(server, [json.dumps(job).encode() + b"\\n"], [0, 1, 2])
    sys.exit(int(server.recv(16)))
"""


@contextmanager
def preloaded(python: Path, directory: Path) -> Iterator[Path]:
    """Yield a program in *directory* that takes the arguments of *python*, ``-m`` or ``-c``, and starts at once."""
    path, program = directory / "socket", directory / "bin" / "python"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -IS\n{CALLER.format(socket=str(path))}")
    program.chmod(0o755)
    argv = [str(python), "-m", "tests.support.preloaded", str(path)]
    with subprocess.Popen(argv, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        try:
            eventually(lambda: path.exists() or process.poll() is not None, "the interpreter listens", 600)
            yield program
        finally:
            process.terminate()


def serve(path: Path) -> None:
    """Run one caller's process after the other."""
    for module in MODULES:
        import_module(module)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        while True:
            caller, _ = listening.accept()
            with caller:
                content, files, _, _ = socket.recv_fds(caller, 1 << 20, 3)
                while not content.endswith(b"\n"):
                    content += caller.recv(1 << 20)
                process = os.fork()
                if not process:
                    listening.close()
                    _become(json.loads(content), files)
                for file in files:
                    os.close(file)
                status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                with suppress(BrokenPipeError):
                    caller.send(str(status).encode())


def _become(job: dict[str, Any], files: list[int]) -> None:
    """Run the module or code of *job* with *files* as its standard ones, and end."""
    status = 1
    try:
        for standard, file in enumerate(files):
            os.dup2(file, standard)
        os.environ.clear()
        os.environ.update(job["environment"])
        os.chdir(job["directory"])
        option, source, *sys.argv[1:] = job["argv"]
        if option == "-m":
            runpy.run_module(source, run_name="__main__", alter_sys=True)
        else:
            exec(source, {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
