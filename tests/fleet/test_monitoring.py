"""The roles that follow from `monitoring`: each exporter has a target, and each host one port."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackwright.core.repository import Roles
from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet
from rackwright.fleet.monitoring import services_of
from rackwright.fleet.roles import accept_all_secrets
from rackwright.fleet.roles import problems as role_problems
from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Host
from rackwright.schema.problem import Problem
from rackwright.schema.secret import Form
from tests.support.role_sets import closure, samples, system_of
from tests.support.sources import ROOT

ROLES = Roles(ROOT)
MAIL = {"to": "ops@example.org", "sender": "rack@example.org", "server": "mail.example.org:587"}


def host(number: int, **more: Any) -> dict[str, Any]:
    return {
        "address": f"192.0.2.{number}",
        "os": "debian-12",
        "identity": {"serial": f"S{number}"},
        "nics": [{"name": "port0", "mac": f"52:54:00:00:00:0{number}", "addresses": [f"10.0.0.{number}/24"]}],
        "network": {},
        "roles": {"base": {}, **more.pop("roles", {})},
        **more,
    }


def load(directory: Path, hosts: dict[str, Any], **monitoring: Any) -> Fleet:
    receivers = {"operators": {"url": {"secret": "alerts_url"}}}
    data = {
        "fleet": "lab",
        "ssh": {"logins": [{"name": "me", "user": "me", "agent": True}]},
        "hosts": hosts,
        "monitoring": {"host": "alpha", "receivers": receivers, **monitoring},
    }
    path = directory / "lab.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_fleet(path, ROLES)


def test_each_exporter_of_each_host_is_a_target_at_the_one_port_of_its_host(tmp_path: Path) -> None:
    fleet = load(tmp_path, {"alpha": host(1), "beta": host(2), "gamma": host(3, retired=True)})

    prometheus = fleet.hosts["alpha"].roles["prometheus"]
    assert {(each["instance"], each["address"], each["path"]) for each in prometheus["targets"]} == {
        *(("alpha", "127.0.0.1:9443", path) for path in ("/proxy", "/node", "/services")),
        *(("beta", "10.0.0.2:9443", path) for path in ("/proxy", "/node", "/services")),
    }
    for name in ("alpha", "beta"):
        own = fleet.hosts[name].roles
        paths = {each["path"] for each in prometheus["targets"] if each["instance"] == name}
        assert paths == {"/proxy", *(f"/{exporter}" for exporter in own["metrics_proxy"]["exporters"])}
        assert "address" not in own["node_exporter"], "it listens on loopback"
    assert "metrics_proxy" not in fleet.hosts["gamma"].roles
    assert "prometheus" not in fleet.hosts["beta"].roles


def test_a_declared_exporter_and_other_addresses_and_ports_count(tmp_path: Path) -> None:
    node = {"node_exporter": {"collectors": {"systemd": False, "processes": True}}}
    fleet = load(
        tmp_path,
        {"alpha": host(1), "beta": host(2, roles=node)},
        port=9500,
        addresses={"beta": "fd00::2"},
        scrape_seconds=60,
    )

    beta = fleet.hosts["beta"].roles
    assert beta["node_exporter"]["collectors"] == {"systemd": False, "processes": True}
    sockets = {"node": "/run/rackwright-node-exporter.sock", "services": "/run/rackwright-service-metrics.sock"}
    assert (beta["metrics_proxy"]["exporters"], beta["node_exporter"]["socket"]) == (sockets, sockets["node"])
    assert beta["metrics_proxy"]["address"] == "fd00::2"
    prometheus = fleet.hosts["alpha"].roles["prometheus"]
    assert prometheus["scrape_seconds"] == 60
    assert {each["address"] for each in prometheus["targets"]} == {"127.0.0.1:9500", "[fd00::2]:9500"}


def test_services_with_metrics_have_an_exporter_each() -> None:
    service = load_fleet(ROOT / "stacks/hospital/hospital.yaml", ROLES).hosts["service-01"]
    roles = service.roles

    store = {"object_store_master", "object_store_volume", "object_store_filer", "object_store_s3"}
    assert {"node", "services", "health", "load_balancer", *store} == {*roles["metrics_proxy"]["exporters"]}
    services = {each["service"]: each["certificate"] for each in roles["health_exporter"]["services"]}
    assert services == {
        **{name: f"/etc/rackwright/{name}/tls.crt" for name in ("mlflow", "registry")},
        "object-store": "/etc/rackwright/object_store/tls.crt",
        "load-balancer-r1": "",
    }
    assert roles["prometheus"]["data"] == {"tier": "warm"}
    assert service.variables("node_exporter")["textfiles"] == [
        "rackwright_drives.prom", "rackwright_gpus.prom", "rackwright_audit_hospital.prom",
        "rackwright_audit_hospital-models.prom",
    ]  # fmt: skip
    assert {"drive_exporter", "gpu_exporter", "service_exporter"} <= roles.keys()


def test_audits_of_a_host_with_the_role_are_its_metrics_and_others_are_copied(tmp_path: Path) -> None:
    role = {"scheduled_audit": {"stacks": ["rack"], "key": {"secret": "audit_login"}}}
    fleet = load(tmp_path, {"alpha": host(1), "beta": host(2, roles=role)}, audits={"rack": 26, "cold": 26})

    rules = fleet.hosts["alpha"].roles["prometheus"]["rules"]["audits"]
    selected = [re.findall('stack="(.*?)",instance="(.*?)"', rule["expr"]) for rule in rules]
    assert {each[0] for each in selected} == {("rack", "beta"), ("cold", "alpha")}
    audits = [fleet.hosts[name].roles["metrics_proxy"]["exporters"].get("audits") for name in ("alpha", "beta")]
    assert audits == [None, "/run/rackwright-audit-metrics.sock"]
    files = {name: fleet.hosts[name].variables("node_exporter")["textfiles"] for name in ("alpha", "beta")}
    assert files["alpha"][1:] == ["rackwright_audit_cold.prom"] and len(files["beta"]) == 1


@pytest.mark.parametrize(
    "monitoring",
    [
        {},
        {
            "receivers": {
                "operators": {"url": {"secret": "alerts_url"}},
                "mail": {"email": {**MAIL, "user": "rack", "password": {"secret": "mail_password"}}},
            },
            "routes": [{"severity": "critical", "receiver": "mail"}],
            "heartbeat": {"secret": "heartbeat_url"},
            "retention_size": "50GB",
            "retention_days": 3650,
            "scrape_seconds": 300,
            "repeat_minutes": 10080,
        },
    ],
)
def test_what_the_section_allows_the_roles_allow(monitoring: dict[str, Any], tmp_path: Path) -> None:
    fleet = load(tmp_path, {"alpha": host(1), "beta": host(2)}, **monitoring)

    for each in fleet.hosts.values():
        assert [*role_problems(each, ROLES, accept_all_secrets)] == []


def test_a_missing_secret_is_one_error_at_its_line(tmp_path: Path) -> None:
    def missing(name: str, shortest: int, form: Form | None = None) -> Problem:
        return Problem(f"got a secret {name} without a value of {shortest}", form.expected if form else "", "Set it")

    load(tmp_path, {"alpha": host(1), "beta": host(2)}, heartbeat={"secret": "beat"})
    with pytest.raises(DeclarationError) as error:
        load_fleet(tmp_path / "lab.yaml", ROLES, missing)

    found = {each.where.rpartition(": ")[2]: str(each.problem) for each in error.value.diagnostics}
    assert found == {
        "monitoring.key": "got a secret monitoring_key without a value of 32",
        "monitoring.heartbeat": "got a secret beat without a value of 8",
        "monitoring.receivers.operators.url": "got a secret alerts_url without a value of 8",
    }


def test_a_fleet_in_python_has_the_same_roles_and_errors(tmp_path: Path) -> None:
    text = """
from rackwright.schema import *
from rackwright.schema.monitoring import Monitoring, Receiver

def fleet():
    host = dict(os="debian-12", roles={{"base": {{}}}})
    return Fleet(
        fleet="lab",
        hosts={{"alpha": Host(address="192.0.2.1", identity=Identity(serial="A"), **host)}},
        monitoring=Monitoring(host="{host}", receivers={{"operators": Receiver(url={{"secret": "alerts_url"}})}}),
    )
"""
    path = tmp_path / "lab.py"
    path.write_text(text.format(host="alpha"))
    assert {"prometheus", "alertmanager", "metrics_proxy"} <= load_fleet(path, ROLES).hosts["alpha"].roles.keys()
    path.write_text(text.format(host="alfa"))
    with pytest.raises(DeclarationError) as error:
        load_fleet(path, ROLES)
    assert "monitoring.host: got 'alfa'" in str(error.value)


@pytest.mark.parametrize(
    ("addresses", "problem"),
    [
        ({"beta": "127.0.0.1"}, "got '127.0.0.1'; an IP address of the host that the monitoring host reaches"),
        ({"beta": "::1"}, "got '::1'"),
        ({"beta": "224.0.0.1"}, "got '224.0.0.1'"),
        ({"beta": "0.0.0.0"}, "got '0.0.0.0'"),
        ({"beta": "192.0.2.9", "alpha": "192.0.2.9"}, "got 192.0.2.9, which is the address of"),
    ],
)
def test_an_address_of_another_host_is_refused(addresses: dict[str, str], problem: str, tmp_path: Path) -> None:
    """Metrics of the host that answers would pass for those of a dead one."""
    with pytest.raises(DeclarationError, match=re.escape(problem)):
        load(tmp_path, {"alpha": host(1), "beta": host(2)}, addresses=addresses)


@pytest.mark.parametrize(
    "address", ["{{.CommonLabels.device}}@example.org", "a b@example.org", "a@b@example.org", "@x"]
)
def test_a_mail_address_that_alertmanager_would_fill_in_is_refused(address: str, tmp_path: Path) -> None:
    mail = {"to": address, "sender": "rack@example.org", "server": "mail.example.org:587"}
    with pytest.raises(DeclarationError, match="an e-mail address"):
        load(tmp_path, {"alpha": host(1)}, receivers={"team": {"email": mail}})


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_host_with_any_role_can_be_monitored(role: str):
    """The services of a host are asked of each of its roles, some of whose names need its drivers or its name."""
    os = system_of([role])
    assert os is not None
    member = Host.model_validate({**host(1), "os": os, "roles": {each: samples()[each] for each in closure([role])}})
    for service in services_of(member, ROLES):
        assert service.keys() | {"certificate"} == {"service", "address", "port", "path", "certificate"}


def test_each_host_sends_its_journal_to_the_monitoring_host(tmp_path: Path) -> None:
    hosts = {"alpha": host(1), "beta": host(2), "gamma": host(3, retired=True)}
    fleet = load(tmp_path, hosts, journal={"size": "1GiB"})

    key = {"secret": "monitoring_key"}
    sender = {"address": "10.0.0.1", "port": 19532, "key": key}
    senders = {"alpha": ["10.0.0.1"], "beta": ["10.0.0.2"]}
    assert [fleet.hosts[name].roles.get("journal_sender") for name in hosts] == [sender, sender, None]
    assert fleet.hosts["alpha"].roles["journal_receiver"] == {**sender, "senders": senders, "size_mib": 1024}
    assert "journal_receiver" not in fleet.hosts["beta"].roles
    for name in ("alpha", "beta"):
        assert [*role_problems(fleet.hosts[name], ROLES, accept_all_secrets)] == []


def test_hosts_without_a_common_network_need_the_address_of_the_receiver(tmp_path: Path) -> None:
    other = host(2) | {"nics": [{"name": "port0", "mac": "52:54:00:00:00:02", "addresses": ["10.9.0.2/24"]}]}
    addresses = {"beta": "10.9.0.2"}
    with pytest.raises(DeclarationError, match="got no address of alpha for all journals"):
        load(tmp_path, {"alpha": host(1), "beta": other}, addresses=addresses, journal={})

    found = load(
        tmp_path, {"alpha": host(1), "beta": other}, addresses=addresses, journal={"address": "10.0.0.1"}
    ).hosts["beta"]
    assert found.roles["journal_sender"]["address"] == "10.0.0.1"


def test_a_journal_has_room_for_files_that_are_not_deleted(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="512MiB or more"):
        load(tmp_path, {"alpha": host(1)}, journal={"size": "384MiB"})


def test_verdicts_are_about_all_hosts_that_are_not_retired(tmp_path: Path) -> None:
    hosts = {"alpha": host(1), "beta": host(2), "gamma": host(3, retired=True)}
    fleet = load(tmp_path, hosts, quarantine={"share_percent": 50})

    common = {"address": "10.0.0.1", "hosts": ["alpha", "beta"], "share_percent": 50}
    common["key"] = {"secret": "monitoring_key"}
    role = {**common, "port": 9095, "read_port": 9096, "readers": ["10.0.0.1", "10.0.0.2"]}
    assert fleet.hosts["alpha"].roles["quarantine_receiver"] == role
    assert fleet.hosts["alpha"].roles["alertmanager"]["quarantine_port"] == 9095
    assert "quarantine_receiver" not in fleet.hosts["beta"].roles
    reader = {**common, "receiver": "alpha", "port": 9096}
    assert [fleet.hosts[name].roles.get("quarantine_reader") for name in hosts] == [reader, reader, None]
    for name in ("alpha", "beta"):
        assert [*role_problems(fleet.hosts[name], ROLES, accept_all_secrets)] == []


def test_readers_know_the_hosts_of_balanced_members_and_the_control_plane(tmp_path: Path) -> None:
    members = ["10.0.0.2:8080", "10.9.0.9:8080"]
    services = {"digits": {"port": 8080, "members": members}, "far": {"port": 8081, "members": ["10.9.0.9:8081"]}}
    hosts = {"alpha": host(1, roles={"load_balancer": {"services": services}}), "beta": host(2)}
    monitoring = {"quarantine": {"share_percent": 50, "address": "10.0.0.1", "read_port": 9200}}
    fleet = load(tmp_path, hosts, **monitoring)

    reader = fleet.hosts["alpha"].roles["quarantine_reader"]
    assert reader["members"] == {"digits": {"10.0.0.2:8080": "beta", "10.9.0.9:8080": ""}} and reader["port"] == 9200
    assert "members" not in fleet.hosts["beta"].roles["quarantine_reader"]
    assert [*role_problems(fleet.hosts["alpha"], ROLES, accept_all_secrets)] == []


def test_members_of_ipv6_have_their_host_in_each_spelling(tmp_path: Path) -> None:
    second = host(2)
    second["nics"][0]["addresses"] = ["10.0.0.2/24", "fd00::2/64"]
    services = {"digits": {"port": 8080, "members": ["[fd00:0::2]:8080"]}}
    hosts = {"alpha": host(1, roles={"load_balancer": {"services": services}}), "beta": second}
    fleet = load(tmp_path, hosts, quarantine={"share_percent": 50})

    assert fleet.hosts["alpha"].roles["quarantine_reader"]["members"] == {"digits": {"[fd00:0::2]:8080": "beta"}}


def test_hosts_without_a_common_network_need_the_address_of_the_verdicts(tmp_path: Path) -> None:
    other = host(2) | {"nics": [{"name": "port0", "mac": "52:54:00:00:00:02", "addresses": ["10.9.0.2/24"]}]}
    hosts, addresses = {"alpha": host(1), "beta": other}, {"beta": "10.9.0.2"}
    with pytest.raises(DeclarationError, match="got no address of alpha for all readers of verdicts"):
        load(tmp_path, hosts, addresses=addresses, quarantine={"share_percent": 50})

    found = load(tmp_path, hosts, addresses=addresses, quarantine={"share_percent": 50, "address": "10.0.0.1"})
    assert found.hosts["beta"].roles["quarantine_reader"]["address"] == "10.0.0.1"


@pytest.mark.parametrize(
    ("count", "quarantine", "wanted"),
    [
        (2, {}, "share_percent"),
        (2, {"share_percent": 51}, "50"),
        (3, {"share_percent": 33}, "got 33 % of 3 hosts, which is less than one host; .*Write 34 or more"),
        (1, {"share_percent": 50}, "got 50 % of 1 host, which is less than one host; .*Remove quarantine"),
    ],
)
def test_a_share_is_declared_and_has_one_host(
    tmp_path: Path, count: int, quarantine: dict[str, int], wanted: str
) -> None:
    with pytest.raises(DeclarationError, match=wanted):
        hosts = {name: host(number) for number, name in enumerate(("alpha", "beta", "gamma")[:count], 1)}
        load(tmp_path, hosts, quarantine=quarantine)
