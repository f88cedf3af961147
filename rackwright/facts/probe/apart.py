"""Parts of the probe that run in a process of their own: what holds one up, or crashes it, ends at a deadline."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
from contextlib import suppress
from typing import Any, Callable, Mapping

from rackwright.facts.probe.observe import attempt, unknown

SECONDS = 20
"""How long a part may take that reads what accounts without rights control."""
MEMORY_BYTES = 512 << 20
"""How much memory such a part may take."""
ANSWER_BYTES = 16 << 20
"""How much any part may answer."""


def apart(
    name: str, look: Callable[..., Any], *arguments: Any, seconds: float = SECONDS, memory: int = MEMORY_BYTES
) -> Any:
    """Return what *look* returns, or why there is no answer, in which it is called *name*."""
    return all_apart({name: lambda: look(*arguments)}, seconds, memory)[name]


def all_apart(
    looks: Mapping[str, Callable[[], Any]], seconds: float = SECONDS, memory: int = MEMORY_BYTES
) -> dict[str, Any]:
    """Return what each of *looks* returns, by its name, or why there is no answer; all run at once.

    Args:
        seconds: How long all of them together may take; what runs then is killed, with all that it started.
        memory: How many bytes of memory each may take; 0: any number.
    """
    end = time.monotonic() + seconds
    started = {name: _start(look, memory) for name, look in looks.items()}
    answers = _answers([pipe for _, pipe in started.values()], end)
    results = {}
    for name, (child, pipe) in started.items():
        how, answer = answers[pipe]
        os.close(pipe)
        status = _end(child, how == "closed")
        if how == "late":
            results[name] = unknown(f"{name}: no answer within {seconds:g} s")
        elif how == "large":
            results[name] = unknown(f"{name}: an answer of more than {ANSWER_BYTES >> 20} MiB")
        else:
            results[name] = _parse(name, answer, status)
    return results


def become_owner(path: str) -> None:
    """Give up root's rights for those of the account that owns *path*; for a process that is apart, and for ever.

    What that account has put there is read with its own rights: a link leads to nothing that it could not read itself.
    """
    status = os.stat(path)
    if os.geteuid() == 0 and status.st_uid != 0:
        os.setgroups([])
        os.setgid(status.st_gid)
        os.setuid(status.st_uid)


def _start(look: Callable[[], Any], memory: int) -> tuple[int, int]:
    """Start a process for *look* and return its number, and the pipe that it answers into."""
    answers, speaks = os.pipe()
    child = os.fork()
    if child:
        os.close(speaks)
        return child, answers
    try:
        os.setpgid(0, 0)
        os.close(answers)
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # otherwise the reader of the probe waits for a process that cannot be killed
            os.dup2(quiet, stream)
        if memory:
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        with os.fdopen(speaks, "w") as pipe:
            json.dump(attempt(look), pipe)
    finally:
        os._exit(0)


def _answers(pipes: list[int], end: float) -> dict[int, tuple[str, bytes]]:
    """Return for each pipe how it ended (``closed``, ``late``, ``large``), and what came out of it before."""
    found = dict.fromkeys(pipes, ("late", b""))
    poll = select.poll()  # select() takes no descriptor above 1023
    for pipe in pipes:
        poll.register(pipe, select.POLLIN)
    reading = len(pipes)
    while reading and (ready := poll.poll(max(0.0, end - time.monotonic()) * 1000)):
        for pipe, _ in ready:
            part = os.read(pipe, 1 << 16)
            answer = found[pipe][1] + part
            found[pipe] = ("late", answer)
            if not part or len(answer) > ANSWER_BYTES:
                found[pipe] = ("large" if part else "closed", answer)
                poll.unregister(pipe)
                reading -= 1
    return found


def _end(child: int, answered: bool) -> int:
    """End a process and all that it started, and return its status; nothing waits for one that has not *answered*.

    One that waits in the kernel cannot be killed.
    """
    for kill in (os.killpg, os.kill):  # it may not have a group of its own yet
        with suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    return os.waitpid(child, 0 if answered else os.WNOHANG)[1]


def _parse(name: str, answer: bytes, status: int) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return unknown(f"{name}: its process ended with signal {status & 0x7F}")
