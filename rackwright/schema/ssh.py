"""How a host is reached: address, port, jump host, and the logins that are tried in order."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rackwright.schema.base import Many, Schema
from rackwright.schema.problem import Problem

HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
USER = r"[A-Za-z0-9_][A-Za-z0-9_.@+\\-]*\$?"
"""Names of accounts on Linux and in directories; never an option of ssh, nor a template of Ansible."""
PORT_MAX = 65535


def parse_address(written: str) -> str:
    """Return an IP address in its one form, or a host name in small letters. An IPv6 one that maps IPv4 is that.

    Raises:
        Problem: it is neither.
    """
    try:
        address = ipaddress.ip_address(written)
        return str(getattr(address, "ipv4_mapped", None) or address)
    except ValueError:
        if re.fullmatch(r"[0-9.]+|.*:.*", written) or not HOST_NAME.fullmatch(written):
            fix = f"Write it like 192.0.2.11{'; the port stands under ssh' if written.count(':') == 1 else ''}"
            raise Problem(f"got {written!r}", "an address is an IP address or a host name", fix) from None
    return written.lower()


def parse_user(written: str) -> str:
    """Return the name of an account on a host.

    Raises:
        Problem: it would be read as an option, a template or a path.
    """
    if not re.fullmatch(USER, written):
        want = "an account begins with a letter, a digit or _, and has letters, digits and . _ - @ + \\ after it"
        raise Problem(f"got the user {written!r}", want, "Write it like admin")
    return written


def parse_jump(written: str) -> tuple[str | None, str, int]:
    """Return user, address and port of ``user@address:port``; an IPv6 address with a port stands in brackets.

    Raises:
        Problem: it has another form.
    """
    match = re.fullmatch(r"(?:([^@\s]+)@)?(?:\[(.+)\]|([^:]+)|(.+:.+:.+))(?::([0-9]+))?", written)
    if match is None or int(match[5] or 22) not in range(1, PORT_MAX + 1):
        want, fix = "a jump host is user@address or user@address:port", "Write it like admin@192.0.2.1:22"
        raise Problem(f"got {written!r}", want, fix)
    user, bracketed, plain, ipv6, port = match.groups()
    if user is not None:
        parse_user(user)
    return user, parse_address(bracketed or plain or ipv6), int(port or 22)


def _jump(written: str) -> str:
    parse_jump(written)
    return written


class Login(Schema):
    """One way to log in. Needs a key or the agent."""

    name: str
    """What messages call it."""
    user: Annotated[str, AfterValidator(parse_user)]
    """Account on the host."""
    key: str | None = None
    """Path of the private key, relative to the fleet's file; ``~`` is the home directory."""
    certificate: str | None = None
    """Path of an OpenSSH certificate for the key."""
    agent: bool = False
    """Take the keys of the running ssh-agent."""
    become: bool | Literal["probe"] = True
    """Commands run through ``sudo -n``; false where the user is root; ``probe`` for who may look, and do no more."""

    @property
    def only_looks(self) -> bool:
        """Whether the host's own probe is all that it may run as root."""
        return self.become == "probe"

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if not (self.key or self.agent):
            raise Problem("got neither key nor agent", "a login has a credential", "Add key: PATH, or agent: true")
        if self.certificate and not self.key:
            got, want = f"got {self.certificate!r} and no key", "a certificate is for a private key"
            raise Problem(got, want, "Add key: PATH", ("certificate",))
        return self


class Ssh(Schema):
    """SSH settings of a fleet, a group or a host."""

    port: Annotated[int, Field(ge=1, le=PORT_MAX)] = 22
    """TCP port of its sshd."""
    jump: Annotated[str, AfterValidator(_jump)] | None = None
    """``user@address`` or ``user@address:port`` of the host in between; without a user, the login's."""
    logins: Many[Login] = ()
    """Tried in this order."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one host answers and how to log in, all paths absolute. The one thing about a host that no state holds."""

    host: str
    address: str
    port: int
    logins: tuple[Login, ...]
    known_hosts: Path
    """Pinned host keys in OpenSSH's form; a key that is not in it is refused."""
    jump: "Endpoint | None" = None

    @property
    def first_to_change(self) -> tuple[Login, ...]:
        """The first login that may do more than look, if there is one."""
        return tuple(login for login in self.logins if not login.only_looks)[:1]
