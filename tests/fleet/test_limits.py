"""Fleets whose numbers and names do not fit where they go, each refused with file and line."""

import re

import pytest

from rackwright.fleet.source import parse
from rackwright.schema.tier import SLOTS_MAX
from tests.support.limits import HOST, NUMBERS, PATH, PORT, errors, tier


@pytest.mark.parametrize(("drives", "spares"), [(SLOTS_MAX + 1, 0), (SLOTS_MAX, 1), (2, SLOTS_MAX - 1), (5000, 0)])
def test_an_array_has_no_more_drives_than_its_superblock_has_room_for(drives: int, spares: int) -> None:
    [error] = errors(tier(drives, spares))

    assert error == f"fleet.yaml:9: hosts.alpha.drives got {drives + spares} drives with `tier: a`"


def test_an_array_may_have_as_many() -> None:
    assert errors(tier(SLOTS_MAX - 1, 1)) == []


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("key", ["port", "rollout", "cpus", "option", "item"])
def test_a_number_in_another_form_is_refused_at_its_line(number: str, key: str) -> None:
    texts = {
        "port": HOST + f"    ssh:\n      port: {number}\n",
        "rollout": f"rollout:\n  canary: {number}\n" + HOST,
        "cpus": HOST + f"clusters:\n  main:\n    control_plane: alpha\n    teams:\n      a:\n        memory: 1GiB\n"
        f"        cpus: {number}\n",
        "option": HOST + f"    roles:\n      base:\n        clock_offset_seconds: {number}\n",
        "item": HOST + f"    roles:\n      base:\n        sysctls:\n          vm.swappiness: {number}\n",
    }
    line = next(index for index, line in enumerate(texts[key].splitlines(), 1) if line.endswith(f": {number}"))

    found = errors(texts[key])

    assert found and all(error.startswith("fleet.yaml:") for error in found)
    assert any(error.startswith(f"fleet.yaml:{line}: ") for error in found), found


@pytest.mark.parametrize("number", ["0", "-0", "5", "1750", "1.5", "0.5", ".5", "5.", "1e3", "-3", "+3", str(2**53)])
def test_a_plain_number_is_read_as_written(number: str) -> None:
    source = parse(PATH, f"a: {number}\n")

    assert source.mistakes == ()
    assert source.data["a"] == float(number)


@pytest.mark.parametrize("text", ["1_000", "12:30", "1:30:00", "0b11", "010a", "'010'", '"0o17"'])
def test_other_forms_are_texts(text: str) -> None:
    assert parse(PATH, f"a: {text}\n").data["a"] == text.strip("'\"")


@pytest.mark.parametrize("size", ["0512KiB", "00.5GiB", "03.84TB", "007B"])
def test_a_size_has_no_zeros_before_its_number(size: str) -> None:
    assert any(size in error for error in errors(tier(2, 0).replace("mount: /srv/a", f"mount: /srv/a, chunk: {size}")))


@pytest.mark.parametrize(
    "mount", ["/srv/" + "a" * 246, "/srv/" + "a-" * 60 + "a", "/srv/" + "a" * 300, "/" + "/".join(["abc"] * 70)]
)
def test_a_mount_point_whose_unit_has_no_name_is_refused(mount: str) -> None:
    [error] = errors(tier(2, 0).replace("/srv/a", mount))

    assert error.startswith("fleet.yaml:8: hosts.alpha.tiers.a.mount got '/")


def test_the_longest_mount_point_is_accepted() -> None:
    assert errors(tier(2, 0).replace("/srv/a", "/srv/" + "a" * 245)) == []


@pytest.mark.parametrize(
    ("route", "is_refused"),
    [
        ("{to: 10.1.0.0/16, via: 198.51.100.0}", True),
        ("{to: 10.1.0.0/16, via: 198.51.100.255}", True),
        ("{to: 198.51.100.0/24, via: 198.51.100.9}", True),
        ("{to: 198.51.100.64/26, via: 198.51.100.9}", True),
        ("{to: 198.51.100.9/32, via: 198.51.100.9}", True),
        ("{to: 192.0.2.0/24, via: 198.51.100.9}", True),
        ("{to: 192.0.2.11/32, via: 198.51.100.9}", True),
        ("{to: 192.0.2.8/29, via: 198.51.100.9, on: fabric0}", True),
        ("{to: 10.1.0.0/16, via: 198.51.100.9}", False),
        ("{to: default, via: 198.51.100.9}", False),
        ("{to: 192.0.3.0/24, via: 198.51.100.9}", False),
        ("{to: 198.51.0.0/16, via: 198.51.100.254}", False),
    ],
)
def test_a_route_leads_through_another_machine_to_another_network(route: str, is_refused: bool) -> None:
    found = errors(f"{HOST}{PORT}    network:\n      routes:\n        - {route}\n")

    assert bool(found) is is_refused, found
    assert all(error.startswith("fleet.yaml:11: hosts.alpha.network.routes[0]") for error in found)


def test_a_route_to_the_management_network_is_fine_where_a_declared_link_is_in_it() -> None:
    here = PORT + '      - {name: admin0, mac: "00:00:5e:00:53:02", addresses: [192.0.2.11/29]}\n'
    routes = "    network:\n      fabric: fabric0\n      routes:\n        - {to: 192.0.2.0/24, via: 192.0.2.9}\n"

    assert errors(HOST + here + routes) == []


@pytest.mark.parametrize("address", ["198.51.100.0/24", "198.51.100.255/24", "203.0.113.64/28", "10.255.255.255/8"])
def test_a_port_has_the_address_of_one_machine(address: str) -> None:
    [error] = errors(HOST + PORT.replace("198.51.100.1/24", address))

    assert error == f"fleet.yaml:8: hosts.alpha.nics[0].addresses[0] got '{address}'"


@pytest.mark.parametrize("address", ["203.0.113.0/31", "203.0.113.1/31", "203.0.113.7/32", '"2001:db8::/64"'])
def test_small_networks_and_those_of_ipv6_have_no_such_addresses(address: str) -> None:
    assert errors(HOST + PORT.replace("198.51.100.1/24", address)) == []


@pytest.mark.parametrize("network", ["", "    network: {}\n"])
def test_a_port_too_small_for_ipv6_is_refused_with_and_without_a_network(network: str) -> None:
    port = PORT.replace("addresses: [198.51.100.1/24]", 'mtu: 576, addresses: ["2001:db8::1/64"]')

    [error] = errors(HOST + port + network)

    assert error == "fleet.yaml:8: hosts.alpha.nics[0] got an IPv6 address with an MTU of 576"


@pytest.mark.parametrize(("canary", "is_refused"), [(5, True), (2, True), (1, False)])
def test_a_canary_is_a_part_of_the_hosts(canary: int, is_refused: bool) -> None:
    found = errors(f"rollout: {{canary: {canary}}}\n" + HOST)

    assert found == [f"fleet.yaml:1: rollout.canary got a canary of {canary} for 1 host"] * is_refused


@pytest.mark.parametrize("group", ["system:serviceaccounts", "system:masters", "system:", "a\nb", " a", "a\u202eb", ""])
@pytest.mark.parametrize("field", ["operators", "viewers"])
def test_no_group_of_a_team_is_one_of_kubernetes_itself(group: str, field: str) -> None:
    quoted = '"' + group.replace("\n", "\\n").replace("\u202e", "\\u202e") + '"'
    team = f"{{cpus: 1, memory: 1GiB, {field}: [{quoted}]}}"
    text = f"{HOST}clusters:\n  main:\n    control_plane: alpha\n    teams:\n      a: {team}\n"

    assert any(error.startswith(f"fleet.yaml:11: clusters.main.teams.a.{field}[0] ") for error in errors(text))


def test_each_line_of_a_number_is_found_in_a_long_file() -> None:
    text = HOST + "".join(f"  host-{number}: {{alerts: {{xid_minutes: 0{number}}}}}\n" for number in range(10, 60))

    lines = [int(match[1]) for error in errors(text) if (match := re.match(r"fleet.yaml:(\d+):.*xid_minutes", error))]
    assert lines == list(range(7, 57))
