"""A thread that reads the command lines and environments of all processes."""

import contextlib
import threading
from pathlib import Path

SAMPLE_SECONDS = 0.02


class Watch(threading.Thread):
    """Reads the command lines and environments of all processes repeatedly, until the end of the ``with`` block."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.lines: set[bytes] = set()
        """All command lines that were read."""
        self.ours: dict[str, set[bytes]] = {}
        """Environments of the provider and of its child processes, by program."""

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.over.set()
        self.join()

    def run(self) -> None:
        while not self.over.wait(SAMPLE_SECONDS):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    line = (process / "cmdline").read_bytes()
                    self.lines.add(line)
                    for program in (b"rackwright.provider", b"ansible-playbook"):
                        if program in line and b"\0" in line and not line.startswith(b"/bin/sh"):
                            environment = (process / "environ").read_bytes()
                            self.ours.setdefault(program.decode(), set()).add(environment)
