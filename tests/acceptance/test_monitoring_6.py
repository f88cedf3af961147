"""Line 6 of monitoring: other hosts get nothing, secrets stay in their files, a hostile host does no harm to others."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from rackwright.schema.secret import derive_value
from tests.support import monitoring_lab
from tests.support.acceptance import line
from tests.support.asked_ports import REFUSED, Place, ask, listeners
from tests.support.expect import eventually, need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.monitoring_lab import HOSTS, SECRETS, SERVICE, WORKER, all_up, fleet, rules_firing, up

PATHS = ("/", "/metrics", "/proxy", "/node", "/services", "/api/v1/targets", "/api/v2/status", "/-/healthy")
OWN = ("/etc/rackwright/metrics_proxy/tls.crt", "/etc/rackwright/metrics_proxy/tls.key")
PAGES = {
    9090: ("/api/v1/status/config", "/api/v1/status/flags", "/api/v1/targets", "/api/v1/rules", "/metrics"),
    9093: ("/api/v2/receivers", "/metrics"),
}
SEARCH = """\
umask 077
cat > /run/needle <<'END'
{value}
END
grep -rlF -f /run/needle /etc /var /opt /srv /run /tmp /root 2>/dev/null | grep -v -e /run/needle -e /journal/ |
    while read -r file; do [ "$(stat -c %a "$file" | tail -c 2)" = 0 ] || echo "$file"; done
for each in /proc/[0-9]*/cmdline; do tr '\\0' '\\n' < $each 2>/dev/null | grep -qF -f /run/needle && echo $each; done
rm /run/needle
"""
"""A script that prints each file that others may read, and each process, with a value."""
METRICS = "/var/lib/prometheus/node-exporter/rackwright_drives.prom"
FORGED = f"""\
rackwright_drive_failing{{instance="{SERVICE}",job="node",serial="FORGED",device="sda"}} 1
up{{instance="{SERVICE}",job="node"}} 0
ALERTS{{alertname="HostNotReached",alertstate="firing",instance="{SERVICE}"}} 1
"""
SERIES = 'python3 -c \'for n in range({}): print("flood{{n=\\"%d{}\\"}} 1" % n)\''
FLOODS = {
    "series": SERIES.format(60_000, ""),
    "bytes": 'python3 -c \'for n in range(40): print(f"# HELP flood{n} {{}}\\nflood{n} 1".format("x" * 1000000))\'',
    "letters of a label": SERIES.format(10, "x" * 2000),
}
"""Commands that print more than a target may send."""
NEW = SERIES.format(30_000, "-'$(date +%s)'")
CHURN = f"while true; do {NEW} > {METRICS}.new; mv {METRICS}.new {METRICS}; sleep 5; done"
REFUSED_MAX = 70_000
"""Series in memory after the floods, of which one has 60,000."""
SECONDS = 300


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("monitoring")
    with Lab(directory / "project", fleet(), Log("monitoring-6"), containers=HOSTS, mirrors=True) as lab:
        for name, value in SECRETS.items():
            lab.set_secret(name, value)  # which makes the stack
        lab.start()
        lab.apply()
        eventually(lambda: all_up(lab), "all targets are up", SECONDS)
        yield lab


def _addresses(lab: Lab, host: str) -> list[str]:
    """Return the addresses of *host* for its neighbour, of both families."""
    found = lab.ssh(host, "ip -o address show dev fabric0 | awk '{print $4}'").split()
    plain = [each.partition("/")[0] for each in found]
    need(len(plain) == 2, f"{host} has the addresses {plain}")
    return [f"{each}%fabric0" if ":" in each else each for each in plain]


@line("monitoring", 6, "ports")
def test_no_port_answers_without_the_certificate_of_the_client(lab: Lab) -> str:
    """Every listening port of both hosts, both families, in plain text, with TLS, with the certificate of a host."""
    asked = 0
    ports = {host: {port for _, port in listeners(lab, host)} for host in HOSTS}
    need({9090, 9093, 9443} <= ports[SERVICE] and 9443 in ports[WORKER], f"found only {ports}")
    for host, other in ((WORKER, SERVICE), (SERVICE, WORKER)):
        places: list[Place] = [
            (address, port, path, tls)
            for address in _addresses(lab, other)
            for port in sorted(ports[other])
            for path in PATHS
            for tls in (False, True)
        ]
        for own in (None, OWN):
            answers = ask(lab, host, places, own=own)
            wrong = [each for each in answers if each[-1] not in REFUSED]
            need(not wrong, f"{other} answered {host}: {wrong[:5]}")
            asked += len(answers)
    return f"{asked} requests to {sum(map(len, ports.values()))} ports of two hosts refused"


@line("monitoring", 6, "secrets")
def test_secrets_are_in_no_file_of_others_no_command_line_and_no_page(lab: Lab) -> str:
    """Nothing that others read has a secret; the guide names the one exception, the log of Alertmanager."""
    values = {**SECRETS, "monitoring_key": derive_value("monitoring_key")}
    for name, value in values.items():
        for host in HOSTS:
            found = lab.ssh(host, SEARCH.format(value=value), status=None).split()
            need(not found, f"{host}: {name} is in {found}")
        for port, paths in PAGES.items():
            for path in paths:
                text = lab.ssh(SERVICE, f"python3 - https://127.0.0.1:{port}{path} <<'END'\n{monitoring_lab.ASK}\nEND")
                need(text and value not in text, f"{name} is in {path} of port {port}")
    pages = sum(map(len, PAGES.values()))
    return f"{len(values)} secrets in no file of others and no command line of 2 hosts, and on none of {pages} pages"


def _rows(lab: Lab, query: str) -> list[dict[str, str]]:
    return [each["metric"] for each in monitoring_lab.ask(lab, f"/api/v1/query?query={quote(query)}")["data"]["result"]]


def _number(lab: Lab, query: str) -> float:
    [row] = monitoring_lab.ask(lab, f"/api/v1/query?query={quote(query)}")["data"]["result"]
    return float(row["value"][1])


@line("monitoring", 6, "hostile")
def test_a_hostile_host_forges_nothing_of_others_and_its_floods_are_refused_or_reported(lab: Lab) -> str:
    """Root of a host writes series of another host, too many series, bytes and letters, and ever new series."""
    lab.ssh(WORKER, f"systemctl stop rackwright-drive-metrics.timer; cat > {METRICS} <<'END'\n{FORGED}END")
    eventually(lambda: _rows(lab, 'rackwright_drive_failing{serial="FORGED"}'), "the forged series is read", SECONDS)
    [forged] = _rows(lab, 'rackwright_drive_failing{serial="FORGED"}')
    need(forged["instance"] == WORKER and forged["exported_instance"] == SERVICE, f"it is {forged}")
    for query in (
        f'up{{instance="{SERVICE}"}} == 0',
        f'{{instance="{SERVICE}",serial="FORGED"}}',
        'ALERTS{alertname="HostNotReached"}',
    ):
        need(not _rows(lab, query), f"{query} has a result")
    need(("HostNotReached", SERVICE) not in rules_firing(lab), "a forged alert fires")
    before, target = _number(lab, "prometheus_tsdb_head_series"), (WORKER, "node")
    for name, flood in FLOODS.items():
        lab.ssh(WORKER, f"echo 'node_load1 0' > {METRICS}")
        eventually(lambda: up(lab)[target], "the target is up", SECONDS)
        lab.ssh(WORKER, f"{{ {flood}; }} > {METRICS}")
        eventually(lambda: not up(lab)[target], f"the target with too many {name} is down", SECONDS)
        need(all(good for key, good in up(lab).items() if key != target), "other targets are up")
    added = _number(lab, "prometheus_tsdb_head_series") - before
    # Prometheus makes the series of an answer before it counts them, so that a refused one takes memory as well
    need(added < REFUSED_MAX, f"refused floods have added {added:.0f} series")
    lab.ssh(
        WORKER,
        f"cat > /run/churn.sh <<'END'\n{CHURN}\nEND\nsystemd-run --quiet --collect --unit=churn sh /run/churn.sh",
    )
    eventually(lambda: ("NewSeries", WORKER) in rules_firing(lab), "ever new series are reported", SECONDS)
    lab.ssh(WORKER, "systemctl stop churn")
    memory = _number(lab, 'process_resident_memory_bytes{job="prometheus"}') / 2**20
    lab.apply()
    need(not lab.audit_differences(status=0), "`up` repairs the file of the role")
    eventually(lambda: all_up(lab), "all targets are up again", SECONDS)
    return f"3 forged series, {len(FLOODS)} floods refused with {added:.0f} series, NewSeries at {memory:.0f} MiB"
