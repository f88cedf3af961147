"""What a check is, how it speaks, and how all of them are run."""

import contextlib
import re
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".rackwright" / "accept"
"""Logs and temporary projects; those of the last run are kept."""


class Short(Exception):
    """A promise is not kept; says how."""


class Skipped(Exception):
    """It cannot be judged here; says why."""


class Log:
    """One check's log file. What is said to it, a person who waits reads as well."""

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
        """Tell how the check gets on."""
        print(f"  {self.id} {self.seconds:4.0f} s  {text}", file=sys.stderr, flush=True)
        self.write(f"--- {text}")

    def write(self, text: str) -> None:
        """Note *text* in the file alone."""
        with self._writing, self.path.open("a") as file:
            file.writelines(f"{self.seconds:7.1f}  {line}\n" for line in text.splitlines() or [""])

    def empty_directory(self) -> Path:
        """Return the check's own directory, with nothing in it."""
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
        """Run *argv* into the log, line by line as it comes, and return how it ended, whatever its status."""
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
        said: tuple[list[str], list[str]] = ([], [])
        readers = [
            threading.Thread(target=self._follow, args=(stream, lines), daemon=True)
            for stream, lines in zip((process.stdout, process.stderr), said, strict=True)
        ]
        for reader in readers:
            reader.start()
        try:
            if process.stdin and input is not None:
                with contextlib.suppress(BrokenPipeError):  # it ended without reading; its status tells why
                    process.stdin.write(input)
                    process.stdin.close()
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Short(f"`{' '.join(argv[:4])}` has not ended within {timeout:.0f} s") from None
        finally:
            process.kill()
            process.wait()
        for reader in readers:
            reader.join(5)  # what it started may hold the stream open, and goes on
        self.write(f"= {status}")
        return subprocess.CompletedProcess(argv, status, "".join(said[0]), "".join(said[1]))

    def _follow(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line)
            self.write(line)


Check = Callable[[Log], str]
"""Returns the figure; raises Short or Skipped."""
CHECKS: dict[str, Check] = {}


def check(id: str) -> Callable[[Check], Check]:
    """Enter a function as the check *id*: ``foundation.2``, or a part of it, ``foundation.2[seed]``."""

    def enter(function: Check) -> Check:
        CHECKS[id] = function
        return function

    return enter


def chosen(only: str) -> list[str]:
    """Return the checks that *only* names: one, all of a line, or all of a capability; all where it is empty."""
    named = [id for id in CHECKS if not only or id == only or id.startswith((f"{only}.", f"{only}["))]
    return sorted(named, key=lambda id: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", id)])


def need(holds: object, reason: str) -> None:
    """Raise Short with *reason* unless it *holds*."""
    if not holds:
        raise Short(reason)


def eventually(holds: Callable[[], object], what: str, seconds: float = 180) -> None:
    """Return once it *holds*.

    Raises:
        Short: it has not come true within *seconds*.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Short(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)


def judge(id: str) -> bool:
    """Run the check *id*, print its line, and return whether it falls short."""
    log = Log(id)
    try:
        word, reason = "ok", CHECKS[id](log)
    except Skipped as skipped:
        word, reason = "skipped", str(skipped)
    except Short as short:
        word, reason = "short", str(short)
    except Exception as crash:  # one that crashes shows nothing, and must not hide the others
        log.write(traceback.format_exc())
        word, reason = "short", f"the check itself ended with {type(crash).__name__}: {crash}"
    log.write(f"{word}: {reason}")
    where = f"\n{'':30}log: {log.path}" if word == "short" else ""
    print(f"{id:20} {word:8} {reason} ({log.seconds:.0f} s){where}", flush=True)
    return word == "short"
