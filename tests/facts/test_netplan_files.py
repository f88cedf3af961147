"""Files that netplan wrote pass beside their settings, and no change of one by hand does."""

import json
from pathlib import Path

import pytest

from rackwright.facts.probe.generated_files import check_of, is_rendered
from rackwright.facts.probe.observe import ReadError
from rackwright.facts.probe.sources import System
from tests.support.fabricated_machine import FabricatedMachine

FILES: dict[str, str] = json.loads(Path(__file__).with_name("netplan_files.json").read_text())
"""Written by netplan 0.106 from the settings among them."""
CHECKED = sorted(path for path in FILES if path.startswith("/run/"))
NETWORK = "/run/systemd/network/10-netplan-{}.network"


@pytest.fixture
def machine(tmp_path):
    machine = FabricatedMachine(tmp_path)
    for path, text in FILES.items():
        machine.write(path[1:], text)
    return machine


def judged(machine: FabricatedMachine, path: str, text: str | None = None) -> str:
    """Return an empty text for a file that passes, or why it does not."""
    if text is not None:
        machine.write(path[1:], text)
    try:
        return "" if is_rendered(System(machine.top, lambda _: False), path) else "no reason"
    except ReadError as reason:
        return str(reason)


@pytest.mark.parametrize("path", CHECKED)
def test_a_file_as_netplan_wrote_it_passes(machine, path):
    assert check_of(path) is not None
    assert judged(machine, path) == ""


def test_files_of_each_sort_of_link_are_compared():
    assert len(CHECKED) > 12 and {path.rpartition(".")[2] for path in CHECKED} == {"link", "netdev", "network", "rules"}


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("fabric0", "Address=203.0.113.66/24", "Address=203.0.113.66/24"),
        ("fabric0", "Gateway=203.0.113.1", "Gateway=203.0.113.1"),
        ("fabric0", "[Network]\nDNS=203.0.113.53", "DNS=203.0.113.53"),
        ("fabric0", "[Network]\nDomains=evil.example", "Domains=evil.example"),
        ("fabric0", "[Link]\nMACAddress=52:54:00:66:66:66", "MACAddress"),
        ("fabric0", "[Network]\nVLAN=v8", "VLAN=v8"),
        ("fabric0", "[Route]\nDestination=192.0.2.0/24\nGateway=10.32.0.254", "Destination=192.0.2.0/24"),
        ("fabric0", "[Link]\nMTUBytes=1400", "MTUBytes=1400"),
        ("mgmt", "[Network]\nNTP=203.0.113.1", "NTP"),
        ("mgmt", "evil", "line evil"),
    ],
)
def test_a_value_that_is_not_in_the_settings_is_named(machine, name, line, reason):
    path = NETWORK.format(name)

    assert reason in judged(machine, path, f"{FILES[path]}\n{line}\n")


def test_a_file_for_another_link_is_found(machine):
    text = FILES[NETWORK.format("fabric0")]

    assert judged(machine, NETWORK.format("evil"), text) == "no link of the settings has this name"


RULES = "/run/udev/rules.d/99-netplan-mgmt.rules"


@pytest.mark.parametrize(
    "line",
    [
        'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="52:54:00:66:66:66", NAME="mgmt0"',
        'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{address}=="52:54:00:00:04:01", NAME="evil0"',
        'SUBSYSTEM=="net", ACTION=="add|change|move", ENV{ID_NET_NAME}=="eth9", ENV{NM_UNMANAGED}="1"',
        'SUBSYSTEM=="net", ACTION=="add|change|move", KERNEL=="eth*", ENV{NM_UNMANAGED}="0"',
        'SUBSYSTEM=="net", ACTION=="add", ENV{NM_UNMANAGED}="1"',
        'SUBSYSTEM=="net", ACTION=="add", NAME="mgmt0", RUN+="/tmp/x"',
    ],
)
def test_a_rule_for_another_link_or_name_is_found(machine, line):
    assert judged(machine, RULES, f"{FILES[RULES]}{line}\n")


def test_a_rule_for_a_link_of_the_settings_passes(machine):
    line = 'SUBSYSTEM=="net", ACTION=="add|change|move", ENV{ID_NET_NAME}=="fabric0", ENV{NM_UNMANAGED}="1"'

    assert judged(machine, RULES, f"{FILES[RULES]}{line}\n") == ""


def test_without_settings_nothing_passes(machine):
    (machine.root / "etc/netplan/60-x.yaml").unlink()

    assert "no settings of netplan" in judged(machine, NETWORK.format("fabric0"))


def test_a_comment_of_the_settings_gives_no_word(machine):
    machine.write("etc/netplan/90-x.yaml", "# 203.0.113.66/24\n")
    path = NETWORK.format("fabric0")

    assert judged(machine, path, f"{FILES[path]}\nAddress=203.0.113.66/24\n")
