"""One SSH connection to one host: pinned key, declared logins, jump host, commands as argument lists."""

import contextlib
import logging
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rackwright.errors import Diagnostic, HostUnreachable
from rackwright.facts import program
from rackwright.hosts.login import LoginFailed, authenticate, login_refused, only_looks, ssh_command
from rackwright.hosts.pins import check_host_key, pinned_keys
from rackwright.schema.ssh import Endpoint, Login

if TYPE_CHECKING:
    from paramiko import Channel, Transport

SUDO = "/usr/bin/sudo"
"""Program of the distribution; by its name alone, the shell of a login finds one in /usr/local/bin first."""
CONNECT_SECONDS = 20.0
HANDSHAKE_SECONDS = 60.0
"""For the banner, the key exchange and each login: an emulated or swapping host needs tens of seconds."""
KEEPALIVE_SECONDS = 15
WAKE_SECONDS = 1.0
"""Interval at which an idle connection checks for a local close; at paramiko's 0.1 s, 200 take 6 % of a core."""
SILENCE_MS = 60_000
"""Time before the kernel drops a connection with unacknowledged bytes; its default is 15 min."""


ANSWER_BYTES, STDERR_BYTES, LINE_BYTES = 64 << 20, 1 << 20, 1 << 20
"""Limits of a command's output: stdout, stderr, and one line that is passed on at once."""
TRACEBACK = "Traceback (most recent call last)"
"""The line with which Python begins to say where a program failed."""


class ConnectionLost(HostUnreachable):
    """An open connection ended. Its commands may still be running."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """Exit status and output of a command."""

    status: int
    """Exit status; -1 after a signal."""
    stdout: bytes
    stderr: str


class Connection:
    """An authenticated connection. Several threads may run commands over it at once."""

    def __init__(self, endpoint: Endpoint, via: "Connection | None" = None) -> None:
        """Connect, check the pin, log in.

        Raises:
            HostUnreachable: no answer, or (LoginRefused) every login was refused.
            HostKeyRefused: unknown or changed host key.
        """
        self.endpoint, self._via = endpoint, via
        self._pins = pinned_keys(endpoint)
        self._transport, self.login = self._log_in()
        self._transport.set_keepalive(KEEPALIVE_SECONDS)

    @property
    def alive(self) -> bool:
        return self._transport.is_active()

    def close(self) -> None:
        self._transport.close()

    def run(
        self,
        argv: Sequence[str],
        stdin: bytes = b"",
        timeout: float = 60,
        on_line: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run *argv* and return how it ended, whatever its status.

        *stdin* is sent whole before output is read: the command must read it before it prints 2 MiB (the window).

        Args:
            timeout: Seconds from now to its end.
            on_line: Called with each line of its stdout as it comes, without the newline. Then the command may print
                any number of lines, of which the result keeps the first.

        Raises:
            ConnectionLost: the connection ended before the command did.
            HostUnreachable: no channel could be opened, *timeout* passed, or the command printed too much.
        """
        deadline = time.monotonic() + timeout
        with contextlib.closing(self.open(argv)) as channel:
            # a command may end, or ignore its stdin, before all was sent; the answer says whether the host is there
            with contextlib.suppress(OSError, EOFError):
                channel.settimeout(timeout)
                channel.sendall(stdin)
                end_input(channel)
            try:
                chunks = _chunks(channel.recv, channel, deadline)
                stdout = _first_bytes(_tee(chunks, on_line)) if on_line else _whole(chunks, ANSWER_BYTES)
                return self._result(channel, stdout, deadline)
            except TooLong as error:
                raise HostUnreachable(
                    Diagnostic(
                        self.endpoint.host,
                        f"`{argv[0]}` {error}",
                        help="Find out what the host has in great number, and who controls the host",
                        id="host-slow",
                    )
                ) from None
            except TimeoutError:
                raise HostUnreachable(
                    Diagnostic(
                        self.endpoint.host,
                        f"`{argv[0]}` gave no answer within {timeout:.0f} s",
                        help="Check the load of the host, and run the same command again",
                        id="host-slow",
                    )
                ) from None

    def open(self, argv: Sequence[str]) -> "Channel":
        """Start *argv* (through sudo where the login becomes root) and return its channel.

        Raises:
            OnlyLooks: *argv* is not the probe, and the login may run nothing else.
            ConnectionLost: no channel could be opened.
        """
        from paramiko import SSHException

        if self.login.is_read_only and tuple(argv) != (program.PATH,):
            raise only_looks(self.endpoint, self.login)
        try:
            channel = self._transport.open_session(timeout=HANDSHAKE_SECONDS)
            channel.exec_command(shlex.join([*((SUDO, "-n", "--") if self.login.become else ()), *argv]))
            return channel
        except (SSHException, OSError, EOFError) as error:
            raise self.connection_lost(str(error) or "no session could be opened") from None

    def forward(self, address: str, port: int) -> "Channel":
        """Open a TCP connection from this host to *address*, for a host behind it."""
        return self._transport.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=CONNECT_SECONDS)

    @contextlib.contextmanager
    def listening(self, port: int, answer: "Callable[[Channel], None]") -> Iterator[None]:
        """Have the host listen on *port* of its loopback interface; pass each channel to *answer*, which returns soon.

        Raises:
            OSError: forwarding is disabled, or another process listens there.
        """
        from paramiko import SSHException

        place = "127.0.0.1", port
        try:
            self._transport.request_port_forward(*place, handler=lambda channel, origin, server: answer(channel))
        except (SSHException, EOFError) as error:
            raise OSError(f"its SSH server does not listen on port {port} for us ({error})") from None
        try:
            yield
        finally:
            with contextlib.suppress(SSHException, OSError, EOFError):  # the forwarding ends with its connection
                self._transport.cancel_port_forward(*place)

    def exit_error(self, argv: Sequence[str], channel: "Channel") -> HostUnreachable:
        """Return the error for an *argv* that ended too early. Its output must have been read to the end."""
        try:
            result = self._result(channel, b"", time.monotonic() + CONNECT_SECONDS)
        except (TimeoutError, TooLong):
            return self.connection_lost("no reason given")
        except ConnectionLost as error:
            return error
        return self.command_error(argv, result)

    def command_error(self, argv: Sequence[str], result: CommandResult) -> HostUnreachable:
        """Return the error for an *argv* that failed."""
        last_line = result.stderr.strip().splitlines()[-1:] or ["nothing"]
        if TRACEBACK in result.stderr:
            places = [line.strip() for line in result.stderr.splitlines() if line.startswith('  File "')]
            return HostUnreachable(
                Diagnostic(
                    self.endpoint.host,
                    f'a program of rackwright failed there, and printed "{last_line[0]}"',
                    help="Report it with these lines; the same command, run again, first reads the state of the host",
                    note="; ".join(places[-3:]) or "it named no place",
                    id="program-failed",
                )
            )
        sudo = f"{SUDO} -n " if self.login.become else ""
        help = f"Check `{ssh_command(self.endpoint, self.login)} {sudo}{argv[0]} --version`"
        if self.login.is_read_only:
            help = f"Apply role access to the host, with {self.login.user} as an auditor"
        return HostUnreachable(
            Diagnostic(
                self.endpoint.host,
                f'{sudo}{argv[0]} failed with status {result.status}, and printed "{last_line[0]}"',
                help=help,
                note="it changed nothing",
                id="sudo-failed",
            )
        )

    def connection_lost(self, reason: str) -> ConnectionLost:
        """Close the connection and return the error for that."""
        self.close()
        return ConnectionLost(
            Diagnostic(
                self.endpoint.host,
                f"the connection ended ({reason})",
                help="Run the same command again, which first reads the state of the host",
                note="a command that was running may still run",
                id="connection-lost",
            )
        )

    def _result(self, channel: "Channel", stdout: bytes, deadline: float) -> CommandResult:
        stderr = _whole(_chunks(channel.recv_stderr, channel, deadline), STDERR_BYTES).decode(errors="replace")
        if not channel.status_event.wait(max(deadline - time.monotonic(), 0)):
            raise TimeoutError
        if channel.exit_status == -1 and not self.alive:
            raise self.connection_lost("it was closed")
        return CommandResult(channel.exit_status, stdout, stderr)

    def _log_in(self) -> "tuple[Transport, Login]":
        """Try each login on a connection of its own: sshd allows no second user name on one."""
        failures = []
        for login in self.endpoint.logins:
            transport = self._handshake()
            try:
                authenticate(transport, login)
                return transport, login
            except LoginFailed as error:
                failures.append((login, str(error)))
                transport.close()
            except BaseException:
                transport.close()
                raise
        raise login_refused(self.endpoint, failures)

    def _handshake(self) -> "Transport":
        import paramiko

        # it logs tracebacks of what also comes as an exception, and without a handler Python prints them
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)
        transport = None
        try:
            transport = paramiko.Transport(self._socket())
            transport.sock.settimeout(WAKE_SECONDS)
            transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = HANDSHAKE_SECONDS
            options = transport.get_security_options()
            options.key_types = _pinned_first(options.key_types, self._pins)
            transport.start_client()  # with a timeout of its own it would return as if all were well
            key = transport.get_remote_server_key()
            check_host_key(self.endpoint, self._pins, key.get_name(), key.asbytes())
            return transport
        except (paramiko.SSHException, OSError, EOFError) as error:
            if transport:
                transport.close()
            raise self._unreachable(error) from None
        except BaseException:
            if transport:
                transport.close()
            raise

    def _socket(self) -> "socket.socket | Channel":
        if self._via:
            return self._via.forward(self.endpoint.address, self.endpoint.port)
        connected = socket.create_connection((self.endpoint.address, self.endpoint.port), CONNECT_SECONDS)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)
        return connected

    def _unreachable(self, error: Exception) -> HostUnreachable:
        place = f"{self.endpoint.address} port {self.endpoint.port}"
        place += f" through {self._via.endpoint.address}" if self._via else ""
        # paramiko's ChannelException has the reason in `text`
        text = getattr(error, "strerror", None) or getattr(error, "text", None)
        reason = text or str(error) or type(error).__name__
        return HostUnreachable(
            Diagnostic(
                self.endpoint.host,
                reason,  # without the address: this part is stored with the resource
                help=f"Check that the host runs, and that its SSH server listens on {place}",
                id="host-unreachable",
            )
        )


def end_input(channel: Any) -> None:
    """Tell the other side that no input follows, unless it has closed *channel*.

    paramiko's own method releases the channel's lock before it sends. If the command ends at that moment, sshd gets
    the end of the input after the end of the channel, and closes the connection with all its other commands.
    """
    with channel.lock:
        message = channel._send_eof()
        if message is not None:
            channel.transport._send_user_message(message)


def _pinned_first(offered: Sequence[str], pins: dict[str, bytes]) -> tuple[str, ...]:
    """Return the key types with the pinned ones first: the server then shows a key that can be compared."""
    pinned = [name for name in offered if name in pins or ("ssh-rsa" in pins and name.startswith("rsa-sha2"))]
    return (*pinned, *(name for name in offered if name not in pinned))


def _chunks(receive: Callable[[int], bytes], channel: "Channel", deadline: float) -> Iterator[bytes]:
    while True:
        channel.settimeout(max(deadline - time.monotonic(), 0.001))
        if not (chunk := receive(1 << 17)):
            return
        yield chunk


class TooLong(Exception):
    """A command printed more than the limit; the message has the amount."""


def _whole(chunks: Iterator[bytes], limit: int) -> bytes:
    """Return all *chunks* as one.

    Raises:
        TooLong: they have more than *limit* bytes.
    """
    kept = bytearray()
    for chunk in chunks:
        kept += chunk
        if len(kept) > limit:
            raise TooLong(f"printed more than {limit >> 20} MiB")
    return bytes(kept)


def _first_bytes(chunks: Iterator[bytes]) -> bytes:
    """Return the first ANSWER_BYTES of *chunks*, all of which are read."""
    kept = bytearray()
    for chunk in chunks:
        kept += chunk[: ANSWER_BYTES - len(kept)]
    return bytes(kept)


def _tee(chunks: Iterator[bytes], on_line: Callable[[str], None]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        yield chunk
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            on_line(line.decode(errors="replace"))
        if len(rest) > LINE_BYTES:
            raise TooLong(f"printed a line of more than {LINE_BYTES >> 20} MiB")
    if rest:
        on_line(rest.decode(errors="replace"))
