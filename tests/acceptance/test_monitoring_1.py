"""Line 1 of monitoring: a fleet with monitoring converges, its targets are up, and removal leaves nothing."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.monitoring_lab import HOSTS, SECRETS, SERVERS, SERVICE, WORKER, ask, fleet, up
from tests.support.tiny_server_lab import tiny_models

TARGETS = {
    *((host, job) for host in HOSTS for job in ("proxy", "node", "services")),
    (SERVICE, "prometheus"),
    (SERVICE, "alertmanager"),
}
DRIVES = "/var/lib/prometheus/node-exporter/rackwright_drives.prom"
BROKEN = {
    f"{WORKER}/metrics_proxy": {
        "file:/etc/rackwright/metrics_proxy/nginx.conf": "sed -i 's/ssl_verify_client on/ssl_verify_client off/' "
        "/etc/rackwright/metrics_proxy/nginx.conf",
        "file:/etc/rackwright/metrics_proxy/tls.key": "chmod 0644 /etc/rackwright/metrics_proxy/tls.key",
        "unit:rackwright-metrics-proxy.service": "systemctl stop rackwright-metrics-proxy",
    },
    f"{SERVICE}/prometheus": {
        "file:/etc/rackwright/prometheus/web.yml": ": > /etc/rackwright/prometheus/web.yml",
        "directory:/etc/rackwright/prometheus/rules": "echo 'groups: []' > /etc/rackwright/prometheus/rules/x.yml",
        "directory:/etc/rackwright/prometheus/targets": "echo '[]' > /etc/rackwright/prometheus/targets/x.json",
        "state:/var/lib/rackwright-prometheus": "chmod 0755 /var/lib/rackwright-prometheus",
        "unit:prometheus.service": "systemctl unmask prometheus.service",
    },
    f"{WORKER}/drive_exporter": {
        f"file:{DRIVES}": f"systemctl stop rackwright-drive-metrics.timer; rm {DRIVES}",
        "unit:rackwright-drive-metrics.timer": "true",
    },
    f"{WORKER}/service_exporter": {
        "unit:rackwright-service-metrics.socket": "systemctl disable --now rackwright-service-metrics.socket",
    },
    f"{SERVICE}/alertmanager": {
        "file:/etc/rackwright/alertmanager/alertmanager.yml": "sed -i 's#/alerts#/others#' "
        "/etc/rackwright/alertmanager/alertmanager.yml",
        "unit:rackwright-alertmanager.service": "systemctl disable --now rackwright-alertmanager",
    },
}
"""Commands that break a claim, by resource and claim."""
FOLDERS = tuple(f"/etc/rackwright/{role}" for role in ("metrics_proxy", "prometheus", "alertmanager"))
MASKED = "file:/etc/systemd/system/nginx.service"
GONE = (
    "rackwright-prometheus.service",
    "rackwright-alertmanager.service",
    "rackwright-metrics-proxy.service",
    "rackwright-node-exporter.service",
    "rackwright-drive-metrics.timer",
    "rackwright-service-metrics.socket",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("monitoring")
    log = Log("monitoring")
    with Lab(directory / "project", fleet(), log, containers=HOSTS, mirrors=True, workloads=True) as lab:
        lab.add_stack("serving", SERVERS)
        tiny_models(log, lab.directory / "models")
        for name, value in SECRETS.items():
            lab.set_secret(name, value)  # which makes the stack
        lab.start()
        lab.apply()
        yield lab


@line("monitoring", 1, "targets")
def test_all_targets_are_up_and_nothing_is_left_to_do(lab: Lab) -> str:
    """A fleet with monitoring converges: all targets are up, the second `up` is empty, the audit is clean."""
    eventually(lambda: {key for key, good in up(lab).items() if good} == TARGETS, "all targets are up", 120)
    lab.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes", status=0)
    need(lab.audit_differences(status=0) == set(), "the audit is clean")
    return f"{len(TARGETS)} targets up"


@line("monitoring", 1, "services")
def test_a_model_server_of_another_fleet_and_the_drives_are_read(lab: Lab) -> str:
    """The metrics of a model server, of its canary and of the drives reach Prometheus, and a stopped server shows."""
    hosts, lab.stack = lab.stack, "serving"
    lab.up()

    def value(query: str) -> str | None:
        [*rows] = ask(lab, f"/api/v1/query?query={quote(query)}")["data"]["result"]
        return rows[0]["value"][1] if len(rows) == 1 else None

    up_query = f'rackwright_server_up{{server="digits",instance="{WORKER}",job="services"}}'
    eventually(lambda: value(up_query) == "1", "the server is read", 120)
    eventually(lambda: value(f"rackwright_server_accuracy{labels()}"), "the accuracy of its canary is read", 300)
    for query in ("rackwright_server_queue_requests", "rackwright_server_model_load_seconds"):
        need(value(f"{query}{labels()}") is not None, query)
    lab.ssh(WORKER, "systemctl stop server-digits")
    eventually(lambda: value(up_query) == "0", "the stopped server is noticed", 120)
    lab.rackwright("destroy", lab.stack, "--yes", status=0)
    lab.stack = hosts
    eventually(lambda: value(f"count({up_query}) or vector(0)") == "0", "the removed server is gone", 600)
    # a container has no drives
    read = [value(f'rackwright_drives_read{{instance="{host}"}}') for host in HOSTS]
    need(read == ["1", "1"], f"the drives are read: {read}")
    return "5 series of a server, and drives of 2 hosts read"


def labels() -> str:
    return f'{{server="digits",instance="{WORKER}"}}'


@line("monitoring", 1, "claims")
def test_every_broken_claim_is_found_and_repaired(lab: Lab) -> str:
    """Each changed file, unit and directory of the roles of monitoring is a difference, and `up` repairs it."""
    for resource, things in BROKEN.items():
        for command in things.values():
            lab.ssh(resource.partition("/")[0], command)
    found = lab.audit_differences()
    missed = [(name, thing) for name, things in BROKEN.items() for thing in things if (name, thing) not in found]
    need(not missed, f"not found: {missed}")
    lab.apply()
    need(lab.audit_differences(status=0) == set(), "all is repaired")
    return f"{sum(map(len, BROKEN.values()))} broken claims found and repaired"


@line("monitoring", 1, "removal")
def test_removal_leaves_nothing(lab: Lab) -> str:
    """Without `monitoring`, its units, files, packages and ports leave the hosts."""

    def remove(content: Any) -> None:
        del content["monitoring"]

    lab.edit(remove)
    lab.apply()
    found = {(each["host"], each["path"]) for each in lab.audit()["findings"] if each["severity"] != "notice"}
    # package nginx-common stays, and its unit stays masked
    need(found <= {(host, MASKED) for host in HOSTS}, f"the audit finds {found}")
    ports = 0
    for host in HOSTS:
        units = lab.ssh(host, f"systemctl is-active {' '.join(GONE)} || true").split()
        need({*units} == {"inactive"}, f"{host}: {units}")
        files = lab.ssh(host, f"find {' '.join(FOLDERS)} -type f 2>/dev/null || true")
        need(not files, f"{host}: {files}")
        left = lab.ssh(host, "dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' prometheus prometheus-alertmanager "
                             "prometheus-node-exporter nginx 2>/dev/null | grep '^ii' || true")  # fmt: skip
        need(not left, f"{host}: {left}")
        open_ports = lab.ssh(host, "ss -Hltn '( sport = 9090 or sport = 9093 or sport = 9100 or sport = 9443 )'")
        need(not open_ports, f"{host}: {open_ports}")
        ports += 4
    return f"{len(GONE) * len(HOSTS)} units and {ports} ports gone"
