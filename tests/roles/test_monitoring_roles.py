"""The roles metrics_proxy, prometheus and alertmanager: what they refuse, and what their programs answer to whom."""

import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from rackwright.facts.program import service_metrics_program
from rackwright.fleet.render_alerts import alert_names, render, topics
from rackwright.kinds.role.derived_certificates import derived_authority, derived_certificate, derived_key
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.schema.alerts import Alerts
from tests.support.expect import eventually
from tests.support.monitoring import (
    KEY,
    SECRETS,
    Webhook,
    activated,
    arguments,
    client,
    files,
    free_port,
    get,
    listens,
    running,
    spec,
    wait_for,
    write,
)
from tests.support.our_roles import REPOSITORY, ROLES

FIGURES = {"gpu-01": {"drive_media_errors": 0, "drive_pending_sectors": 0, "drive_wear_percent": 90}}
HOSTILE = "hostile-01"
OPERATORS = {"name": "operators", "url": {"secret": "alerts_url"}}
PAGE = {"service": "page", "address": "127.0.0.1", "port": 8080, "path": "/health"}
MAIL = {"to": "ops@example.org", "from": "rack@example.org", "server": "mail.example.org:587"}


def test_equal_secrets_give_equal_certificates_and_others_another_authority():
    made = [derived_certificate.__wrapped__("k" * 32, "gpu-01", "server", ("10.0.0.1",)) for _ in range(2)]
    own, authority = (x509.load_pem_x509_certificate(text.encode()) for text in (made[0], derived_authority("k" * 32)))

    assert made[0] == made[1]
    own.verify_directly_issued_by(authority)
    assert derived_authority("o" * 32) != derived_authority("k" * 32)
    assert derived_certificate("k" * 32, "gpu-01", "server", ("10.0.0.2",)) != made[0]
    keys = {derived_key("k" * 32, name, use) for name in ("gpu-01", "gpu-02") for use in ("server", "client")}
    assert len(keys) == 4, "a host that has its own key has no other one"


def test_what_depends_on_the_secret_is_secret_and_unknown_without_it():
    for role, more in (
        ("metrics_proxy", {"exporters": {"node": 9100}}),
        ("prometheus", {}),
        ("alertmanager", {"receivers": [OPERATORS]}),
    ):
        made = promises(spec(role, **more), REPOSITORY)
        keys = {path for path in made.secret_files if path.endswith((".key", "/alertmanager.yml"))}
        assert keys and {file.mode for file in made.files if file.file in keys} == {"0640"}
        assert "monitoring_key" in made.unknown_secrets


@dataclass
class Monitored:
    """The three roles and an exporter on loopback."""

    directory: Path
    proxy: int
    prometheus: int
    alertmanager: int
    exporter: int
    webhook: Webhook

    def query(self, text: str) -> list[dict[str, Any]]:
        status, body = get(self.prometheus, f"/api/v1/query?query={text}", client(self.directory))
        assert status == 200, body
        result: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return result


def hostile_answer() -> str:
    """Return an answer of HTTP with each series of the rules twice or more, by labels and names that rules use."""
    text = " ".join(rule["expr"] for rules in topics().values() for rule in rules)
    names = sorted(
        {*re.findall(r"\b([a-zA-Z_:]\w{3,})(?=[{\[ )])", text)} | {"up", "ALERTS", "prometheus_rule_group_rules"}
    )
    labels = [
        *('severity="a"', 'severity="b"', 'alertname="HostNotReached"', 'alertstate="firing"', 'job="proxy"'),
        *('state="active",device="md0"', 'state="failed",device="md0"', 'instance="gpu-01"', 'state="recovering"'),
    ]
    lines = [f"{name}{{{each}}} {number}" for name in names for number, each in enumerate(labels)]
    body = "\n".join([*lines, ""])
    return f"HTTP/1.0 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {len(body)}\r\n\r\n{body}"


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    directory = tmp_path_factory.mktemp("monitoring")
    webhook = Webhook()
    found = Monitored(directory, *(free_port() for _ in range(4)), webhook)
    jobs = ("proxy", "node", "gone", "services")
    services = str(directory / "services.sock")
    (directory / "program").write_text(service_metrics_program())
    rules = render(
        {"gpu-01": jobs}, {"gpu-01": Alerts()}, dict.fromkeys(alert_names(), 0), FIGURES, {"rack": (1, "gpu-01")}
    )
    targets = [
        {"job": job, "instance": "gpu-01", "address": f"127.0.0.1:{found.proxy}", "path": f"/{job}"} for job in jobs
    ]
    targets.append(
        {"job": "node", "instance": HOSTILE, "address": f"127.0.0.1:{found.proxy}", "path": f"/{HOSTILE[:7]}"}
    )
    address = f"http://127.0.0.1:{webhook.server_port}"
    secrets = {**SECRETS, "alerts_url": f"{address}/alerts", "heartbeat_url": f"{address}/heartbeat"}
    hostile = str(directory / "hostile.sock")
    (directory / "hostile.prom").write_text(hostile_answer())
    exporters = {"node": found.exporter, "gone": 1, "services": services, HOSTILE[:7]: hostile}
    write(directory, files("metrics_proxy", secrets, port=found.proxy, exporters=exporters, clients=["127.0.0.1"]))
    write(
        directory,
        files(
            *("prometheus", secrets),
            port=found.prometheus,
            alertmanager_port=found.alertmanager,
            scrape_seconds=1,
            targets=targets,
            rules=rules,
        ),
    )
    write(
        directory,
        files(
            *("alertmanager", secrets),
            port=found.alertmanager,
            receivers=[OPERATORS],
            heartbeat={"secret": "heartbeat_url"},
        ),
    )
    (directory / "run/rackwright-metrics-proxy").mkdir(parents=True)
    with ExitStack() as stack:
        exporter = ("prometheus-node-exporter", "prometheus-node-exporter")
        stack.enter_context(activated(services, "/usr/bin/python3", "-I", "-S", str(directory / "program")))
        stack.enter_context(activated(hostile, "cat", str(directory / "hostile.prom")))
        stack.enter_context(running(*exporter, f"--web.listen-address=127.0.0.1:{found.exporter}"))
        # its workers have an account of their own otherwise, which does not reach this directory
        config = str(directory / "etc/rackwright/metrics_proxy/nginx.conf")
        stack.enter_context(running("nginx", "nginx", "-e", "stderr", "-g", "user root;", "-c", config))
        # the first alert is older than the discovery of Alertmanager, and the next one would come a minute later
        resend = {"prometheus": ["--rules.alert.resend-delay=1s"]}
        for name, package in (("alertmanager", "prometheus-alertmanager"), ("prometheus", "prometheus")):
            argv = arguments(directory, f"rackwright-{name}.service")
            stack.enter_context(running(package, package, *argv, *resend.get(name, [])))
        for port in (found.exporter, found.proxy, found.alertmanager, found.prometheus):
            wait_for(port)
        ready = client(directory)
        eventually(lambda: get(found.prometheus, "/-/ready", ready)[0] == 200, "Prometheus has read its samples")
        yield found
    webhook.end()


def test_metrics_come_through_the_proxy_with_the_labels_of_the_fleet(monitored: Monitored):
    eventually(lambda: monitored.query("node_load1"), "a metric of the host")
    [load] = monitored.query("node_load1")

    assert {"instance": "gpu-01", "job": "node"}.items() <= load["metric"].items()
    eventually(lambda: len(monitored.query("up")) == 7, "all targets were read once")
    up = {each["metric"]["job"]: each["value"][1] for each in monitored.query('up{instance="gpu-01"}')}
    assert up == {"proxy": "1", "node": "1", "services": "1", "gone": "0", "prometheus": "1", "alertmanager": "1"}


def test_prometheus_judges_every_rule(monitored: Monitored):
    def health() -> dict[str, str]:
        _, body = get(monitored.prometheus, "/api/v1/rules", client(monitored.directory))
        return {rule["name"]: rule["health"] for group in json.loads(body)["data"]["groups"] for rule in group["rules"]}

    eventually(lambda: {*health().values()} == {"ok"}, "each rule was judged")
    own = (None, "proxy", "node", "services")
    others = {rule["alert"] for rules in topics().values() for rule in rules if rule.get("job") not in own}
    assert {*alert_names()} - health().keys() == others, "the host has neither GPUs nor services such as etcd"


def test_no_series_of_a_host_is_about_targets_or_another_host(monitored: Monitored):
    hostile = f'instance="{HOSTILE}"'
    eventually(lambda: monitored.query(f"node_md_disks{{{hostile}}}"), "a metric of the hostile host")

    assert [each["metric"]["job"] for each in monitored.query(f"up{{{hostile}}}")] == ["node"]
    assert not monitored.query(f'{{__name__=~"prometheus_.*",{hostile}}}')
    assert not monitored.query('{severity!="",__name__!~"ALERTS.*"}')
    ours = monitored.query('{exported_instance!=""}')
    assert {each["metric"]["instance"] for each in ours} == {HOSTILE}


def test_the_alert_of_a_stopped_exporter_and_the_heartbeat_reach_their_receivers(monitored: Monitored):
    eventually(lambda: monitored.webhook.alerts("ExporterDown"), "the alert")
    eventually(lambda: monitored.webhook.alerts("Heartbeat"), "the heartbeat")

    [alert] = {json.dumps(each["labels"], sort_keys=True) for each in monitored.webhook.alerts("ExporterDown")}
    expected = {"alertname": "ExporterDown", "instance": "gpu-01", "job": "gone", "severity": "warning"}
    assert expected.items() <= json.loads(alert).items()
    summary = monitored.webhook.alerts("ExporterDown")[0]["annotations"]["summary"]
    assert summary == "gpu-01 answers, and its exporter gone does not"
    paths = {
        (alert["labels"]["alertname"], message["path"])
        for message in monitored.webhook.messages
        for alert in message["alerts"]
    }
    assert {("ExporterDown", "/alerts"), ("Heartbeat", "/heartbeat")} <= paths
    assert not {("ExporterDown", "/heartbeat"), ("Heartbeat", "/alerts")} & paths


def refused(port: int, path: str, context: ssl.SSLContext) -> bool:
    """Return whether a server gives nothing to a client with *context*."""
    try:
        status, body = get(port, path, context)
    except OSError:  # the handshake fails
        return True
    return status == 400 and "node_" not in body


def test_nothing_answers_without_the_certificate_of_the_client(monitored: Monitored, tmp_path: Path):
    without = ssl.create_default_context(cafile=str(monitored.directory / "etc/rackwright/prometheus/authority.crt"))
    # another host of the fleet has the certificate of a server
    host = client(monitored.directory, "metrics_proxy", "tls")
    write(tmp_path, files("prometheus", key={"secret": "other_key"}))
    other = client(tmp_path)
    other.load_verify_locations(str(monitored.directory / "etc/rackwright/prometheus/authority.crt"))

    for port, path in (
        (monitored.proxy, "/node"),
        (monitored.prometheus, "/api/v1/query?query=up"),
        (monitored.alertmanager, "/api/v2/status"),
    ):
        assert [refused(port, path, each) for each in (without, host, other)] == [True] * 3
        assert get(port, path, client(monitored.directory))[0] == 200
    assert not listens(9094), "the port of Alertmanager for other instances"


@pytest.mark.parametrize(("peers", "each"), [(1, 600), (20, 20)])
def test_peers_without_a_certificate_leave_connections_to_the_monitoring_host(
    monitored: Monitored, peers: int, each: int
):
    """A handshake that does not end holds a connection for ten seconds, and a new one may follow."""
    with ExitStack() as stack:
        for number in range(peers * each):
            peer = stack.enter_context(socket.socket())
            peer.bind((f"127.0.1.{1 + number % peers}", 0))
            peer.connect(("127.0.0.1", monitored.proxy))
            with suppress(ConnectionError):
                peer.send(b"\x16")
        assert get(monitored.proxy, "/proxy", client(monitored.directory))[0] == 200


def test_one_peer_leaves_connections_to_another_that_is_no_declared_client(
    tmp_path_factory: pytest.TempPathFactory,
):
    directory, port = tmp_path_factory.mktemp("alone"), free_port()  # short, for the path of a socket
    write(directory, files("prometheus"))
    write(directory, files("metrics_proxy", port=port, exporters={"node": 1}))
    (directory / "run/rackwright-metrics-proxy").mkdir(parents=True)
    config = str(directory / "etc/rackwright/metrics_proxy/nginx.conf")
    with running("nginx", "nginx", "-e", "stderr", "-g", "user root;", "-c", config), ExitStack() as stack:
        wait_for(port)
        for _ in range(600):
            peer = stack.enter_context(socket.socket())
            peer.bind(("127.0.1.1", 0))
            peer.connect(("127.0.0.1", port))
            with suppress(ConnectionError):
                peer.send(b"\x16")
        assert get(port, "/proxy", client(directory))[0] == 200


def test_the_proxy_answers_for_exporters_and_nothing_else(monitored: Monitored):
    own = client(monitored.directory)
    statuses = [get(monitored.proxy, path, own)[0] for path in ("/node", "/", "/node/../", "/metrics", "/gone")]

    assert statuses == [200, 404, 404, 404, 502]
    status, body = get(monitored.proxy, "/services", own)
    assert status == 200, body
    assert get(monitored.proxy, "/node", own, "POST")[0] == 403


def test_rules_that_braces_and_quotes_are_in_stay_as_declared():
    rule = {
        "alert": "Full",
        "expr": 'x{a="<b>"} > 0.5',
        "for": "5m",
        "labels": {"severity": "info"},
        "annotations": {"summary": "{{ $labels.instance }} has {{ $value }} & 'more'"},
    }
    made = files("prometheus", rules={"drives": [rule]})
    [group] = yaml.safe_load(str(made["/etc/rackwright/prometheus/rules/drives.yml"].content))["groups"]

    assert group == {"name": "drives", "rules": [rule]}
    [claim] = [
        each for each in promises(spec("prometheus", rules={"drives": [rule]}), REPOSITORY).entries
        if each.thing == "directory:/etc/rackwright/prometheus/rules"
    ]  # fmt: skip
    assert claim.want(REPOSITORY)["names"].values == ("drives.yml",)


@pytest.mark.parametrize(
    ("role", "variables", "wanted"),
    [
        ("metrics_proxy", {"key": "in clear"}, "key: got the key in plain text"),
        ("metrics_proxy", {"key": ""}, "key: got no key"),
        ("metrics_proxy", {"port": 443}, "port: got 443; without root, a port is"),
        ("metrics_proxy", {"exporters": {}}, "exporters: got none; a proxy has"),
        ("metrics_proxy", {"exporters": {"a/b": 9100}}, "exporters: got a/b: 9100; an exporter"),
        *(("metrics_proxy", {"exporters": {"a": place}}, "exporters: got a: ") for place in (
            "/run/user/1000/x.sock", "/run/../tmp/x.sock", "/run/a/../../tmp/x", "/run/lock/x", "/run/shm/x",
            "/run/./x", "/run/é", "/run/" + "a" * 80 + "!",
            "/run//x", "/run/x/", "/run/", "/run", "/tmp/x", "/run/.x", "/run/" + "x" * 91,
        )),
        ("health_exporter", {"services": []}, "services: got none; the exporter asks"),
        *(("health_exporter", {"services": [{**PAGE, **odd}]}, "services: got ") for odd in (
            {"service": "A b"}, {"path": "health"}, {"path": "/a b"}, {"certificate": "tls.crt"},
            {"certificate": "/etc/a b"},
        )),
        ("health_exporter", {"services": [PAGE, PAGE]}, "services: got the service page more than once"),
        ("scheduled_audit", {"key": "in clear"}, "key: got the key in plain text"),
        ("scheduled_audit", {"stacks": []}, "stacks: got none"),
        ("scheduled_audit", {"stacks": ["a b"]}, 'stacks: got the stack "a b"'),
        ("scheduled_audit", {"directory": "/home/olga/rack"}, 'directory: got "/home/olga/rack"'),
        ("scheduled_audit", {"directory": "rack"}, 'directory: got "rack"'),
        ("scheduled_audit", {"directory": "/opt/../home/olga/rack"}, 'directory: got "/opt/../home/olga/rack"'),
        ("scheduled_audit", {"program": "/opt/a b"}, 'program: got "/opt/a b"'),
        ("scheduled_audit", {"program": "/dev/shm/rackwright"}, 'program: got "/dev/shm/rackwright"'),
        ("scheduled_audit", {"program": "/var/tmp/rackwright"}, 'program: got "/var/tmp/rackwright"'),
        ("scheduled_audit", {"time": "02:00; x"}, "time: got"),
        ("journal_receiver", {"key": "in clear"}, "key: got the key in plain text"),
        ("journal_receiver", {"port": 443}, "port: got 443"),
        ("journal_receiver", {"senders": {}}, "senders: got none"),
        *(("journal_receiver", {"senders": odd}, "senders: got ") for odd in (
            {"../a": ["10.0.0.1"]}, {"a;b": ["10.0.0.1"]}, {"a": []}, {"a": "10.0.0.1"},
        )),
        ("journal_receiver", {"size_mib": 511}, "size_mib: got 511"),
        ("journal_receiver", {"data": "/"}, 'data: got "/"'),
        ("journal_receiver", {"data": "/srv/a;b"}, 'data: got "/srv/a;b"'),
        ("journal_sender", {"key": "in clear"}, "key: got the key in plain text"),
        ("journal_sender", {"address": ""}, "address: got none"),
        ("journal_sender", {"port": 443}, "port: got 443"),
        ("quarantine_receiver", {"key": "in clear"}, "key: got the key in plain text"),
        ("quarantine_receiver", {"port": 443}, "port: got 443"),
        ("quarantine_receiver", {"read_port": 443}, "read_port: got 443"),
        ("quarantine_receiver", {"read_port": 9095}, "read_port: got 9095"),
        ("quarantine_receiver", {"readers": []}, "readers: got none"),
        ("quarantine_reader", {"key": "in clear"}, "key: got the key in plain text"),
        ("quarantine_reader", {"receiver": ""}, 'receiver: got ""'),
        ("quarantine_reader", {"address": ""}, "address: got none"),
        ("quarantine_reader", {"port": 443}, "port: got 443"),
        ("quarantine_reader", {"hosts": ["a", "b", "C d"]}, 'hosts: got "C d"'),
        ("quarantine_reader", {"share_percent": 49}, "share_percent: got 49 % of 2 hosts, which is less than one"),
        ("quarantine_reader", {"members": {"a": {"10.0.0.1": "gpu-01"}}}, "members: got a: "),
        ("quarantine_reader", {"members": {"a": {"10.0.0.1:80": 3}}}, "members: got a: "),
        ("quarantine_receiver", {"hosts": ["a", "b", "C d"]}, 'hosts: got "C d"'),
        ("quarantine_receiver", {"hosts": []}, "share_percent: got 50 % of 0 hosts, which is less than one"),
        ("quarantine_receiver", {"share_percent": 49}, "share_percent: got 49 % of 2 hosts, which is less than one"),
        ("prometheus", {"key": "in clear"}, "key: got the key in plain text"),
        ("prometheus", {"port": 443}, "port: got 443"),
        ("prometheus", {"alertmanager_port": 9090}, "alertmanager_port: got 9090, as for port"),
        ("prometheus", {"data": "/"}, 'data: got "/"'),
        (
            "prometheus",
            {"targets": [{"job": "node", "instance": "a\"b", "address": "10.0.0.1:9", "path": "/node"}]},
            "targets: got",
        ),
        ("prometheus", {"rules": {"A": []}}, 'rules: got the topic "A"'),
        ("prometheus", {"rules": {"a": [{"alert": "X"}]}}, "rules: got rules of a without a name or an expression"),
        ("prometheus", {"rules": {"a": "X"}}, "rules: got rules of a without"),
        ("alertmanager", {"key": "in clear"}, "key: got the key in plain text"),
        ("alertmanager", {"port": 443}, "port: got 443"),
        ("alertmanager", {"receivers": []}, "receivers: got none"),
        ("alertmanager", {"receivers": [OPERATORS, OPERATORS]}, "receivers: got the receiver operators more than once"),
        ("alertmanager", {"receivers": [{**OPERATORS, "name": "none"}]}, 'receivers: got the receiver "none"'),
        ("alertmanager", {"receivers": [{"name": "a"}]}, "receivers: got the receiver a without url and"),
        ("alertmanager", {"receivers": [{"name": "a", "url": "http://x/"}]}, "receivers: got the URL of a in plain"),
        ("alertmanager", {"receivers": [{"name": "a", "email": {**MAIL, "to": "x"}}]}, 'receivers: got "x", "rack@'),
        (
            "alertmanager",
            {"receivers": [{"name": "a", "email": {**MAIL, "user": "rack"}}]},
            "receivers: got the account of the mail server of a without a secret",
        ),
        (
            "alertmanager",
            {"receivers": [OPERATORS], "routes": [{"severity": "info", "receiver": "x"}]},
            "routes: got the receiver x; one of receivers: operators",
        ),
        ("alertmanager", {"heartbeat": "http://x/"}, "heartbeat: got the URL in plain text"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(role: str, variables: dict[str, Any], wanted: str):
    enough: dict[str, dict[str, Any]] = {
        "scheduled_audit": {"stacks": ["rack"]},
        "metrics_proxy": {"exporters": {"node": 9100}},
        "alertmanager": {"receivers": [OPERATORS]},
        "journal_receiver": {"senders": {"gpu-01": ["10.0.0.1"]}},
        "journal_sender": {"address": "10.0.0.1"},
        "quarantine_receiver": {"hosts": ["gpu-01", "gpu-02"], "share_percent": 50, "readers": ["10.0.0.2"]},
        "quarantine_reader": {
            "receiver": "gpu-01",
            "address": "10.0.0.1",
            "hosts": ["gpu-01", "gpu-02"],
            "share_percent": 50,
        },
    }
    key = {"key": KEY} if "key" in ROLES[role].secret_lengths else {}
    given = {**key, **enough.get(role, {}), **variables}
    assert list(ROLES[role].problems("debian-12", given)) == [], "each is of its type"
    [problem] = refusals(ROLES[role], "debian-12", given)

    assert wanted in f"{'.'.join(map(str, problem.path))}: {problem}"


@pytest.mark.parametrize("place", ["/run/x.sock", "/run/rackwright-load-balancer/metrics.sock", "/run/a/b/c", 9100])
def test_sockets_in_directories_of_roots_are_exporters(place: str | int):
    assert [*refusals(ROLES["metrics_proxy"], "debian-12", {"key": KEY, "exporters": {"a": place}})] == []


def test_alertmanager_gets_what_the_roles_declare():
    password = {"secret": "mail_password"}
    made = files(
        *("alertmanager", {**SECRETS, "mail_password": "p" * 12}),
        receivers=[OPERATORS, {"name": "mail", "email": {**MAIL, "user": "rack", "password": password}}],
        routes=[{"severity": "critical", "receiver": "mail"}],
    )
    settings = yaml.safe_load(str(made["/etc/rackwright/alertmanager/alertmanager.yml"].content))

    assert settings["route"]["receiver"] == "operators"
    assert [route["receiver"] for route in settings["route"]["routes"]] == ["none", "mail"]
    assert {each["name"]: sorted({*each} - {"name"}) for each in settings["receivers"]} == {
        "none": [], "heartbeat": [], "operators": ["webhook_configs"], "mail": ["email_configs"],
    }  # fmt: skip
    assert settings["receivers"][3]["email_configs"][0]["auth_password"] == "p" * 12
