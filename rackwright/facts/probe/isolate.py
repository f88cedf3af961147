"""Isolation parts of the probe: each runs in its own process, so that a crash or a hang ends at a deadline."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
from contextlib import suppress
from typing import Any, Callable, Mapping

from rackwright.facts.probe.observe import attempt, hanging, unknown_value

SECONDS = 20
"""Time limit of a part that reads files of unprivileged accounts."""
MEMORY_BYTES = 512 << 20
"""Memory limit of such a part."""
ANSWER_BYTES = 16 << 20
"""Size limit of the answer of any part."""
ANSWER_SECONDS = 0.2
"""Least time for the transfer of an answer that was complete before the time limit."""


def isolate(
    name: str, reader: Callable[..., Any], *arguments: Any, seconds: float = SECONDS, memory: int = MEMORY_BYTES
) -> Any:
    """Return the result of *reader*, or why it is unknown; *name* names the part in the reason."""
    return isolate_all({name: lambda: reader(*arguments)}, seconds, memory)[name]


def isolate_all(
    readers: Mapping[str, Callable[[], Any]], seconds: float = SECONDS, memory: int = MEMORY_BYTES
) -> dict[str, Any]:
    """Return the result of each of *readers*, or why it is unknown, by its name; all run in parallel.

    Args:
        seconds: Time limit for all together; then the processes that still run are killed, with their children.
        memory: Memory limit of each in bytes; 0 for no limit.
    """
    return Isolation(readers, seconds, memory).results()


class Isolation:
    """Parts of the probe that run in processes of their own, beside the caller, until it asks for their results."""

    def __init__(
        self, readers: Mapping[str, Callable[[], Any]], seconds: float = SECONDS, memory: int = MEMORY_BYTES
    ) -> None:
        """Start a process for each of *readers*; the arguments are those of `isolate_all`."""
        self._seconds = seconds = hanging.seconds(seconds)
        self._end = time.monotonic() + seconds
        self._children = {name: _start(reader, memory) for name, reader in readers.items()}
        self._results: dict[str, Any] = {}

    def results(self) -> dict[str, Any]:
        """Return the result of each reader, or why it is unknown, by its name; the first call waits for the limit."""
        if self._children:
            # a long answer waits in its process until now
            end = max(self._end, time.monotonic() + ANSWER_SECONDS)
            self._results = _results(self._children, end, self._seconds)
            self._children = {}
        return self._results


def _results(children: Mapping[str, tuple[int, int]], end: float, seconds: float) -> dict[str, Any]:
    answers = _answers([pipe for _, pipe in children.values()], end)
    results = {}
    for name, (child, pipe) in children.items():
        ending, answer = answers[pipe]
        os.close(pipe)
        status = _end(child, ending == "closed")
        if ending == "late":
            results[name] = unknown_value(f"{name}: no answer within {seconds:g} s")
        elif ending == "large":
            results[name] = unknown_value(f"{name}: an answer of more than {ANSWER_BYTES >> 20} MiB")
        else:
            results[name] = _parse(name, answer, status)
    return results


def become_owner(path: str) -> None:
    """Drop the rights of root for those of the account that owns *path*, permanently; for an isolated process only.

    The process then reads the files of the account with the account's rights, so that a link reveals nothing more.
    """
    status = os.stat(path)
    if os.geteuid() == 0 and status.st_uid != 0:
        os.setgroups([])
        os.setgid(status.st_gid)
        os.setuid(status.st_uid)


def _start(reader: Callable[[], Any], memory: int) -> tuple[int, int]:
    """Start a process for *reader*; return its process id, and the read end of the pipe for its answer."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child:
        os.close(write_end)
        return child, read_end
    try:
        os.setpgid(0, 0)
        os.close(read_end)
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # an open stream would make the SSH client wait for a process that cannot be killed
            os.dup2(quiet, stream)
        if memory:
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        with os.fdopen(write_end, "w") as pipe:
            json.dump(attempt(reader), pipe)
    finally:
        os._exit(0)


def _answers(pipes: list[int], end: float) -> dict[int, tuple[str, bytes]]:
    """Return for each pipe how it ended (``closed``, ``late`` or ``large``), and the bytes read from it."""
    answers = dict.fromkeys(pipes, ("late", b""))
    poll = select.poll()  # select() accepts no descriptor above 1023
    for pipe in pipes:
        poll.register(pipe, select.POLLIN)
    reading = len(pipes)
    while reading and (ready := poll.poll(max(0.0, end - time.monotonic()) * 1000)):
        for pipe, _ in ready:
            part = os.read(pipe, 1 << 16)
            answer = answers[pipe][1] + part
            answers[pipe] = ("late", answer)
            if not part or len(answer) > ANSWER_BYTES:
                answers[pipe] = ("large" if part else "closed", answer)
                poll.unregister(pipe)
                reading -= 1
    return answers


def _end(child: int, wait: bool) -> int:
    """Kill a process and its children, and return its status; *wait* for its end only if it has answered.

    A process that hangs in the kernel cannot be killed.
    """
    for kill in (os.killpg, os.kill):  # the process may not have its own group yet
        with suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    return os.waitpid(child, 0 if wait else os.WNOHANG)[1]


def _no_number(name: str) -> Any:
    """Return the value in the place of NaN or Infinity, which an account may write into its files."""
    return unknown_value("a number that is not finite")


def _parse(name: str, answer: bytes, status: int) -> Any:
    try:
        return json.loads(answer, parse_constant=_no_number)
    except ValueError:
        return unknown_value(f"{name}: its process ended with signal {status & 0x7F}")
