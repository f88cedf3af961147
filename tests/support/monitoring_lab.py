"""A fleet of two containers with monitoring, and questions to its Prometheus as root of the monitoring host."""

import io
import json
import shlex
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML

from tests.support.lab import Lab

SERVICE, WORKER = "alpha", "beta"
HOSTS = (SERVICE, WORKER)
SECRETS = {"alerts_url": "http://127.0.0.1:9009/alerts", "heartbeat_url": "http://127.0.0.1:9009/heartbeat"}
ASK = """
import json, ssl, sys, urllib.request
place = "/etc/rackwright/prometheus"
context = ssl.create_default_context(cafile=f"{place}/authority.crt")
context.load_cert_chain(f"{place}/client.crt", f"{place}/client.key")
print(urllib.request.urlopen(sys.argv[1], context=context, timeout=30).read().decode())
"""
MONITORING: dict[str, Any] = {
    "host": SERVICE,
    "scrape_seconds": 5,
    "receivers": {"operators": {"url": {"secret": "alerts_url"}}},
    "heartbeat": {"secret": "heartbeat_url"},
}

SERVERS = f"""\
fleet: serving
uses: fleet.yaml
servers:
  digits:
    model: {{path: models/first}}
    hosts: [{WORKER}]
    keys: {{app: {{secret: digits_app}}}}
    canary: {{data: models/rows.npz, accuracy: 0.9, every: 1min}}
    environment: {{path: /opt/workloads}}
    ready_seconds: 300
    set: {{threads: 1, drain_seconds: 0}}
"""
"""The fleet of a model server on the worker, with the tiny models of the lab."""


def fleet(names: Sequence[str] = HOSTS, **more: Any) -> str:
    """Return the text of the fleet with hosts of these *names*; *more* are further keys of `monitoring`."""
    text = io.StringIO()
    nic = "52:54:00:00:07:{:02x}"
    hosts = {
        name: {
            "group": "all",
            "address": f"192.0.2.{number}",
            "identity": {"serial": f"S-{name.upper()}"},
            "nics": [{"name": "fabric0", "mac": nic.format(number), "addresses": [f"10.33.0.{number}/24"]}],
        }
        for number, name in enumerate(names, start=1)
    }
    base = {"security_updates": False, "ntp_servers": ["time-1.example"]}
    group = {"os": "debian-12", "network": {}, "roles": {"base": base}}
    YAML().dump(
        {"fleet": "monitored", "groups": {"all": group}, "hosts": hosts, "monitoring": {**MONITORING, **more}}, text
    )
    return text.getvalue()


def ask(lab: Lab, path: str, port: int = 9090, host: str = SERVICE) -> Any:
    """Return the answer of a server on the monitoring host *host* to its own client."""
    url = f"https://127.0.0.1:{port}{path}"
    return json.loads(lab.ssh(host, f"python3 - {shlex.quote(url)} <<'END'\n{ASK}\nEND"))


def up(lab: Lab, host: str = SERVICE) -> dict[tuple[str, str], bool]:
    """Return whether each target was read, by its instance and job."""
    result = ask(lab, "/api/v1/query?query=up", host=host)["data"]["result"]
    return {(each["metric"]["instance"], each["metric"]["job"]): each["value"][1] == "1" for each in result}


def all_up(lab: Lab) -> bool:
    """Return whether Prometheus knows targets of both hosts, and has read each of its targets the last time."""
    targets = ask(lab, "/api/v1/targets?state=active")["data"]["activeTargets"]
    known = {each["labels"]["instance"] for each in targets}
    return known == set(HOSTS) and all(each["health"] == "up" for each in targets)


def rules_firing(lab: Lab, host: str = SERVICE) -> set[tuple[str, str]]:
    """Return the names and instances of the alerts that fire in Prometheus, whether Alertmanager runs or not."""
    alerts = ask(lab, "/api/v1/alerts", host=host)["data"]["alerts"]
    return {
        (each["labels"]["alertname"], each["labels"].get("instance", ""))
        for each in alerts
        if each["state"] == "firing"
    }


def firing(lab: Lab) -> set[tuple[str, str]]:
    """Return the names and instances of the alerts that Alertmanager has."""
    alerts = ask(lab, "/api/v2/alerts", 9093)
    return {(each["labels"]["alertname"], each["labels"].get("instance", "")) for each in alerts}
