"""The log file of a long test, which also shows its progress on the terminal."""

import contextlib
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".rackwright" / "accept"
"""Logs and temporary projects of the last run."""


class Log:
    """The log file of one test; a call writes a line of progress there and to the terminal."""

    def __init__(self, id: str) -> None:
        self.id = id
        name = re.sub(r"[^\w.]+", "-", id).strip("-")
        self.path, self.directory = KEPT / f"{name}.log", KEPT / name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("")
        self._began = time.monotonic()
        self._writing = threading.Lock()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __call__(self, text: str) -> None:
        """Write a line of progress to the log and to the terminal."""
        print(f"  {self.id} {self.seconds:4.0f} s  {text}", file=sys.stderr, flush=True)
        self.write(f"--- {text}")

    def write(self, text: str) -> None:
        """Write *text* to the file only."""
        with self._writing, self.path.open("a") as file:
            file.writelines(f"{self.seconds:7.1f}  {line}\n" for line in text.splitlines() or [""])

    def empty_directory(self) -> Path:
        """Return the directory of this test, emptied."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        return self.directory

    def run(
        self,
        argv: Sequence[str],
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run *argv*, write its output to the log line by line, and return the result, whatever its status."""
        self.write(f"$ {' '.join(argv)}" + (f"\n{input}" if input else ""))
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output: tuple[list[str], list[str]] = ([], [])
        readers = [
            threading.Thread(target=self._follow, args=(stream, lines), daemon=True)
            for stream, lines in zip((process.stdout, process.stderr), output, strict=True)
        ]
        for reader in readers:
            reader.start()
        try:
            if process.stdin and input is not None:
                with contextlib.suppress(BrokenPipeError):  # the program ended without reading; its status says why
                    process.stdin.write(input)
                    process.stdin.close()
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"`{' '.join(argv[:4])}` has not ended within {timeout:.0f} s", pytrace=False)
        finally:
            process.kill()
            process.wait()
        for reader in readers:
            reader.join(5)  # a process that it started may hold the stream open
        self.write(f"= {status}")
        return subprocess.CompletedProcess(argv, status, "".join(output[0]), "".join(output[1]))

    def _follow(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line)
            self.write(line)
