"""The roles that follow from the `journal` of a fleet's monitoring: a receiver, and a sender for each host."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.fleet.monitoring_addresses import client_addresses, monitoring_address
from rackwright.schema.host import Host
from rackwright.schema.monitoring import Monitoring
from rackwright.schema.problem import Problem

RECEIVER, SENDER = "journal_receiver", "journal_sender"
MIB = 1 << 20


def problems(monitoring: Monitoring, hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield the conflicts between the journal of *monitoring* and *hosts*; paths are relative to the fleet."""
    if monitoring.journal is None:
        return
    for name, host in hosts.items():
        for role in (SENDER, *((RECEIVER,) if name == monitoring.host else ())):
            if role in host.roles:
                expected, help = f"monitoring gives hosts role {role}", "Remove it, or remove journal of monitoring"
                yield Problem("got the role", expected, help, ("hosts", name, "roles", role))
    if not receiver_address(monitoring, hosts):
        expected = f"an address of {monitoring.host} in a declared network of all hosts"
        help = "Write `address`, an address of it that all hosts reach"
        yield Problem(
            f"got no address of {monitoring.host} for all journals", expected, help, ("monitoring", "journal")
        )
    for name, addresses in client_addresses(monitoring, hosts).items():
        if not addresses:
            expected = f"a declared address of {name}, from which its journal comes"
            help = f"Declare the network of {name}, or name its address under addresses"
            yield Problem(f"got no address of {name} for its journal", expected, help, ("monitoring", "journal"))


def receiver_address(monitoring: Monitoring, hosts: Mapping[str, Host]) -> str | None:
    """Return the declared address of the receiver, or that of the monitoring host in a network of all hosts."""
    return (monitoring.journal and monitoring.journal.address) or monitoring_address(monitoring, hosts)


def roles_of_host(monitoring: Monitoring, name: str, hosts: Mapping[str, Host]) -> dict[str, dict[str, Any]]:
    """Return the roles of the host *name* with their variables, for a declaration without problems."""
    journal, address = monitoring.journal, receiver_address(monitoring, hosts)
    if journal is None or address is None:
        return {}
    common = {"address": address, "port": journal.port, "key": monitoring.key}
    if name != monitoring.host:
        return {SENDER: common}
    receiver = {
        **common,
        **({"data": {"tier": monitoring.tier}} if monitoring.tier else {}),
        "senders": client_addresses(monitoring, hosts),
        "size_mib": journal.size // MIB,
    }
    return {RECEIVER: receiver, SENDER: common}
