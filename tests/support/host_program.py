"""A host whose commands run on this computer, for programs that are sent to hosts."""

import subprocess
from collections.abc import Callable, Sequence

from rackwright.hosts.transport import CommandResult


class LocalHost:
    """Takes the place of a connection; it notes what each command was given."""

    def __init__(self) -> None:
        self.given = b""

    def run(
        self, argv: Sequence[str], stdin: bytes = b"", timeout: float = 60, on_line: Callable[[str], None] | None = None
    ) -> CommandResult:
        self.given += " ".join(argv).encode() + stdin
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout)
        if on_line:
            for line in done.stdout.decode().splitlines():
                on_line(line)
        return CommandResult(done.returncode, done.stdout, done.stderr.decode())

    def command_error(self, argv: Sequence[str], result: CommandResult) -> Exception:
        return AssertionError(result.stderr)
