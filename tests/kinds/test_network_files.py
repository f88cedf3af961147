"""Files of netplan and networkd that a hostile host reports: read, or unknown with a reason."""

import time
from typing import Any

import pytest

from rackwright.facts.view import UnknownFact
from rackwright.kinds.network import unmanaged

NETPLAN = "/etc/netplan/50-x.yaml"
MAC = "00:11:22:33:44:55"


class Facts:
    def __init__(self, text: str) -> None:
        self._text = text

    def listing(self, folder: str) -> tuple[str, ...]:
        return ("50-x.yaml", "05-x.network")

    def text(self, path: str) -> str:
        return self._text


def netplan(text: str) -> list[str]:
    facts: Any = Facts(text)
    return [*unmanaged._netplan(facts, {"eth0"}, MAC)]


@pytest.mark.parametrize(
    "text",
    [
        "network: {a: 2026-13-45}",
        f"network: {{a: {'9' * 6000}}}",
        f"network: {{0x{'f' * 6000}: {{a: {{}}}}}}",
        "network: {bonds: {b: {interfaces: {a: 1}}}}",
        "network: {bonds: {b: {interfaces: [[eth0]]}}}",
        "network: {ethernets: {a: {match: {}, set-name: {a: 1}}}}",
        "network: {ethernets: {a: {match: {name: [{a: 1}]}}}}",
        "network: {ethernets: {a: {match: {macaddress: {a: 1}}}}}",
        "network: {ethernets: {2026-01-01: {dhcp4: true}}}",
        "a: &a [1]\nnetwork: {ethernets: {a: *a}}",
        "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nnetwork: {}",
        "network: [",
        "network: !!timestamp x",
        "network: " + "[" * 5000,
    ],
)
def test_an_odd_file_of_netplan_is_unknown(text: str) -> None:
    with pytest.raises(UnknownFact, match=NETPLAN):
        netplan(text)


@pytest.mark.parametrize(
    "text",
    [
        "network: {ethernets: {eth0: {dhcp4: true}}}",
        "network: {bonds: {b: {interfaces: [eth0, eth1]}}}",
        "network: {ethernets: {a: {match: {name: 'e*'}}}}",
        "network: {ethernets: {a: {match: {name: [x, 'e*']}}}}",
        f"network: {{ethernets: {{a: {{match: {{macaddress: '{MAC}'}}}}}}}}",
        "network: {ethernets: {a: {match: {name: x}, set-name: eth0}}}",
    ],
)
def test_a_file_of_netplan_is_read(text: str) -> None:
    assert netplan(text) == [NETPLAN]


@pytest.mark.parametrize("text", ["", "network: 5", "[1]", "network: {ethernets: {a: {match: {name: x}}}}"])
def test_another_file_of_netplan_configures_no_such_link(text: str) -> None:
    assert netplan(text) == []


@pytest.mark.parametrize("text", ["[Match]\nName\n continued\n", "x", "[Match\n"])
def test_an_odd_file_of_networkd_is_unknown(text: str) -> None:
    facts: Any = Facts(text)
    with pytest.raises(UnknownFact, match="cannot be read as systemd's"):
        [*unmanaged._networkd(facts, {"eth0"}, MAC)]


def test_a_key_without_a_value_matches_like_an_absent_one() -> None:
    facts: Any = Facts("[Match]\nName\nMACAddress\n")
    assert [*unmanaged._networkd(facts, {"eth0"}, MAC)] == ["/etc/systemd/network/05-x.network"]


def test_many_empty_lines_take_no_time() -> None:
    facts: Any = Facts("\n" * 200_000)
    began = time.process_time()
    assert unmanaged.ifupdown_interfaces(facts) == {}
    assert time.process_time() - began < 5
