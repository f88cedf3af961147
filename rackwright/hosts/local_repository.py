"""Serve the local repository to a host over its SSH connection while a role is played there.

The host listens on its own loopback interface and forwards each connection. It needs no route to this computer,
and this computer opens no port.
"""

import contextlib
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rackwright.core.contract import PlayRole
from rackwright.hosts.pool import Hosts
from rackwright.hosts.session import NotDone
from rackwright.hosts.steps import Play
from rackwright.progress import Progress
from rackwright.schema.mirror import PORT

if TYPE_CHECKING:
    from paramiko import Channel


class _Answers(SimpleHTTPRequestHandler):
    """Handler of the HTTP requests that arrive over one channel, one after another."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass


def bringing(play: Play, hosts: Hosts, directory: Path, find_missing: Callable[[], str | None]) -> Play:
    """Return a function that plays a role while it serves the tree in *directory* to the host.

    Args:
        find_missing: Returns which needed file is missing, or None. If one is missing, no role is played.
    """

    def with_mirror(step: PlayRole, host: str, progress: Progress) -> None:
        if missing := find_missing():
            raise NotDone(f"the local repository cannot serve it: {missing}. Run `rackwright lock --fetch` first")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(hosts.connection(host).listening(PORT, partial(answer, directory)))
            except OSError as error:  # the host may have all packages; if not, the role reports which one it cannot get
                progress(f"packages cannot be brought to it: {error}")
            play(step, host, progress)

    return with_mirror


def answer(directory: Path, channel: "Channel") -> None:
    """Serve files of *directory* over *channel*, in a separate thread."""
    threading.Thread(target=_answer, args=(directory, channel), daemon=True).start()


def _answer(directory: Path, channel: "Channel") -> None:
    with contextlib.closing(channel), contextlib.suppress(OSError, EOFError):
        _Answers(channel, ("127.0.0.1", 0), None, directory=str(directory))  # type: ignore[arg-type]
