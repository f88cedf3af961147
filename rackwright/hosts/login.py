"""Log in to a host with its declared logins in order, and report why each was refused."""

import shlex
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from getpass import getpass
from typing import TYPE_CHECKING

from rackwright.errors import Diagnostic, HostUnreachable, UserError
from rackwright.schema.ssh import Endpoint, Login

if TYPE_CHECKING:
    from paramiko import PKey, Transport

CODE_SECONDS = 25.0
"""Seconds that a typed code is reused: it is valid for half a minute, and once on each host."""


class LoginRefused(HostUnreachable):
    """The host answers and refuses every declared login."""


class OnlyLooks(UserError):
    """The login is read-only, and the command is not the probe."""


class LoginFailed(Exception):
    """One login failed; the message has the reason as ssh prints it."""


def authenticate(transport: "Transport", login: Login) -> None:
    """Log in on a connection whose host key was checked.

    Raises:
        LoginFailed: the server refused it, or the key cannot be used.
    """
    from paramiko import SSHException

    refusals = []
    for key in _keys(login):
        try:
            if further := transport.auth_publickey(login.user, key):
                _answer(transport, login, further)
            return
        except (SSHException, OSError, EOFError) as error:
            refusals.append(error)
            if not transport.is_active():
                break  # sshd hangs up after MaxAuthTries keys
    raise LoginFailed(_in_words_of_ssh(refusals, transport))


def _answer(transport: "Transport", login: Login, further: Sequence[str]) -> None:
    """Send the one-time code that the server requires beside the key."""
    from paramiko import AuthenticationException

    if "keyboard-interactive" not in further:
        raise LoginFailed(f"the server accepted the key, and requires {', '.join(further)} as well")
    if (code := CODES.of(login.user)) is None:
        raise LoginFailed("the server requires a one-time code, and there is no terminal to type it")
    try:
        transport.auth_interactive(login.user, lambda title, instructions, prompts: [code for _ in prompts])
    except AuthenticationException:
        raise LoginFailed(
            "the server accepted the key, and refused the one-time code, which is wrong or used"
        ) from None


class Codes:
    """One-time codes that the operator types. One code serves all hosts that require it at the same time."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._given: dict[str, tuple[float, str]] = {}

    def of(self, user: str) -> str | None:
        """Return a recently typed code of *user*, or ask for one; None without a terminal."""
        with self._asking:
            given, code = self._given.get(user, (-CODE_SECONDS, ""))
            if time.monotonic() - given < CODE_SECONDS:
                return code
            if not sys.stdin.isatty():
                return None
            code = getpass(f"Code of {user}: ").strip()
            self._given[user] = (time.monotonic(), code)
            return code


CODES = Codes()
"""The codes of this process."""


def _in_words_of_ssh(refusals: Sequence[Exception], transport: "Transport") -> str:
    from paramiko import AuthenticationException, BadAuthenticationType

    if not refusals:
        return "the running ssh-agent has no key"
    last = refusals[-1]
    if isinstance(last, BadAuthenticationType):
        return f'ssh reported "Permission denied ({",".join(last.allowed_types)})"'
    if isinstance(last, AuthenticationException) and transport.is_active():
        return 'ssh reported "Permission denied (publickey)"'
    return f'ssh reported "{last}"'


def _keys(login: Login) -> "Iterator[PKey]":
    if login.key:
        yield _key_of_file(login.key, login.certificate)
    if login.agent:
        from paramiko import Agent

        yield from Agent().get_keys()


def _key_of_file(path: str, certificate: str | None) -> "PKey":
    from paramiko import PKey, SSHException

    try:
        key = PKey.from_path(path)
        if certificate:
            key.load_certificate(certificate)
        return key
    except FileNotFoundError as error:
        raise LoginFailed(f"there is no file {error.filename}") from None
    except TypeError:  # cryptography's answer to a key with a passphrase
        raise LoginFailed(f"{path} has a passphrase; load it into ssh-agent and declare agent: true") from None
    except (OSError, ValueError, SSHException) as error:
        raise LoginFailed(f"{certificate or path} cannot be used ({error})") from None


def _credential(login: Login) -> str:
    files = [f"the certificate {login.certificate}"] if login.certificate else [f"the key {login.key}"]
    return " and ".join([*(files if login.key else []), *(["the keys of ssh-agent"] if login.agent else [])])


def login_refused(endpoint: Endpoint, failures: list[tuple[Login, str]]) -> LoginRefused:
    """Return the error that names every login tried, in order, with the command that shows the same by hand."""
    if not failures:
        return LoginRefused(
            Diagnostic(endpoint.host, "no login is declared for the host", help="Add ssh.logins to the fleet")
        )
    problem = "; then ".join(f"{reason} for user {login.user} with {_credential(login)}" for login, reason in failures)
    help = f"Check `{ssh_command(endpoint, failures[0][0])} true`"
    return LoginRefused(
        Diagnostic(endpoint.host, problem, help=help, note="no step was run on this host", id="login-refused")
    )


def only_looks(endpoint: Endpoint, login: Login) -> OnlyLooks:
    problem, expected = f"the login {login.name} is read-only", "a login that becomes root"
    help = "Put such a login before it under ssh.logins"
    return OnlyLooks(Diagnostic(endpoint.host, problem, expected, help))


def ssh_command(endpoint: Endpoint, login: Login) -> str:
    """Return the command line that reaches *endpoint* the same way by hand."""
    argv = ["ssh", "-o", f"UserKnownHostsFile={endpoint.known_hosts}"]
    argv += ["-p", str(endpoint.port)] if endpoint.port != 22 else []
    argv += ["-i", login.key] if login.key else []
    argv += ["-o", f"CertificateFile={login.certificate}"] if login.certificate else []
    if jump := endpoint.jump:
        argv += ["-J", f"{jump.logins[0].user}@{jump.address}:{jump.port}"]
    return shlex.join([*argv, f"{login.user}@{endpoint.address}"])
