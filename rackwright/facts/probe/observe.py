"""The basic reads of the probe; a failed read becomes an unknown value with the reason and stops no other read."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import stat
import subprocess
import time
from fnmatch import filter as matching
from typing import Any, Callable

TOOL_SECONDS = 60
"""Maximum time of one program."""
TOOLS_SECONDS = 140
"""Time from the start of the probe after which a program has only LEAST_SECONDS: the caller waits three minutes."""
LEAST_SECONDS = 1.0
SLOW_FAILURE_SECONDS = 15
"""Time from which a program that fails counts as one that hangs, such as kubectl without an answer of its server."""
OF_DEVICES = ("smartctl", "nvme", "wipefs")
"""Programs that hang because of one device, and answer about others."""
OUTPUT_BYTES = 32 << 20
"""Maximum size of the output of a program. Accounts with few rights control parts of some outputs."""
NOWHERE = "/proc/nowhere"
"""A path that does not exist and that no account can make. kubectl ends with an error if a file is in its place."""
OF_KUBECTL = {"KUBECACHEDIR": f"{NOWHERE}/cache", "KUBECTL_KUBERC": "false"}
"""Environment in which kubectl has neither a cache nor settings of its own.

Without HOME it takes both from the current directory, where an account that may only probe can write.
"""
ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": NOWHERE, **OF_KUBECTL}
"""Environment of programs: none of them finds settings or a cache of the caller, or leaves a file."""
FOLDER = "/"
"""Current directory of programs."""
UNTRUSTED_BYTES = 1 << 20
"""Maximum size of a file that the probe reads if another account than root may write it."""
UNTRUSTED_NAMES = 10_000
"""Maximum number of names in a directory that the probe reads if another account than root may write it."""


class ReadError(Exception):
    """A value cannot be read; the message is the reason in the facts."""


class OutputTooLarge(ReadError):
    """A command printed more than the probe keeps."""


class CommandFailed(ReadError):
    """A command ended with an exit status that reports a failure."""


def unknown_value(reason: str) -> dict[str, str]:
    """Return the form in which facts record that a value is unknown."""
    return {"unknown": reason}


def unwrap(value: Any) -> Any:
    """Return *value*.

    Raises:
        ReadError: the value is unknown; says why.
    """
    if isinstance(value, dict) and value.keys() == {"unknown"}:
        raise ReadError(value["unknown"])
    return value


def attempt(reader: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of *reader*, or an unknown value with the reason of its failure."""
    try:
        return reader(*arguments)
    except ReadError as reason:
        return unknown_value(str(reason))
    except OSError as error:
        return unknown_value(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:  # any error: one odd place on a host must not hide all others
        return unknown_value(f"{type(error).__name__}: {error}")


def read(path: str) -> str:
    """Return the text of a small file of /sys, /proc or /etc, without surrounding white space and NULs."""
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "surrogateescape").strip("\0 \n\t")


def number(path: str) -> int:
    """Return the number at the start of a file."""
    words = read(path).split()
    if not words:
        raise ReadError(f"{path} is empty")
    return int(words[0])


def read_any(*paths: str) -> str:
    """Return the text of the first of these files that exists and is not empty; otherwise an empty text."""
    return next((text for path in paths if os.path.exists(path) for text in [read(path)] if text), "")


def listing(folder: str, pattern: str = "*") -> list[str]:
    """Return the sorted names in *folder*; empty if there is no such folder."""
    try:
        return sorted(matching(os.listdir(folder), pattern))
    except FileNotFoundError:
        return []


def open_untrusted(folder: str, name: str = "", directory: bool = False) -> int:
    """Return a descriptor of *name* below *folder*, where another account than root may create anything.

    No part of *name* may be a link, and the file must be a regular one. The function never waits for the writer of a
    FIFO. Only root may control the path of *folder* itself.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: the file is no regular file, or with *directory* no directory.
    """
    parts = [part for part in name.split("/") if part]
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor: int | None = None
    if len(parts) == 1:  # root controls the folder's path: one call instead of two, for thousands of files
        parts = [f"{folder}/{name}"]
    else:
        descriptor = os.open(folder, flags | os.O_DIRECTORY)
    try:
        for number, part in enumerate(parts, start=1):
            between = number < len(parts) or directory
            child = os.open(part, flags | os.O_NOFOLLOW | (os.O_DIRECTORY if between else 0), dir_fd=descriptor)
            if descriptor is not None:
                os.close(descriptor)
            descriptor = child
        assert descriptor is not None
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISDIR(mode) if directory else stat.S_ISREG(mode)):
            raise ReadError(f"{folder}/{name} is no {'directory' if directory else 'regular file'}")
        return descriptor
    except BaseException as error:
        if descriptor is not None:
            os.close(descriptor)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            note = "; links are not followed there" if error.errno in (errno.ELOOP, errno.ENOTDIR) else ""
            raise ReadError(f"{folder}/{name}: {error.strerror}{note}") from None
        raise


def read_untrusted(folder: str, name: str, limit: int = UNTRUSTED_BYTES, tail: bool = False) -> bytes:
    """Return the content of a file that another account than root may write.

    Args:
        limit: Maximum size; with *tail*, the last *limit* bytes of a larger file are read.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: the file is no regular file, or larger than *limit*.
    """
    file = open_untrusted(folder, name)
    try:
        size = os.fstat(file).st_size
        if tail:
            return os.pread(file, limit, max(0, size - limit))
        # a buffer of the size of the file: one of the limit takes longer than the rest, for thousands of small files
        content = os.pread(file, min(size, limit) + 1, 0)
        if len(content) > size:  # the file has grown since, or is one of the kernel's, which have no size
            content = os.pread(file, limit + 1, 0)
        if max(size, len(content)) > limit:
            raise ReadError(f"{folder}/{name} is larger than {limit} bytes")
        return content
    finally:
        os.close(file)


def list_untrusted(folder: str, name: str = "", pattern: str = "*") -> list[str]:
    """Return the sorted names in a directory that another account than root may write; empty if it does not exist.

    Raises:
        ReadError: it is no directory, or it has more than UNTRUSTED_NAMES names.
    """
    try:
        directory = open_untrusted(folder, name, directory=True)
    except FileNotFoundError:
        return []
    names = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) > UNTRUSTED_NAMES:
                    raise ReadError(f"{folder}/{name} has more than {UNTRUSTED_NAMES} entries")
    finally:
        os.close(directory)
    return sorted(matching(names, pattern))


class Hanging:
    """The programs that have hung in this probe, and the time from which none is waited for."""

    def __init__(self) -> None:
        self._end: float | None = None
        self._reasons: dict[tuple[str, ...], str] = {}

    def begin(self) -> None:
        """Begin to count the time of a probe."""
        self._end = time.monotonic() + TOOLS_SECONDS
        self._reasons = {}

    def seconds(self, most: float) -> float:
        """Return the time for the next program or part of the probe, at most *most* seconds."""
        return most if self._end is None else min(most, max(LEAST_SECONDS, self._end - time.monotonic()))

    def note(self, argv: tuple[str, ...], reason: str) -> None:
        if self._end is not None:
            self._reasons[_program(argv)] = reason

    def check(self, argv: tuple[str, ...]) -> None:
        """Check that the program has not hung yet in this probe: each further wait would be as long.

        Raises:
            ReadError: it has; says why.
        """
        reason = self._reasons.get(_program(argv))
        if reason is not None:
            raise ReadError(f"{reason}; the probe did not start it again")


def _program(argv: tuple[str, ...]) -> tuple[str, ...]:
    return argv if argv[0] in OF_DEVICES else argv[:1]


hanging = Hanging()


def run_process(argv: tuple[str, ...], passes: tuple[int, ...] = ()) -> subprocess.CompletedProcess[bytes]:
    """Return the result of a command, whose output is never kept beyond OUTPUT_BYTES.

    Raises:
        OutputTooLarge: the command printed more, and was killed.
        subprocess.TimeoutExpired: the command took more than TOOL_SECONDS, or than the probe has left, and was killed.
    """
    seconds = hanging.seconds(TOOL_SECONDS)
    end = time.monotonic() + seconds
    process = subprocess.Popen(
        argv,
        env=ENVIRONMENT,
        cwd=FOLDER,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=passes,
    )
    with selectors.DefaultSelector() as ready:
        assert process.stdout is not None and process.stderr is not None
        printed = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
        try:
            for stream in printed:
                ready.register(stream, selectors.EVENT_READ)
            while ready.get_map():
                events = ready.select(max(0.0, end - time.monotonic()))
                if not events:
                    raise subprocess.TimeoutExpired(argv, seconds)
                for key, _ in events:
                    part = os.read(key.fd, 1 << 16)
                    if not part:
                        ready.unregister(key.fd)
                    printed[key.fd] += part
                    if len(printed[key.fd]) > OUTPUT_BYTES:
                        raise OutputTooLarge(f"{argv[0]} printed more than {OUTPUT_BYTES >> 20} MiB")
            process.wait(max(0.1, end - time.monotonic()))
        except BaseException:
            end_process(process)
            raise
        finally:
            process.stdout.close()
            process.stderr.close()
        output, errors = (bytes(each) for each in printed.values())
    return subprocess.CompletedProcess(argv, process.returncode, output, errors)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a program. One that hangs in the kernel stays, and the probe does not wait for it."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)


def run_tool(*argv: str, accepts: int = 0, passes: tuple[int, ...] = ()) -> str:
    """Return the output of a command.

    Args:
        accepts: Bits of the exit status that mean no failure.
        passes: Descriptors that the command inherits.

    Raises:
        OutputTooLarge: the command prints more than OUTPUT_BYTES.
        ReadError: the command is not installed, fails, takes more than TOOL_SECONDS, or has hung before.
    """
    hanging.check(argv)
    started = time.monotonic()
    try:
        result = run_process(argv, passes)
    except FileNotFoundError:
        raise ReadError(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired as late:
        reason = f"{argv[0]} did not end within {late.timeout:g} s"
        hanging.note(argv, reason)
        raise ReadError(reason) from None
    if result.returncode < 0 or result.returncode & ~accepts:
        output = (result.stderr or result.stdout).decode(errors="replace").strip() or "no message"
        reason = f"{argv[0]} ended with {result.returncode}: {output}"
        if time.monotonic() - started > SLOW_FAILURE_SECONDS:
            hanging.note(argv, reason)
        raise CommandFailed(reason)
    return result.stdout.decode(errors="surrogateescape")
