"""The local repository at a host, while a role is played there: through the connection that we have, and no other way.

The host listens on its own loopback interface and hands us what comes. So it needs no way out, and we no port.
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
    """Whoever asks over a channel for files; several times, one after the other."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass


def bringing(play: Play, hosts: Hosts, directory: Path, lacking: Callable[[], str | None]) -> Play:
    """Return what plays a role with the tree in *directory* at hand on the host.

    Args:
        lacking: Says what is not there of what the host may ask for; then nothing is played.
    """

    def with_mirror(step: PlayRole, host: str, progress: Progress) -> None:
        if what := lacking():
            raise NotDone(f"the local repository cannot serve it: {what}. Run `rackwright lock --fetch` first")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(hosts.connection(host).listening(PORT, partial(answer, directory)))
            except OSError as error:  # it may have all it needs; where not, the role says what it cannot get
                progress(f"packages cannot be brought to it: {error}")
            play(step, host, progress)

    return with_mirror


def answer(directory: Path, channel: "Channel") -> None:
    """Serve files of *directory* to whoever is at the other end of *channel*, in a thread of its own."""
    threading.Thread(target=_answer, args=(directory, channel), daemon=True).start()


def _answer(directory: Path, channel: "Channel") -> None:
    with contextlib.closing(channel), contextlib.suppress(OSError, EOFError):
        _Answers(channel, ("127.0.0.1", 0), None, directory=str(directory))  # type: ignore[arg-type]
