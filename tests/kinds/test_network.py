"""What a network's plan does with what is found, and what it refuses; on facts recorded from a real host."""

import json
import subprocess

import pytest
import yaml

from rackwright.core import diff as comparison
from rackwright.core import wire
from rackwright.core.contract import Command, LogIn, Plan, Put
from rackwright.facts.facts import Facts
from rackwright.kinds.network import NetworkKind
from rackwright.kinds.network.spec import NETPLAN, NetworkSpec, files
from rackwright.schema.network import Bond
from tests.support.raw_facts import link, write
from tests.support.recorded_hosts import RESOURCES, STACK, recorded
from tests.support.specs import changed

KIND, REPOSITORY = NetworkKind(), STACK.repository
SPEC = RESOURCES["gamma/network"].spec
assert isinstance(SPEC, NetworkSpec)
INTERFACES = "/etc/network/interfaces"


@pytest.fixture
def raw():
    return recorded("gamma")


def planned(raw, spec=SPEC) -> Plan:
    claims = KIND.claims(spec, REPOSITORY)
    facts = Facts(raw)
    return KIND.plan(spec, comparison.diff(claims, KIND.observe(claims, facts)), facts, REPOSITORY)


def texts(plan: Plan) -> list[str]:
    return [step.text for step in plan.steps]


def applied(plan: Plan) -> tuple[str, ...]:
    """Return what the step that changes the network gets: devices that go, ports, links to set up, all, takeover."""
    [step] = [step for step in plan.steps if isinstance(step, Command) and step.text.startswith("set up the links")]
    return step.argv[4:]


def test_the_change_stands_between_a_timer_and_a_login(raw):
    """
    What is written is written behind the timer, which lasts as long as is declared; whose it is is noted around all.
    """
    link(raw, "edge")["mtu"] = 1400
    plan = planned(raw, changed(SPEC, confirm_seconds=60))

    arm = next(step for step in plan.steps if isinstance(step, Command))
    kinds = [type(step) for step in plan.steps]
    assert arm.undo_after_seconds == 60
    assert (kinds[0], kinds[-1], kinds[-3]) == (Put, Put, LogIn)
    assert texts(plan)[1] == "set a timer that restores network in 60 s"
    assert [json.loads(plan.steps[index].content)["phase"] for index in (0, -1)] == ["creating", "ready"]


def test_netplan_s_file_says_what_is_declared_and_names_nothing_else(raw):
    text = files(SPEC, REPOSITORY)[NETPLAN].text
    network = yaml.safe_load(text)["network"]

    assert {*network["ethernets"]} == {"fabric0", "fabric1", "edge"}
    assert network["bonds"]["bond0"]["interfaces"] == ["fabric0", "fabric1"]
    assert network["vlans"]["storage"]["routes"] == [{"to": "0.0.0.0/0", "via": "10.40.0.1", "metric": 500}]
    assert files(SPEC, REPOSITORY)[NETPLAN].mode == 0o600


def test_only_different_parts_are_set_up_again(raw):
    link(raw, "edge")["addresses"].append("10.50.0.99/24")
    gone, _, changed, *_ = applied(planned(raw))

    assert (gone, changed) == ("", "edge")


def test_a_device_that_cannot_be_changed_is_created_again_with_its_content(raw):
    link(raw, "bond0")["bond_mode"] = "802.3ad"

    assert applied(planned(raw))[0] == "storage bond0"


def test_only_devices_of_our_own_are_left_over(raw):
    """
    Of two VLANs that nobody declares the one goes that this network made once.
    """
    raw["owners"]["network"]["made"].append("old")
    raw["links"] += [{**link(raw, "storage"), "name": name} for name in ("old", "theirs")]

    assert applied(planned(raw))[0] == "old"


def test_a_device_with_foreign_content_is_not_deleted(raw):
    link(raw, "bond0")["bond_mode"] = "802.3ad"
    raw["links"].append({**link(raw, "storage"), "name": "theirs"})

    [refusal] = planned(raw).refusals
    assert (refusal.where, refusal.problem) == ("gamma/network: bond0", "the undeclared VLAN theirs is on this link")


def test_the_files_have_the_order_of_the_fleet_after_the_wire():
    vlan = SPEC.declared.vlans["storage"]
    spec = changed(SPEC, vlans={"z": vlan, "a": vlan}, devices=("bond0", "z", "a"), routes=())
    plain = spec.model_dump(mode="json", exclude_none=True)

    arrived = NetworkSpec.model_validate_json(json.dumps(wire.normalise(plain)))

    assert [*arrived.links][-3:] == ["bond0", "z", "a"]
    assert files(arrived, REPOSITORY) == files(spec, REPOSITORY)


def test_what_is_not_declared_any_more_goes_and_what_stood_there_comes_back(raw):
    plan = planned(raw, changed(SPEC, dns=None, vlans={}, routes=SPEC.declared.routes[1:], devices=(*SPEC.bonds,)))

    [back] = [step for step in plan.steps if step.text.startswith("restore the earlier version of")]
    assert isinstance(back, Command) and back.argv[-1] == "/etc/resolv.conf"
    assert applied(plan)[0] == "storage"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/netplan/50-cloud-init.yaml", "network: {ethernets: {edge: {dhcp4: true}}}"),
        ("/etc/netplan/50-x.yaml", "network: {ethernets: {id0: {match: {macaddress: '52:54:00:03:03:02'}}}}"),
        ("/etc/netplan/50-x.yaml", "network: {ethernets: {id0: {match: {name: 'e*'}}}}"),
        ("/etc/netplan/50-x.yaml", "network: {bridges: {br0: {interfaces: [edge]}}}"),
        ("/etc/systemd/network/05-all.network", "[Match]\nName=*\n[Network]\nDHCP=yes\n"),
        ("/etc/systemd/network/05-all.network", "[Match]\nMACAddress=52:54:00:03:03:02\n"),
        (INTERFACES, "auto edge\niface edge inet static\n"),
        (f"{INTERFACES}.d/edge", "allow-hotplug edge:1\n"),
    ],
)
def test_a_foreign_file_that_sets_up_a_link_is_refused_by_name(raw, path, text):
    write(raw, path, text)
    refusals = planned(raw, changed(SPEC, takeover=None)).refusals

    assert [(refusal.where, refusal.problem) for refusal in refusals if "edge" in refusal.where] == [
        ("gamma/network: edge", f"{path} sets up the link as well")
    ]
    assert ("takeover: ifupdown" in str(refusals[0])) is path.startswith("/etc/network")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/netplan/50-x.yaml", "network: {ethernets: {management: {dhcp4: true}}}"),
        ("/etc/netplan/50-x.yaml", "network: {ethernets: {id0: {match: {macaddress: '52:54:00:00:00:02'}}}}"),
        ("/etc/netplan/50-x.yaml", "network: {vlans: {theirs: {link: edge, id: 9}}}"),
        ("/etc/systemd/network/80-all.network", "[Match]\nName=*\n"),
        ("/etc/systemd/network/05-not.network", "[Match]\nName=!edge storage bond0 fabric*\n"),
        (INTERFACES, "auto lo\niface lo inet loopback\nsource /etc/network/interfaces.d/*\n"),
    ],
)
def test_a_foreign_file_about_another_matter_is_left_alone(raw, path, text):
    """
    One that comes behind netplan's own, too: of the files of networkd the first counts.
    """
    write(raw, path, text)

    assert planned(raw, changed(SPEC, takeover=None)) == Plan()


def test_what_ifupdown_sets_up_is_set_aside_where_that_is_declared(raw):
    write(raw, INTERFACES, "auto lo edge\niface lo inet loopback\niface edge inet dhcp\n")
    raw["units"]["networking.service"] = {"enabled": "enabled", "active": "active", "load": "loaded"}
    plan = planned(raw)

    assert f"remove {INTERFACES}" in texts(plan)
    [keep] = [step for step in plan.steps if step.text.startswith("back up")]
    assert isinstance(keep, Command) and keep.argv[-1] == INTERFACES
    assert applied(plan)[4] == "yes"


def test_ifupdown_with_undeclared_interfaces_is_not_replaced(raw):
    """
    Its service brings that up as well, and would be off at the next boot.
    """
    write(raw, INTERFACES, "auto edge management\niface edge inet dhcp\n")

    [refusal] = planned(raw).refusals
    assert refusal.problem == f"{INTERFACES} sets up management, which the fleet does not declare"


def test_a_cable_is_a_persons_matter(raw):
    """
    Without a signal there is neither an address nor a way; a link that is switched off is switched on.
    """
    link(raw, "edge").update(up=False, carrier=False, addresses=[])
    raw["routes"] = [route for route in raw["routes"] if route["link"] != "edge"]
    dark = planned(raw)
    link(raw, "edge").update(carrier={"unknown": "the link is disabled"})

    assert {item.path for item in dark.by_hand} >= {"link:edge.up", "link:edge.addresses"}
    assert dark.steps == ()
    assert planned(raw).steps


def test_a_port_that_is_gone_is_a_persons_matter(raw):
    raw["links"].remove(link(raw, "fabric1"))
    link(raw, "bond0")["slaves"] = ["fabric0"]
    plan = planned(raw)

    assert {"link:fabric1.mac", "link:bond0.members"} <= {item.path for item in plan.by_hand}
    assert plan.steps == ()


def test_a_port_that_is_declared_by_a_place_that_a_twin_has_not_is_set_up_by_its_name(raw):
    *ports, edge = SPEC.ports
    place = edge.model_copy(update={"mac": None, "pci": "0000:3b:00.0"})
    link(raw, "edge")["mtu"] = 1400
    plan = planned(raw, changed(SPEC, ports=(*ports, place), not_rehearsable=("hardware",)))

    assert applied(plan)[2] == "edge"
    assert "link:edge.mtu" not in {item.path for item in plan.by_hand}


def test_what_cannot_be_known_is_refused_and_is_no_crash(raw):
    raw["links"].remove(link(raw, "fabric1"))
    link(raw, "management")["permanent_mac"] = {"unknown": "no permission"}

    assert any("no permission" in refusal.problem for refusal in planned(raw).refusals)


def test_a_port_that_is_called_otherwise_is_found_by_its_address(raw):
    """
    It is called as declared, and is nobody's for that.
    """
    link(raw, "edge")["name"] = "enp3s0"
    plan = planned(raw)

    assert "edge=52:54:00:03:03:02" in applied(plan)[1].split()
    assert not plan.by_hand


def test_a_host_without_netplan_gets_advice(raw):
    del raw["packages"]["netplan.io"]

    [refusal] = planned(raw).refusals
    assert "apt-get install netplan.io" in refusal.help


def test_another_fleet_s_network_is_refused(raw):
    raw["owners"]["network"]["fleet"] = "other"

    assert "in fleet other" in planned(raw).refusals[0].problem


def test_removal_leaves_everything_and_says_so(raw):
    plan = KIND.removal(SPEC, Facts(raw), REPOSITORY, True)

    assert texts(plan) == ["remove /var/lib/rackwright/owners/network.json"]
    assert "stays on the host, without an owner" in plan.notes[0]
    raw["owners"] = {}
    assert KIND.removal(SPEC, Facts(raw), REPOSITORY, True) == Plan()


def test_a_port_s_name_is_not_given_to_a_vlan_on_it():
    """
    That has the same address, to the kernel its hardware's as well.
    """
    texts = {path: file.text for path, file in files(SPEC, REPOSITORY).items() if path.endswith(".link")}

    assert len(texts) == 3 and all("\nType=ether\n" in text for text in texts.values())


def test_the_timer_and_who_confirms_never_both_have_it(raw, tmp_path):
    """
    Who confirms while the host is at it fails, and takes nothing from under it.
    """
    confirm = planned(with_another_mtu(raw)).steps[-2]
    assert isinstance(confirm, Command)
    (tmp_path / "undoing").write_text("it is being undone")
    (tmp_path / "files").mkdir()

    done = subprocess.run([*confirm.argv[:4], str(tmp_path), "no-such-unit"], capture_output=True, text=True)

    assert done.returncode == 1 and "the host has restored the earlier files, or is about to" in done.stderr
    assert (tmp_path / "files").exists()


def with_another_mtu(raw):
    link(raw, "edge")["mtu"] = 1400
    return raw


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({"gateway": "10.50.0.9", "metric": 0}, ("via 10.50.0.9 on edge",)),
        ({"gateway": "10.0.2.9", "link": "management", "metric": 0}, ("via 10.0.2.9 on management",)),
        ({"gateway": "10.50.0.9", "metric": 5}, ()),
    ],
)
def test_another_route_to_a_declared_destination_counts_where_the_kernel_takes_it_first(raw, other, found):
    ours = next(route for route in raw["routes"] if route["destination"] == "198.51.100.0/24")
    raw["routes"].append({**ours, **other})

    assert seen(raw, "route:198.51.100.0/24")["preferred"] == found


def test_a_route_that_leads_nowhere_counts_as_well(raw):
    dead = {"destination": "198.51.100.0/24", "gateway": None, "kind": "blackhole", "metric": 0}
    raw["dead_routes"].append(dead)

    assert seen(raw, "route:198.51.100.0/24")["preferred"] == ("blackhole",)
    claims = KIND.claims(SPEC, REPOSITORY)
    plan = KIND.plan(SPEC, comparison.diff(claims, KIND.observe(claims, Facts(raw))), Facts(raw), REPOSITORY)
    assert plan.steps == () and [item.path for item in plan.by_hand] == ["route:198.51.100.0/24.preferred"]
    assert "ip route show" in plan.by_hand[0].remedy


def seen(raw, thing):
    return KIND.observe(KIND.claims(SPEC, REPOSITORY), Facts(raw))[thing]


# --- options of a bond

OPTIONS = {"lacp_rate": "fast", "hash_policy": "layer3+4", "ad_select": "bandwidth", "min_links": 2}
DELAYS = {"up_delay_ms": 200, "down_delay_ms": 100}


def spec_of(mode: str, **options) -> NetworkSpec:
    bond = {**SPEC.declared.bonds["bond0"].model_dump(exclude_none=True), "mode": mode, **options}
    return changed(SPEC, bonds={"bond0": Bond.model_validate(bond)})


@pytest.mark.parametrize(
    ("spec", "written"),
    [
        (
            spec_of("802.3ad", **OPTIONS, **DELAYS),
            {
                "lacp-rate": "fast",
                "transmit-hash-policy": "layer3+4",
                "ad-select": "bandwidth",
                "min-links": 2,
                "up-delay": 200,
                "down-delay": 100,
            },
        ),
        (spec_of("active-backup", primary="fabric1"), {"primary": "fabric1"}),
        (SPEC, {}),
    ],
)
def test_options_of_a_bond_are_written_for_netplan(spec, written):
    parameters = yaml.safe_load(files(spec, REPOSITORY)[NETPLAN].text)["network"]["bonds"]["bond0"]["parameters"]

    assert parameters.pop("mii-monitor-interval") == 100
    assert parameters == {"mode": spec.declared.bonds["bond0"].mode, **written}


def differing(raw, spec) -> dict[str, object]:
    claims = KIND.claims(spec, REPOSITORY)
    found = comparison.diff(claims, KIND.observe(claims, Facts(raw)))
    return {item.name: item for item in found if item.thing == "link:bond0"}


def test_a_bond_with_other_options_is_created_again(raw):
    spec = spec_of("802.3ad", **OPTIONS, **DELAYS)
    link(raw, "bond0")["bond_mode"] = "802.3ad"
    link(raw, "bond0")["bond_options"] = {**OPTIONS, **DELAYS, "primary": "none"}
    assert differing(raw, spec) == {}

    for name, value in {**OPTIONS, **DELAYS}.items():
        other = 7 if isinstance(value, int) else "slow"
        link(raw, "bond0")["bond_options"] = {**OPTIONS, **DELAYS, name: other}
        found = differing(raw, spec)
        assert (found.keys(), found[name].actual) == ({name}, other)
        assert applied(planned(raw, spec))[0] == "storage bond0"


def test_options_that_an_older_probe_did_not_report_are_unknown(raw):
    found = differing(raw, spec_of("active-backup", primary="fabric1"))

    assert [*found] == ["primary"] and found["primary"].is_unknown
