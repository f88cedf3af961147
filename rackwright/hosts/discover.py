"""Hosts that nobody has declared yet: their keys are shown and pinned first, and nothing is written to them."""

import getpass
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rackwright.errors import HostUnreachable, RackwrightError, Refused
from rackwright.facts.view import UnknownFact
from rackwright.fleet.describe_host import HostDescription, describe_host, unique_name
from rackwright.hosts.pins import HostKeyRefused, fingerprint, pin, pin_name
from rackwright.hosts.pool import Hosts
from rackwright.progress import Progress
from rackwright.schema.ssh import Endpoint, Login, parse_jump

Trust = Callable[[str, str], bool]
"""Whether a host's key is trusted: told how the host is called, and the fingerprint."""


@dataclass(frozen=True)
class Place:
    """Where a host answers, and who logs in."""

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

    def declared(self, usual: Login) -> dict[str, Any]:
        """Return its lines of a host, beside a fleet that logs in as *usual*."""
        ssh: dict[str, Any] = {} if self.port == 22 else {"port": self.port}
        if self.login != usual:
            ssh["logins"] = [self.login.model_dump(exclude_defaults=True)]
        return {"address": self.address, **({"ssh": ssh} if ssh else {})}


def look_at_all(
    places: Sequence[Place], known_hosts: Path, trusted: Trust, progress: Progress
) -> tuple[dict[str, HostDescription], list[RackwrightError]]:
    """Return every host by a name of its own, and why others could not be looked at; the first one's login is usual."""
    found: dict[str, HostDescription] = {}
    errors: list[RackwrightError] = []
    for place in places:
        progress(f"looking at {place.address}")
        try:
            host = look(place, places[0].login, known_hosts, trusted)
        except RackwrightError as error:
            errors.append(error)
        else:
            found[unique_name(host.name, found)] = host
    return found, errors


def look(place: Place, usual: Login, known_hosts: Path, trusted: Trust) -> HostDescription:
    """Return what the host at *place* is.

    Args:
        usual: How the fleet logs in that it will be in.
        known_hosts: Where its key is pinned, and will be.

    Raises:
        Refused: its key is not the pinned one, or not trusted.
        HostUnreachable: no answer, or the facts do not tell enough.
    """
    name = place.address
    endpoint = Endpoint(name, place.address, place.port, (place.login,), known_hosts)
    try:
        found = _discovered(endpoint)
    except HostKeyRefused as error:
        if error.offered is None:
            raise
        shown = fingerprint(error.offered[1])
        if not trusted(pin_name(endpoint), shown):
            fix = f"Compare it at the host's console, and run this again with --fingerprint {shown}"
            raise Refused(name, f"its host key {shown} is not trusted", "nothing was sent to it", fix) from None
        pin(endpoint, *error.offered)
        found = _discovered(endpoint)
    return replace(found, host={**place.declared(usual), **found.host})


def _discovered(endpoint: Endpoint) -> HostDescription:
    # no digest of these facts is ever compared
    hosts = Hosts({endpoint.host: endpoint}, secrets.token_bytes(32))
    try:
        return describe_host(hosts.facts(endpoint.host))
    except UnknownFact as reason:
        want, fix = "a host's lines need it", "Mend that on the host, or write its lines by hand"
        raise HostUnreachable(endpoint.host, str(reason), want, fix) from None
    finally:
        hosts.close()
