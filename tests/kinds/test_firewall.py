"""The table of a unit in a real kernel: a program in its control group listens everywhere, and neighbours try it."""

from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import nftables
from rackwright.kinds.model_server.spec import ExchangePeer, ExchangePlace
from rackwright.kinds.shared import firewall
from rackwright.kinds.shared.firewall import Firewall
from rackwright.schema.vllm import Vllm
from tests.support.model_server_spec import REPOSITORY, SPEC
from tests.support.net_namespaces import Datagram, arrived
from tests.support.packet_filters import HOST4, HOST6, OTHER4, OTHER6, control_group, firewalls, load
from tests.support.specs import changed
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
        local = [*everywhere, *((address, port) for address in ("127.0.0.1", "::1") for port in PORTS)]
        assert made["host"].connects(local) == {*own}, "another account of the host"
        assert made["host"].connects(local, group=group) == {*local}, "the unit itself"
        for place in ("stranger", "host"):
            texts = made[place].send([Datagram(*target) for target in local[len(everywhere) :] + targets])
            assert arrived(texts, made["host"]) == set(), place
        texts = made["host"].send([Datagram(*target) for target in local], group=group)
        assert len(arrived(texts, made["host"])) == len(texts)
        assert facts(listed, table).nftables_table(table.table) == firewall.rules(table)


def test_servers_of_one_host_that_exchange_caches_reach_each_other_and_another_account_neither(tmp_path: Path) -> None:
    place = ExchangePlace(address=HOST4, peers=(ExchangePeer(address=HOST4, port=PORTS[0], ranks=1),))
    tables = []
    for name, partner in (("prompts", "answers"), ("answers", "prompts"), ("other", "prompts")):
        found = changed(SPEC, name=name, vllm=Vllm(), exchange=place, partners=(partner,)).firewall
        assert found is not None
        tables.append(found)
    prompts, answers, other = tables
    with unit_network(tmp_path, prompts) as (made, listed, group), control_group(answers.unit) as second:
        made["host"].listen(tcp=PORTS, group=group)
        load(made["host"], firewall.text(answers, REPOSITORY))
        local = {(address, port) for address in (HOST4, "127.0.0.1", "::1") for port in PORTS}
        assert made["host"].connects([*local], group=second) == local, "the other server of the exchange"
        assert made["host"].connects([*local]) == set(), "another account"
        with control_group(other.unit) as third:
            load(made["host"], firewall.text(other, REPOSITORY))
            assert made["host"].connects([*local], group=third) == set(), "another server, which names this one"
        assert facts(listed, prompts).nftables_table(prompts.table) == firewall.rules(prompts)


def is_member(table: Firewall, host: str, address: str) -> bool:
    """Return whether packets from *host* to *address* have a source address of the group."""
    source = {HOST4: OTHER4, HOST6: OTHER6}.get(address, "fe80::") if host == "other" else ""
    return source in table.addresses


def facts(listed: list[dict[str, Any]], table: Firewall) -> Facts:
    return Facts({"nftables": {table.table: nftables.stable([each for each in listed if {*each} & {"chain", "rule"}])}})
