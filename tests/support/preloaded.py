"""An interpreter of the workloads that has imported PyTorch and more, for tests of several short processes.

    python -m tests.support.preloaded SOCKET MODULE...

Each process is a fork of it, with the arguments, variables, directory and files of its caller. It ends with its caller,
whose status is its own.
"""

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import dropwhile
from pathlib import Path
from typing import Any, NoReturn

from tests.support.sources import ROOT

TRAINING = ("horovod.torch", "sklearn.datasets", "torch._dynamo", "torch.distributed.run", "workloads.training.run")
"""Modules that torchrun, horovodrun and a training of the digits import."""
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
    sys.exit(int(server.recv(16) or 1))
"""


@contextmanager
def preloaded(
    python: Path, directory: Path, modules: Sequence[str] = MODULES, variables: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """Yield a program in *directory* that takes the arguments of *python* and starts at once.

    Args:
        modules: Modules that its processes find imported.
        variables: Variables with which the modules are imported, beside those of this process.
    """
    from tests.support.expect import eventually  # which takes pytest: the interpreter may be without it

    path, program = directory / "socket", directory / "bin" / "python"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -IS\n{CALLER.format(socket=str(path))}")
    program.chmod(0o755)
    argv = [str(python), "-m", "tests.support.preloaded", str(path), *modules]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    with subprocess.Popen(argv, cwd=ROOT, env=environment, start_new_session=True) as process:
        try:
            eventually(lambda: path.exists() or process.poll() is not None, "the interpreter listens", 600)
            assert process.poll() is None, "a module cannot be imported"
            yield program
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with each process whose caller is left


def serve(path: Path, modules: Sequence[str]) -> None:
    """Run the processes of all callers."""
    for module in modules:
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        while True:
            caller, _ = listening.accept()
            with caller:
                if not os.fork():
                    listening.close()
                    _attend(caller)


def _attend(caller: socket.socket) -> NoReturn:
    """Run the process of *caller*, and tell it to end when the caller has ended; then end with an answer."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    content, files, _, _ = socket.recv_fds(caller, 1 << 20, 3)
    while not content.endswith(b"\n"):
        content += caller.recv(1 << 20)
    process = os.fork()
    if not process:
        caller.close()
        _become(json.loads(content), files)
    for file in files:
        os.close(file)
    ended = select.poll()
    ended.register(os.pidfd_open(process), select.POLLIN)
    ended.register(caller, select.POLLIN)  # it sends no more, so that there is only its end to read
    if caller.fileno() in [file for file, _ in ended.poll()]:
        os.kill(process, signal.SIGTERM)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with suppress(BrokenPipeError):
        caller.send(str(status).encode())
    os._exit(0)


def _become(job: dict[str, Any], files: list[int]) -> NoReturn:
    """Run the module, code or file of *job* with *files* as its standard ones, and end."""
    status = 1
    try:
        for standard, file in enumerate(files):
            os.dup2(file, standard)
        os.environ.clear()
        os.environ.update(job["environment"])
        os.chdir(job["directory"])
        # torchrun's -u and the -P of commands change nothing here: the directory of a caller is not on this path
        first, *rest = dropwhile(frozenset(("-u", "-P")).__contains__, job["argv"])
        sys.argv[1:] = rest[1:] if first in ("-m", "-c") else rest
        if first == "-m":
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif first == "-c":
            exec(rest[0], {"__name__": "__main__"})
        else:
            runpy.run_path(first, run_name="__main__")
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
    serve(Path(sys.argv[1]), sys.argv[2:])
