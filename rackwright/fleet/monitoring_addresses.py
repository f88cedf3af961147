"""Addresses between the hosts of a monitored fleet: that of the monitoring host for all others, and theirs for it."""

from collections.abc import Mapping

from rackwright.schema.fleet import stations
from rackwright.schema.host import Host
from rackwright.schema.monitoring import Monitoring


def monitoring_address(monitoring: Monitoring, hosts: Mapping[str, Host]) -> str | None:
    """Return the address of the monitoring host in the first declared network of all *hosts*; None without one."""
    for several in stations(hosts).values():
        if {each.host for each in several} >= hosts.keys():
            return next(each.address for each in several if each.host == monitoring.host)
    return None


def client_addresses(monitoring: Monitoring, hosts: Mapping[str, Host]) -> dict[str, list[str]]:
    """Return the addresses from which each host may connect: all that it has in declared networks."""
    found = [(each.host, each.address) for several in stations(hosts).values() for each in several]
    found += monitoring.addresses.items()
    return {name: sorted({address for host, address in found if host == name}) for name in hosts}
