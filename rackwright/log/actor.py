"""The actor of an entry: account, login session, computer and origin, as this computer reports them."""

import os
import pwd
import socket
from collections.abc import Mapping
from pathlib import Path

from rackwright import __version__
from rackwright.log.entry import Actor

_LOGIN = Path("/proc/self/loginuid")
_NO_LOGIN = 2**32 - 1
"""The kernel's value for a process outside of any login session."""


def current(environment: Mapping[str, str]) -> Actor:
    """Return the actor of this process."""
    connection = environment.get("SSH_CONNECTION", "").split()
    return {
        "account": _name(os.geteuid()),
        "login": _login(),
        "computer": socket.gethostname(),
        "source": connection[0] if connection else None,
        "program": f"rackwright {__version__}",
    }


def _login() -> str | None:
    try:
        number = int(_LOGIN.read_text())
    except (OSError, ValueError):  # a kernel without audit has no such file
        return None
    return None if number == _NO_LOGIN else _name(number)


def _name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # an account of a directory that does not answer
        return str(number)
