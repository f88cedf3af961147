"""Servers that exchange caches: their hosts, and the checks that they fit each other."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rackwright.schema.host import Host
from rackwright.schema.kv_cache import KvTransfer
from rackwright.schema.problem import Keys, Problem
from rackwright.schema.run import address

if TYPE_CHECKING:
    from rackwright.schema.server import Server

PLACE: Keys = ("vllm", "kv_transfer")


def exchange_of(server: "Server") -> KvTransfer | None:
    """Return the exchange of caches that *server* takes part in."""
    return server.vllm.kv_transfer if server.vllm and server.on == "hosts" else None


def fabric_addresses(server: "Server", hosts: Mapping[str, Host]) -> tuple[str, ...]:
    """Return the fabric addresses of the hosts of *server* that have one."""
    found = (address(hosts[member]) for member in server.members(hosts) if member in hosts)
    return tuple(each.partition("/")[0] for each in found if each)


def problems(servers: "Mapping[str, Server]", hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield the problems of exchanges between *servers* on *hosts*; paths are relative to the servers."""
    for name, server in servers.items():
        transfer = exchange_of(server)
        found = [*_key_problems(server, transfer), *(_problems(name, transfer, servers, hosts) if transfer else ())]
        yield from (problem.below(name) for problem in found)


def _key_problems(server: "Server", transfer: KvTransfer | None) -> Iterator[Problem]:
    """Yield the problems of the keys that may lead caches from one server to another."""
    allowed = [name for name, key in server.keys.items() if "exchange" in key.scopes]
    if transfer and not allowed:
        expected = "a router in front of both servers leads the caches, with a key of its own"
        help = "Write keys: {router: {secret: router, scopes: [infer, read, exchange]}}"
        yield Problem("got no key with the scope exchange", expected, help, PLACE)
    if not transfer:
        expected = "only servers with vllm.kv_transfer exchange caches"
        for name in allowed:
            yield Problem("got scope exchange", expected, "Remove it", ("keys", name, "scopes"))


def _problems(
    name: str, transfer: KvTransfer, servers: "Mapping[str, Server]", hosts: Mapping[str, Host]
) -> Iterator[Problem]:
    server = servers[name]
    if server.environment is None:
        expected = "the environment vllm of role workloads has no NIXL"
        help = "Name an environment of the hosts with vLLM and NIXL: environment: {path: /opt/NAME}"
        yield Problem("got kv_transfer and no environment", expected, help, PLACE)
    for index, peer in enumerate(transfer.peers):
        if problem := _peer_problem(name, transfer, peer, servers):
            yield problem.below(*PLACE, "peers", index)
    ports = server.vllm.exchange_ports if server.vllm else range(0)
    if taken := sorted({server.port, *(server.vllm.replica_ports if server.vllm else ())}.intersection(ports)):
        expected = "clients, the hosts of a replica and the exchange have different ports"
        yield Problem(f"got port {taken[0]}", expected, "Choose another port", (*PLACE, "port"))
    named = [servers[peer] for peer in transfer.peers if peer in servers]
    if len({":" in each for member in (server, *named) for each in fabric_addresses(member, hosts)}) > 1:
        expected = "the fabric addresses of all hosts of an exchange are of one family"
        yield Problem("got addresses of IPv4 and IPv6", expected, "Declare fabric addresses of one family", PLACE)


def _peer_problem(name: str, transfer: KvTransfer, peer: str, servers: "Mapping[str, Server]") -> Problem | None:
    """Return why the server *name* can exchange nothing with *peer*; None if it can."""
    other = servers.get(peer)
    if other is None or peer == name:
        others = ", ".join(each for each in servers if each != name) or "none"
        return Problem(f"got {peer!r}", f"other servers of this fleet: {others}", "Name servers of this fleet")
    theirs = exchange_of(other)
    if theirs is None or name not in theirs.peers:
        expected = f"a server on hosts with {name} among the peers of its vllm.kv_transfer"
        return Problem(f"got {peer!r}, which exchanges nothing with {name}", expected, f"Add kv_transfer to {peer}")
    if theirs.role == transfer.role:
        expected = "one of the two computes prompts (prefill), and the other one answers (decode)"
        return Problem(f"got {peer!r}, whose role is {theirs.role} as well", expected, "Correct one of the roles")
    if other.model != servers[name].model:
        expected = "the servers of an exchange have the same model"
        return Problem(f"got {peer!r}, which has another model", expected, "Declare the same model for both")
    return None
