"""SSH settings of a host: address, port, jump host, and logins in the order of their trial."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rackwright.schema import formats
from rackwright.schema.base import Many, Schema
from rackwright.schema.problem import Problem

HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
USER = r"[A-Za-z0-9_][A-Za-z0-9_.@+\\-]*\$?"
"""Names of accounts on Linux and in directories, without options of ssh or templates of Ansible."""
PORT_MAX = 65535


def parse_address(text: str) -> str:
    """Return an IP address in canonical form, or a host name in lower case. A mapped IPv4 address becomes IPv4.

    Raises:
        Problem: the text is neither.
    """
    try:
        address = formats.parse_address(text)
        return str(getattr(address, "ipv4_mapped", None) or address)
    except ValueError:
        if re.fullmatch(r"[0-9.]+|.*:.*", text) or not HOST_NAME.fullmatch(text):
            help = f"Write it like 192.0.2.11{'; the port stands under ssh' if text.count(':') == 1 else ''}"
            raise Problem(f"got {text!r}", "an address is an IP address or a host name", help) from None
    return text.lower()


def parse_user(text: str) -> str:
    """Return the name of an account on a host.

    Raises:
        Problem: a shell or Ansible would read the name as an option, a template or a path.
    """
    if not re.fullmatch(USER, text):
        expected = "an account begins with a letter, a digit or _, and has letters, digits and . _ - @ + \\ after it"
        raise Problem(f"got the user {text!r}", expected, "Write it like admin")
    return text


def parse_jump(text: str) -> tuple[str | None, str, int]:
    """Return user, address and port of ``user@address:port``; an IPv6 address with a port is in brackets.

    Raises:
        Problem: the text has another form.
    """
    match = re.fullmatch(r"(?:([^@\s]+)@)?(?:\[(.+)\]|([^:]+)|(.+:.+:.+))(?::([1-9][0-9]{0,4}))?", text)
    if match is None or int(match[5] or 22) not in range(1, PORT_MAX + 1):
        expected, help = "a jump host is user@address or user@address:port", "Write it like admin@192.0.2.1:22"
        raise Problem(f"got {text!r}", expected, help)
    user, bracketed, plain, ipv6, port = match.groups()
    if user is not None:
        parse_user(user)
    return user, parse_address(bracketed or plain or ipv6), int(port or 22)


def _jump(text: str) -> str:
    parse_jump(text)
    return text


class Login(Schema):
    """A login with a key or the agent."""

    name: str
    """Name for messages."""
    user: Annotated[str, AfterValidator(parse_user)]
    """Account on the host."""
    key: str | None = None
    """Path of the private key, relative to the fleet's file; ``~`` is the home directory."""
    certificate: str | None = None
    """Path of an OpenSSH certificate for the key."""
    agent: bool = False
    """Use the keys of the running ssh-agent."""
    become: bool | Literal["probe"] = True
    """Run commands with ``sudo -n``; false if the user is root; ``probe`` if the account may only run the probe."""

    @property
    def is_read_only(self) -> bool:
        """Whether the login may run nothing but the host's own probe as root."""
        return self.become == "probe"

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if not (self.key or self.agent):
            raise Problem("got neither key nor agent", "a login has a credential", "Add key: PATH, or agent: true")
        if self.certificate and not self.key:
            problem, expected = f"got {self.certificate!r} and no key", "a certificate is for a private key"
            raise Problem(problem, expected, "Add key: PATH", ("certificate",))
        return self


class Ssh(Schema):
    """SSH settings of a fleet, a group or a host."""

    port: Annotated[int, Field(ge=1, le=PORT_MAX)] = 22
    """TCP port of the host's sshd."""
    jump: Annotated[str, AfterValidator(_jump)] | None = None
    """Jump host as ``user@address`` or ``user@address:port``; the default user is the login's."""
    logins: Many[Login] = ()
    """Logins in the order of their trial."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address and logins of one host, with absolute paths. Pulumi's state never holds an endpoint."""

    host: str
    address: str
    port: int
    logins: tuple[Login, ...]
    known_hosts: Path
    """Pinned host keys in OpenSSH's form; rackwright refuses all other keys."""
    jump: "Endpoint | None" = None

    @property
    def first_change_login(self) -> tuple[Login, ...]:
        """The first login that may change the host; empty if all are read-only."""
        return tuple(login for login in self.logins if not login.is_read_only)[:1]
