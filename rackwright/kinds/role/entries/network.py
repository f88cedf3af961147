"""Ports, packet filters and routes."""

from collections.abc import Mapping

from rackwright.core.contract import Want, Within
from rackwright.core.repository import Repository
from rackwright.kinds.network.observe import PREFERRED
from rackwright.kinds.role.entries.entry import Entry


class SocketEntry(Entry):
    """A port such as ``tcp:22`` with a listener, or without; with *address*, only on that address.

    With *loopback*, the program listens on 127.0.0.1 as well.
    """

    sort = "socket"
    socket: str
    listening: bool = True
    address: str | None = None
    loopback: bool = False

    def want(self, repository: Repository) -> Mapping[str, Want]:
        if self.address is None:
            return {"listening": self.listening}
        return {"addresses": tuple(sorted({self.address, *(["127.0.0.1"] if self.loopback else [])}))}


class NftablesEntry(Entry):
    """A table of nftables of the family inet in the running kernel, with exactly these chains and rules."""

    sort = "nftables"
    usual_scope = "kernel"
    nftables: str
    """Name of the table, which begins with ``rackwright_``."""
    rules: tuple[str, ...]
    """Lines as ``facts.nftables`` writes them: first the chains, then the rules."""

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"rules": self.rules}


class RouteEntry(Entry):
    """A route of the running kernel to a network, by a gateway, which the kernel takes before all others to it."""

    sort = "route"
    route: str
    via: str

    def want(self, repository: Repository) -> Mapping[str, Want]:
        return {"via": self.via, PREFERRED: Within(())}
