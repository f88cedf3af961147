"""The Unix socket on which a server answers its own host."""

import socket
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from workloads.errors import Diagnostic, UserError
from workloads.serving.settings import ServingSettings


def bind_host_socket(settings: ServingSettings) -> AbstractContextManager[socket.socket | None]:
    """Return the bound Unix socket for the server's own host, or None if the settings name none."""
    if settings.own_socket is None:
        return nullcontext()
    path = Path(settings.own_socket)
    host_socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)  # left by a killed server; the directory is this account's alone
        host_socket.bind(str(path))
        path.chmod(0o600)  # root needs no more
    except OSError as error:
        host_socket.close()
        problem = f"the server cannot create its Unix socket: {error.strerror or error}"
        help = "Set own_socket to a free path in a directory of this account"
        raise UserError(Diagnostic(f"own_socket {path}", problem, help=help)) from error
    return host_socket
