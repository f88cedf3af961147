"""The execution of measuring programs on a leased host, with an unprivileged account and a time limit."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import count
from typing import Any

from rackwright.errors import UserError
from rackwright.foreign import InvalidData, parse_object
from rackwright.hosts.onhost.runner import PREFIX, RECORDS, escape_unit, literal
from rackwright.hosts.pool import Hosts
from rackwright.hosts.transport import CommandResult
from rackwright.progress import Progress
from rackwright.qualify.item import MeasurementFailed

GRACE_SECONDS = 30
"""Time that a program may take to start and to end, in addition to its time limit."""


@dataclass(eq=False)
class Bench:
    """A leased host that runs one measuring program at a time."""

    hosts: Hosts
    host: str
    id: str
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _unit: str = ""
    """Name of the systemd unit that runs."""

    def run(
        self,
        purpose: str,
        argv: Sequence[str],
        seconds: float,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        on_line: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run *argv* in a systemd unit of its own, and return its result; no process of the unit survives the call.

        If the connection is lost, the next holder of the lease waits for the unit.

        Args:
            purpose: Text for people in the description of the unit.
            seconds: Time after which the host itself ends the unit.
        """
        self._unit = f"{PREFIX}{escape_unit(self.id)}-{next(self._numbers)}"
        command = with_record(unit_command(argv, self._unit, f"{self.id}: {purpose}", seconds, environment or {}))
        try:
            return self.hosts.connection(self.host).run(command, stdin, seconds + GRACE_SECONDS, on_line)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the running unit, from another thread or over a new connection; if that fails, its time limit ends it."""
        with contextlib.suppress(UserError):
            self.hosts.connection(self.host).run(("systemctl", "stop", self._unit))

    def script(
        self, purpose: str, name: str, arguments: Sequence[object], seconds: float, on_line: Progress | None = None
    ) -> dict[str, Any]:
        """Run the program *name* of qualify/onhost on the host, and return the JSON object in its last line.

        Raises:
            MeasurementFailed: the program failed; names its exit status and last line.
        """
        source = files("rackwright.qualify.onhost").joinpath(f"{name}.py").read_bytes()
        argv = ("python3", "-I", "-S", "-X", "utf8", "-", *map(str, arguments))
        result = self.run(purpose, argv, seconds, stdin=source, on_line=on_line)
        if result.status:
            raise MeasurementFailed(f"{name}.py ended with {result.status}: {last_line(result)}")
        try:
            return parse_object(result.stdout.splitlines()[-1])
        except (InvalidData, IndexError):
            raise MeasurementFailed(f"{name}.py printed no result") from None


def unit_command(
    argv: Sequence[str], unit: str, description: str, seconds: float, environment: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the command that runs *argv* as a transient unit with a dynamic account of its own."""
    return (
        *("systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--service-type=exec"),
        *(f"--unit={unit}", f"--description={description}"),
        *(f"--property=RuntimeMaxSec={seconds:.0f}", "--property=DynamicUser=yes"),
        "--property=LimitMEMLOCK=infinity",  # RDMA locks its buffers in memory
        *(f"--setenv={name}={value}" for name, value in {"LC_ALL": "C", **environment}.items()),
        "--",
        *map(literal, argv),
    )


_RECORD = """mkdir -p -m 0700 "${1%/*}"; printf %s "$2" > "$1"; shift 2; exec "$@"
"""


def with_record(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return *command*, of `unit_command`, after a record of its unit, by which an audit knows the unit."""
    unit = next(word for word in command if word.startswith("--unit=")).removeprefix("--unit=")
    record = json.dumps({"argv": command[command.index("--") + 1 :]})
    return ("sh", "-c", _RECORD, "sh", f"{RECORDS}/{unit}.json", record, *command)


def last_line(result: CommandResult) -> str:
    """Return the last line that a program printed."""
    lines = [line for text in (result.stdout.decode(errors="replace"), result.stderr) for line in text.splitlines()]
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")
