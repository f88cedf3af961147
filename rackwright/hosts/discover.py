"""Describe hosts that are not declared yet: show and pin their keys, and write nothing to them."""

import getpass
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rackwright.errors import ChangeRefused, Diagnostic, HostUnreachable, UserError
from rackwright.facts.view import UnknownFact
from rackwright.fleet.describe_host import HostDescription, describe_host, unique_name
from rackwright.hosts.pins import HostKeyRefused, fingerprint, pin, pin_name
from rackwright.hosts.pool import Hosts
from rackwright.progress import Progress
from rackwright.schema.ssh import Endpoint, Login, parse_jump

Trust = Callable[[str, str], bool]
"""Decision whether to trust a host key, by the name of the host and the fingerprint."""


@dataclass(frozen=True)
class Place:
    """Address, port and login of a host."""

    address: str
    port: int
    login: Login

    @classmethod
    def parse(cls, written: str, key: Path | None) -> "Place":
        """Return the place of ``user@address:port``.

        Raises:
            Problem: it has another form.
        """
        user, address, port = parse_jump(written)
        user = user or getpass.getuser()
        credential: dict[str, Any] = {"key": str(key.resolve())} if key else {"agent": True}
        if user == "root":
            credential["become"] = False
        return cls(address, port, Login(name="admin", user=user, **credential))

    def host_lines(self, usual: Login) -> dict[str, Any]:
        """Return the lines of this host for a fleet that logs in as *usual*."""
        ssh: dict[str, Any] = {} if self.port == 22 else {"port": self.port}
        if self.login != usual:
            ssh["logins"] = [self.login.model_dump(exclude_defaults=True)]
        return {"address": self.address, **({"ssh": ssh} if ssh else {})}


def discover_hosts(
    places: Sequence[Place], known_hosts: Path, trusted: Trust, progress: Progress
) -> tuple[dict[str, HostDescription], list[UserError]]:
    """Return each host by a unique name, and the errors of the others. The login of the first host is the usual one."""
    found: dict[str, HostDescription] = {}
    errors: list[UserError] = []
    for place in places:
        progress(f"looking at {place.address}")
        try:
            host = discover_host(place, places[0].login, known_hosts, trusted)
        except UserError as error:
            errors.append(error)
        else:
            found[unique_name(host.name, found)] = host
    return found, errors


def discover_host(place: Place, usual: Login, known_hosts: Path, trusted: Trust) -> HostDescription:
    """Return the description of the host at *place*.

    Args:
        usual: Login of the fleet that the host will belong to.
        known_hosts: File that pins its key; a trusted key is added to it.

    Raises:
        ChangeRefused: its key differs from the pinned one, or is not trusted.
        HostUnreachable: it does not answer, or facts are missing.
    """
    name = place.address
    endpoint = Endpoint(name, place.address, place.port, (place.login,), known_hosts)
    try:
        found = _describe(endpoint)
    except HostKeyRefused as error:
        if error.offered is None:
            raise
        shown = fingerprint(error.offered[1])
        if not trusted(pin_name(endpoint), shown):
            help = f"Compare the fingerprint at the host's console, and run this again with --fingerprint {shown}"
            problem, note = f"its host key {shown} is not trusted", "nothing was sent to the host"
            raise ChangeRefused(Diagnostic(name, problem, help=help, note=note)) from None
        pin(endpoint, *error.offered)
        found = _describe(endpoint)
    return replace(found, host={**place.host_lines(usual), **found.host})


def _describe(endpoint: Endpoint) -> HostDescription:
    # no digest of these facts is ever compared
    hosts = Hosts({endpoint.host: endpoint}, secrets.token_bytes(32))
    try:
        return describe_host(hosts.facts(endpoint.host))
    except UnknownFact as reason:
        help = "Correct it on the host, or write the host into the fleet by hand"
        raise HostUnreachable(
            Diagnostic(endpoint.host, str(reason), help=help, note="the lines for the fleet need this fact")
        ) from None
    finally:
        hosts.close()
