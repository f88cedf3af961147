"""Runs measuring programs on a host whose lock is held, by an account that may change nothing, for a limited time."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import count
from typing import Any

from rackwright.errors import RackwrightError
from rackwright.hosts.onhost.runner import PREFIX, escaped, literal
from rackwright.hosts.pool import Hosts
from rackwright.hosts.transport import Result
from rackwright.progress import Progress
from rackwright.qualify.item import Unusable

GRACE_SECONDS = 30
"""What a program may take beside the time that it was given, to start and to end."""


@dataclass(eq=False)
class Bench:
    """A host under its lock."""

    hosts: Hosts
    host: str
    id: str
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _unit: str = ""
    """What runs."""

    def run(
        self,
        what: str,
        argv: Sequence[str],
        seconds: float,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        on_line: Callable[[str], None] | None = None,
    ) -> Result:
        """Run *argv* in a unit of its own and return how it ended; nothing of it is left when this returns.

        The unit is one of those that whoever takes the lock next waits for, should the connection be lost.

        Args:
            what: Tells people what the unit is for.
            seconds: After so long the host ends it by itself.
        """
        self._unit = f"{PREFIX}{escaped(self.id)}-{next(self._numbers)}"
        command = in_unit(argv, self._unit, f"{self.id}: {what}", seconds, environment or {})
        try:
            return self.hosts.connection(self.host).run(command, stdin, seconds + GRACE_SECONDS, on_line)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End what runs, from another thread or over a new connection; where that fails, the host does it in time."""
        with contextlib.suppress(RackwrightError):
            self.hosts.connection(self.host).run(("systemctl", "stop", self._unit))

    def script(
        self, what: str, name: str, arguments: Sequence[object], seconds: float, on_line: Progress | None = None
    ) -> dict[str, Any]:
        """Run the program *name* of ours there, and return what its last line tells.

        Raises:
            Unusable: it ended badly; says how.
        """
        source = files("rackwright.qualify.onhost").joinpath(f"{name}.py").read_bytes()
        argv = ("python3", "-I", "-S", "-X", "utf8", "-", *map(str, arguments))
        done = self.run(what, argv, seconds, stdin=source, on_line=on_line)
        if done.status:
            raise Unusable(f"{name}.py ended with {done.status}: {last_line(done)}")
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told


def in_unit(
    argv: Sequence[str], unit: str, description: str, seconds: float, environment: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the command that runs *argv* as a transient unit with an account that only it has."""
    return (
        *("systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--service-type=exec"),
        *(f"--unit={unit}", f"--description={description}"),
        *(f"--property=RuntimeMaxSec={seconds:.0f}", "--property=DynamicUser=yes"),
        "--property=LimitMEMLOCK=infinity",  # RDMA keeps its buffers in memory
        *(f"--setenv={name}={value}" for name, value in {"LC_ALL": "C", **environment}.items()),
        "--",
        *map(literal, argv),
    )


def last_line(done: Result) -> str:
    """Return what a program said last."""
    lines = [line for text in (done.stdout.decode(errors="replace"), done.stderr) for line in text.splitlines()]
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was said")
