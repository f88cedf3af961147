"""The table of a unit in a real kernel: a program in its control group listens everywhere, and neighbours try it."""

from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import nftables
from rackwright.kinds.shared import firewall
from rackwright.kinds.shared.firewall import Firewall
from tests.support.net_namespaces import Datagram, arrived
from tests.support.packet_filters import HOST4, HOST6, OTHER4, OTHER6, firewalls
from tests.support.unit_network import unit_network

PORTS = (29500, 41234)
"""Ports as torch's store and vLLM open them."""


@pytest.mark.parametrize("name", firewalls())
def test_only_the_hosts_of_a_unit_reach_its_ports_by_either_family(name: str, tmp_path: Path) -> None:
    table = firewalls()[name]
    with unit_network(tmp_path, table) as (made, listed, group):
        ports = [*PORTS, *([table.port] if table.port else [])]
        made["host"].listen(tcp=ports, udp=ports, group=group)
        near = made["host"].link_local("fabric0").partition("%")[0] + "%fabric0"
        targets = [(address, port) for address in (HOST4, HOST6, near) for port in PORTS]
        own = [(address, table.port) for address in (HOST4, HOST6, near)] if table.port else []
        everywhere = [*targets, *own]
        may = {target for target in targets if is_member(table, "other", target[0])}

        assert made["stranger"].connects(everywhere) == {*own}, "a stranger"
        assert made["other"].connects(everywhere) == may | {*own}, "the other host"
        local = [(address, port) for address in ("127.0.0.1", "::1") for port in PORTS]
        assert made["host"].connects(local) == {*local}, "the host itself"
        texts = made["stranger"].send([Datagram(*target) for target in targets])
        assert arrived(texts, made["host"]) == set()
        assert facts(listed, table).nftables_table(table.table) == firewall.rules(table)


def is_member(table: Firewall, host: str, address: str) -> bool:
    """Return whether packets from *host* to *address* have a source address of the group."""
    source = {HOST4: OTHER4, HOST6: OTHER6}.get(address, "fe80::") if host == "other" else ""
    return source in table.addresses


def facts(listed: list[dict[str, Any]], table: Firewall) -> Facts:
    return Facts({"nftables": {table.table: nftables.stable([each for each in listed if {*each} & {"chain", "rule"}])}})
