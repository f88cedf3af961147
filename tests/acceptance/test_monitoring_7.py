"""Line 7 of monitoring: what exporters cost a host beside node_exporter alone, and many hosts the monitoring host."""

import time

from tests.support.acceptance import line
from tests.support.benchmark import measure
from tests.support.expect import eventually, need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.monitoring_lab import HOSTS, SECRETS, WORKER, all_up, fleet

SECONDS, RUNS = 300, 5
SCRAPE_SECONDS, DRIVE_SECONDS = 15, 300
"""The defaults of `monitoring` and of role `drive_exporter`."""
DAEMONS = ("rackwright-node-exporter.service", "rackwright-metrics-proxy.service")
PROGRAMS = {"rackwright-drive-metrics": DRIVE_SECONDS, "rackwright-service-metrics": SCRAPE_SECONDS}
"""Seconds between two runs of the programs that systemd starts."""
COST = """\
import resource, subprocess, sys
for _ in range({runs}):
    subprocess.run(["/usr/local/sbin/{program}"], input=b"GET / HTTP/1.0\\r\\n\\r\\n", capture_output=True, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print((used.ru_utime + used.ru_stime) / {runs}, used.ru_maxrss)
"""
MEMORY_MB_MAX = 4096
"""The limit of role `prometheus`: with more, systemd would end it."""


def _daemon(lab: Lab, unit: str) -> tuple[float, int]:
    """Return the processor seconds and the resident kilobytes of a service on the worker."""
    nanoseconds = int(lab.ssh(WORKER, f"systemctl show --value --property=CPUUsageNSec {unit}"))
    pids = lab.ssh(WORKER, f"cat /sys/fs/cgroup/system.slice/{unit}/cgroup.procs").split()
    sizes = [lab.ssh(WORKER, f"awk '/^VmRSS/ {{print $2}}' /proc/{pid}/status") for pid in pids]
    return nanoseconds / 1e9, sum(map(int, sizes))


@line("monitoring", 7, "exporters")
def test_exporters_cost_a_host_little_beside_node_exporter_alone(log: Log) -> str:
    """Processor time an hour at the default intervals, and memory; on a container, which has no drives and GPUs."""
    directory = log.empty_directory()
    text = fleet(scrape_seconds=SCRAPE_SECONDS)
    with Lab(directory / "project", text, log, containers=HOSTS, mirrors=True) as lab:
        for name, value in SECRETS.items():
            lab.set_secret(name, value)  # which makes the stack
        lab.start()
        lab.apply()
        eventually(lambda: all_up(lab), "all targets are up", SECONDS)
        before, began = {unit: _daemon(lab, unit)[0] for unit in DAEMONS}, time.monotonic()
        time.sleep(SECONDS)
        after, seconds = {unit: _daemon(lab, unit) for unit in DAEMONS}, time.monotonic() - began
        hourly = {unit: (after[unit][0] - before[unit]) / seconds * 3600 for unit in DAEMONS}
        memory = {unit: after[unit][1] for unit in DAEMONS}
        for program, every in PROGRAMS.items():
            used, size = lab.ssh(WORKER, f"python3 - <<'END'\n{COST.format(program=program, runs=RUNS)}\nEND").split()
            hourly[program], memory[program] = float(used) * 3600 / every, int(size)
    alone = DAEMONS[0]
    need(all(hourly.values()) and all(memory.values()), f"nothing was measured: {hourly}, {memory}")
    parts = ", ".join(f"{name} {hourly[name]:.1f} s and {memory[name] / 1024:.0f} MiB" for name in hourly)
    return f"an hour: {parts}; together {sum(hourly.values()) / hourly[alone]:.1f} times node_exporter alone"


@line("monitoring", 7, "hosts")
def test_a_thousand_hosts_fit_into_the_memory_of_prometheus(log: Log) -> str:
    """Samples a second, memory and drive of the real Prometheus, beside a plain node_exporter and configuration."""
    figures = measure(log, "benchmarks.monitoring")
    figure = (
        f"{figures['hosts']} hosts: {figures['samples_per_second']} samples a second, {figures['megabytes']} MB,"
        f" {figures['gigabytes_a_day']} GB a day; processor time of a sample {figures['processor_ratio']} and memory"
        f" {figures['memory_ratio']} times a plain one"
    )
    need(figures["megabytes"] < MEMORY_MB_MAX, f"{figure}; at most {MEMORY_MB_MAX} MB")
    return figure
