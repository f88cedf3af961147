"""Faults of hosts with monitoring, the alert of each, and a receiver that keeps the messages of Alertmanager."""

import json
from dataclasses import dataclass
from typing import Any

from tests.support.lab import Lab
from tests.support.monitoring_lab import SERVICE, WORKER

DRIVES = "/var/lib/prometheus/node-exporter/rackwright_drives.prom"
STACK = "lab"
MESSAGES = "/root/messages.jsonl"
RECEIVER = f"""
import http.server, json
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with open("{MESSAGES}", "a") as file:
            file.write(json.dumps({{"path": self.path, **body}}) + "\\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 9009), Receiver).serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that ends on a host, and how it is put back."""

    host: str
    cause: str
    """Command that causes the fault."""
    end: str
    """Command that ends it; empty: `up` does."""
    alert: str
    claim: str
    """Claim of the audit, `RESOURCE CLAIM`; empty: the audit says nothing, because nothing is declared about it."""


FAULTS = (
    Fault(
        WORKER,
        "systemctl stop rackwright-metrics-proxy",
        "",
        "HostNotReached",
        f"{WORKER}/metrics_proxy unit:rackwright-metrics-proxy.service",
    ),
    Fault(
        WORKER,
        "systemctl stop rackwright-node-exporter.socket rackwright-node-exporter.service",
        "",
        "ExporterDown",
        f"{WORKER}/node_exporter unit:rackwright-node-exporter.socket",
    ),
    Fault(
        WORKER,
        "systemctl stop rackwright-service-metrics.socket",
        "",
        "ExporterDown",
        f"{WORKER}/service_exporter unit:rackwright-service-metrics.socket",
    ),
    Fault(
        WORKER,
        f"sed -i 's/^rackwright_drives_read .*/rackwright_drives_read 0/' {DRIVES}",
        "systemctl start rackwright-drive-metrics.service",
        "DrivesUnread",
        "",
    ),
    Fault(
        WORKER,
        "systemd-run --quiet --unit=broken false; sleep 1",
        "systemctl reset-failed broken",
        "UnitFailed",
        "",
    ),
    Fault(
        SERVICE,
        "systemctl stop rackwright-alertmanager",
        "",
        "ExporterDown",
        f"{SERVICE}/alertmanager unit:rackwright-alertmanager.service",
    ),
)
"""What ends, by its alert; `AuditMissing`, a host without power and a dead Prometheus have functions of their own."""
KILLED = {
    WORKER: ("rackwright-metrics-proxy", "rackwright-node-exporter"),
    SERVICE: ("rackwright-prometheus", "rackwright-alertmanager", "rackwright-metrics-proxy"),
}
"""Processes that systemd starts again after a SIGKILL."""
DELAYS = dict.fromkeys(("HostNotReached", "ExporterDown", "DrivesUnread", "UnitFailed", "AuditMissing"), 5)


def start_receiver(lab: Lab) -> None:
    """Run a receiver of messages on the monitoring host."""
    lab.ssh(SERVICE, f"cat > /root/receiver.py <<'END'\n{RECEIVER}\nEND\nsystemctl stop receiver || true")
    lab.ssh(SERVICE, f": > {MESSAGES}; systemd-run --quiet --collect --unit=receiver python3 /root/receiver.py")


def messages(lab: Lab) -> list[dict[str, Any]]:
    """Return the messages that the receiver has got, the heartbeat's too."""
    return [json.loads(text) for text in lab.ssh(SERVICE, f"cat {MESSAGES}").splitlines()]


def alerts_of(lab: Lab, host: str) -> set[str]:
    """Return the names of the alerts about *host* that messages have named as firing."""
    return {
        alert["labels"]["alertname"]
        for message in messages(lab)
        for alert in message["alerts"]
        if alert["status"] == "firing" and alert["labels"].get("instance") == host
    }
