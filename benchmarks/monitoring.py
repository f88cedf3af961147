"""What many hosts cost the monitoring host: `python -m benchmarks.monitoring`.

Debian's Prometheus reads simulated hosts twice, for the same time: with a plain configuration the answers of a plain
node_exporter, and as role `prometheus` sets it up, with the metrics of 8 GPUs, 24 drives, 12 arrays and two runs of
each host, and the rules of the fleet. Both connect by TLS with the certificate of the client.
"""

import json
import os
import random
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import simulated_exporters, start
from rackwright.facts import drive_metrics, gpu_metrics
from rackwright.facts.metrics_text import to_text
from rackwright.facts.service_metrics import run_samples
from rackwright.fleet.render_alerts import alert_names, render
from rackwright.schema.alerts import Alerts
from tests.support.debian_programs import debian_program
from tests.support.expect import eventually
from tests.support.monitoring import SECRETS, arguments, client, files, free_port, get, running, wait_for, write
from tests.support.sources import ROOT

HOSTS, SECONDS, WARM_SECONDS, SCRAPE_SECONDS = 1000, 240, 60, 15
"""Simulated hosts; the time that is measured after the time for the first readings; the default of `monitoring`."""
GPUS, DRIVES, ARRAYS, RUNS = 8, 24, 12, 2
BLOCK_HOURS = 6
"""Hours of samples of one host in a block, whose size gives the bytes of a sample on the drive."""
EXPORTER = ("prometheus-node-exporter", "prometheus-node-exporter")
QUIET = "--log.level=error"
DAY = 86_400


@dataclass(frozen=True)
class Cost:
    """The cost of one Prometheus."""

    series: float
    samples_per_second: float
    processor: float
    """Share of one processor."""
    megabytes: float
    """Resident memory at the end."""


def exporter_answer() -> str:
    """Return the answer of a node_exporter on this computer."""
    port = free_port()
    with running(*EXPORTER, f"--web.listen-address=127.0.0.1:{port}", QUIET):
        wait_for(port)
        argv = ["curl", "--silent", "--fail", f"http://127.0.0.1:{port}/metrics"]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def own_answers(now: float) -> str:
    """Return the metrics that our exporters add on a host with GPUs, drives, arrays and runs."""
    gpus = [
        {
            "index": number, "uuid": f"GPU-{number:032x}", "pci_address": f"0000:{number:02x}:00.0", "name": "H100",
            "condition": "working", "memory_bytes": 80 << 30, "memory_used_bytes": 60 << 30, "utilisation_percent": 97,
            "temperature_celsius": 61, "power_watts": 612.5, "uncorrected_errors": 0,
        }
        for number in range(GPUS)
    ]  # fmt: skip
    health = {"passed": True, "pending_sectors": 0, "media_errors": 0, "wear_percent": 3}
    drives = [
        {"name": f"nvme{number}n1", "serial": f"S{number:019}", "health": health, "temperature_celsius": 41}
        for number in range(DRIVES)
    ]
    idle = {"sync_action": "idle", "sync_completed": "none", "sync_min": 0}
    array = {"degraded": 0, "mismatch_count": 0, "array_state": "clean", **idle}
    arrays = [{**array, "name": f"md{number}", "md_name": f"any:hot{number}"} for number in range(ARRAYS)]
    run = {
        "outcome": None, "steps": 10_000, "has_checkpoints": True, "checkpoint": 1500, "every_steps": 100,
        "ranks": {"0": {"time": now, "loss": 1.25, "step": 1512, "step_seconds": 3.5}},
    }  # fmt: skip
    facts = {"drives": drives, "arrays": arrays, "mappings": [], "scrubs": {"hot": now}}
    return (
        gpu_metrics.render({"gpus": gpus, "xids": [], "gpu_assignments": {}}, now)
        + to_text(drive_metrics.samples(facts, now))
        + to_text(run_samples({f"run-{number}": run for number in range(RUNS)}))
    )


@contextmanager
def exporters(directory: Path, answer: str) -> Iterator[int]:
    """Run the simulated hosts; yield their port."""
    place, port = directory / "etc/rackwright/metrics_proxy", free_port()
    write(directory, files("metrics_proxy", port=port, exporters={"node": 9100}))
    (place / "answer").write_text(answer)
    argv = [sys.executable, "-m", "benchmarks.simulated_exporters", str(place), str(port)]
    with subprocess.Popen(argv, cwd=ROOT) as process:
        try:
            wait_for(port)
            yield port
        finally:
            process.terminate()


def targets(port: int) -> list[dict[str, str]]:
    return [
        {"job": "node", "instance": f"host-{number:04}", "address": f"127.0.0.1:{port}", "path": f"/{number}"}
        for number in range(HOSTS)
    ]


def write_prometheus(directory: Path, port: int, own: int, rules: Mapping[str, Any]) -> None:
    """Write the files of role `prometheus` with *rules*."""
    variables = {"port": own, "scrape_seconds": SCRAPE_SECONDS, "targets": targets(port), "rules": rules}
    write(directory, files("prometheus", SECRETS, **variables))


def make_plain(directory: Path) -> None:
    """Change the configuration to a plain one: no limits, no changes of labels, no Alertmanager."""
    path = directory / "etc/rackwright/prometheus/prometheus.yml"
    config = yaml.safe_load(path.read_text())
    config.pop("alerting")
    [fleet] = [each for each in config["scrape_configs"] if each["job_name"] == "fleet"]
    kept = ("job_name", "scheme", "tls_config", "file_sd_configs")
    config["scrape_configs"] = [{name: fleet[name] for name in kept}]
    path.write_text(yaml.safe_dump(config))


def measure(directory: Path, answer: str, is_plain: bool) -> Cost:
    """Return the cost of a Prometheus in *directory* that reads all hosts."""
    names = [f"host-{number:04}" for number in range(HOSTS)]
    jobs, alerts = dict.fromkeys(names, ("node",)), dict.fromkeys(names, Alerts())
    rules = {} if is_plain else render(jobs, alerts, dict.fromkeys(alert_names(), 0), {}, {})
    with exporters(directory, answer) as port:
        own = free_port()
        write_prometheus(directory, port, own, rules)
        if is_plain:
            make_plain(directory)
        argv = arguments(directory, "rackwright-prometheus.service")
        with running("prometheus", "prometheus", *argv, QUIET) as process:
            wait_for(own)
            context = client(directory)
            eventually(lambda: get(own, "/-/ready", context)[0] == 200, "Prometheus is ready")
            time.sleep(WARM_SECONDS)
            before, began = _processor_seconds(process.pid), time.monotonic()
            first = _value(own, context, "prometheus_tsdb_head_samples_appended_total")
            time.sleep(SECONDS)
            seconds = time.monotonic() - began
            samples = _value(own, context, "prometheus_tsdb_head_samples_appended_total") - first
            used = _processor_seconds(process.pid) - before
            return Cost(
                series=_value(own, context, "prometheus_tsdb_head_series"),
                samples_per_second=samples / seconds,
                processor=used / seconds,
                megabytes=_resident_bytes(process.pid) / 1e6,
            )


def _value(port: int, context: ssl.SSLContext, name: str) -> float:
    """Return a metric of Prometheus about itself, which the plain one does not read."""
    status, text = get(port, "/metrics", context)
    if status != 200:
        raise AssertionError(f"Prometheus answered {status}: {text[:200]}")
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))


def _processor_seconds(pid: int) -> float:
    """Return the processor time, user and system, of a process that runs. Source: proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    plain_answer = exporter_answer()
    answer = plain_answer + own_answers(time.time())
    with tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        costs = {}
        for name, text in (("plain", plain_answer), ("rackwright", answer)):
            (place := Path(directory, name)).mkdir()
            costs[name] = measure(place, text, is_plain=name == "plain")
        bytes_of_sample = sample_bytes(Path(directory), answer)
    for name, cost in costs.items():
        gigabytes = cost.samples_per_second * DAY * bytes_of_sample / 1e9
        print(
            f"{name:<10} {HOSTS} hosts, {cost.series:.0f} series: {cost.samples_per_second:.0f} samples a second,"
            f" {cost.processor:.2f} processors, {cost.megabytes:.0f} MB of memory, {gigabytes:.1f} GB a day"
        )
    ours, theirs = costs["rackwright"], costs["plain"]
    processor = ours.processor / ours.samples_per_second / (theirs.processor / theirs.samples_per_second)
    figures = {
        "hosts": HOSTS,
        "samples_per_second": round(ours.samples_per_second),
        "megabytes": round(ours.megabytes),
        "gigabytes_a_day": round(ours.samples_per_second * DAY * bytes_of_sample / 1e9, 1),
        "bytes_of_sample": round(bytes_of_sample, 2),
        "processor_ratio": round(processor, 2),
        "memory_ratio": round(ours.megabytes / theirs.megabytes, 2),
    }
    print(json.dumps(figures))


def sample_bytes(directory: Path, answer: str) -> float:
    """Return the bytes that a sample takes in a block, which promtool makes of some hours of one host."""
    series, chance, count = [*simulated_exporters.parts(answer)], random.Random(1), 0
    begin = int(time.time()) - 2 * BLOCK_HOURS * 3600
    begin -= begin % (BLOCK_HOURS * 3600)
    path = directory / "samples.txt"
    columns: dict[str, list[str]] = {}
    for at in range(begin, begin + BLOCK_HOURS * 3600, SCRAPE_SECONDS):
        for line in simulated_exporters.render(series, at - begin, chance).splitlines():
            name, _, value = line.rpartition(" ")
            columns.setdefault(name, []).append(f"{name} {value} {at}")
            count += 1
    with path.open("w") as file:
        for rows in columns.values():
            file.write("\n".join([*rows, ""]))
        file.write("# EOF\n")
    argv = [str(debian_program("promtool", "prometheus")), "tsdb", "create-blocks-from", "openmetrics"]
    done = subprocess.run([*argv, str(path), str(directory / "blocks")], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"promtool ended with {done.returncode}: {done.stderr[-300:]}")
    size = sum(each.stat().st_size for each in (directory / "blocks").rglob("*") if each.is_file())
    return size / count


if __name__ == "__main__":
    smallest = {"HOSTS": 3, "SECONDS": 6, "WARM_SECONDS": 4, "SCRAPE_SECONDS": 1, "BLOCK_HOURS": 1}
    start(main, (globals(), smallest))
