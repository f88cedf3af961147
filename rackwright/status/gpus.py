"""What the GPUs of a fleet are doing, and which of them somebody should look at."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rackwright.audit.evidence import AT_ONCE
from rackwright.audit.report import Evidence
from rackwright.errors import RackwrightError
from rackwright.facts.facts import Facts
from rackwright.facts.gpu import Gpu, Xid
from rackwright.facts.view import UnknownFact, View
from rackwright.hosts.pool import Hosts
from rackwright.schema import nvidia
from rackwright.schema.alerts import Alerts
from rackwright.schema.host import Host
from rackwright.stack import Stack

RETRY_SECONDS = 30
"""Between two attempts to reach a host that was not reached: meanwhile the others are not kept waiting."""
FIGURES = (
    "name", "uuid", "utilisation_percent", "memory_used_bytes", "memory_bytes", "temperature_celsius", "power_watts",
    "power_limit_watts", "uncorrected_errors",
)  # fmt: skip
"""Of each GPU, by the names that facts have for them."""


@dataclass(frozen=True)
class Row:
    """One GPU; or a host, for what is to be said of none of its GPUs."""

    host: str
    index: int | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What is known of FIGURES; None for what the board does not have."""
    processes: tuple[tuple[int, str | None], ...] = ()
    """Number and name of each."""
    alerts: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """What is not known, and why."""
    not_reached: RackwrightError | None = None


@dataclass(frozen=True)
class GpuReport:
    """All GPUs of a fleet at one time."""

    stack: str
    rows: tuple[Row, ...]

    @property
    def exit_status(self) -> int:
        """0 no alert, 1 an alert, 3 no alert but something is unknown."""
        if any(row.alerts for row in self.rows):
            return 1
        return 3 if any(row.unknown or row.not_reached for row in self.rows) else 0


def asked(stack: Stack) -> tuple[str, ...]:
    """Return the hosts that are declared to have GPUs: no other is asked."""
    return tuple(name for name, host in stack.fleet.hosts.items() if nvidia.gpus(host.profile))


def look(hosts: Hosts, stack: Stack) -> GpuReport:
    """Look at all GPUs at once."""

    def of(name: str) -> Facts | RackwrightError:
        try:
            return hosts.gpus(name)
        except RackwrightError as error:
            return error

    names = asked(stack)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return report(stack, dict(zip(names, pool.map(of, names), strict=True)))


def looks(hosts: Hosts, stack: Stack, seconds: float, stop: threading.Event) -> Iterator[GpuReport]:
    """Yield a report, and another one every so many *seconds* until *stop* is set."""
    tried = time.monotonic()
    while True:
        yield look(hosts, stack)
        if stop.wait(seconds):
            return
        if time.monotonic() - tried > RETRY_SECONDS:
            tried = time.monotonic()
            hosts.try_again()


def report(stack: Stack, evidence: Evidence) -> GpuReport:
    """Set what was seen against what is declared."""
    rows = (row for name, facts in evidence.items() for row in _rows(name, stack.fleet.hosts[name], facts))
    return GpuReport(stack.name, tuple(rows))


def _rows(name: str, host: Host, facts: Facts | RackwrightError) -> Iterator[Row]:
    if isinstance(facts, RackwrightError):
        yield Row(name, not_reached=facts)
        return
    unknown: list[str] = []
    gpus: tuple[Gpu, ...] | None = _known(facts, "gpus", unknown)
    errors = [error for error in _known(facts, "xids", unknown) or () if _is_new(error, facts, host.alerts)]
    alerts = []
    declared = len(nvidia.gpus(host.profile))
    if gpus is not None and len(gpus) < declared:
        alerts.append(f"{len(gpus)} of {declared} GPUs are there")
    for gpu in gpus or ():
        # one that is lost does not even tell where it sits: its errors are the host's
        place = _known(gpu, "pci_address", [], "")
        its_own = [error for error in errors if place.startswith(error.pci)]
        errors = [error for error in errors if error not in its_own]
        yield _row(name, gpu, host.alerts, map(_said, its_own))
    alerts += [f"{error.pci}: {_said(error)}" for error in errors]
    if alerts or unknown:
        yield Row(name, alerts=tuple(dict.fromkeys(alerts)), unknown=tuple(unknown))


def _row(host: str, gpu: Gpu, limits: Alerts, errors: Iterable[str]) -> Row:
    unknown: list[str] = []
    condition = _known(gpu, "condition", unknown)
    if condition != "working":
        alerts = [condition] if condition else []
        return Row(host, gpu.index, alerts=(*alerts, *dict.fromkeys(errors)), unknown=tuple(unknown))
    figures = {name: _known(gpu, name, unknown, MISSING) for name in FIGURES}
    figures = {name: value for name, value in figures.items() if value is not MISSING}
    processes = [(process.pid, _known(process, "name", unknown)) for process in _known(gpu, "processes", unknown, ())]
    over = (*_over(figures, limits), *dict.fromkeys(errors))
    return Row(host, gpu.index, figures, tuple(processes), over, tuple(unknown))


MISSING = object()


def _known(view: View, name: str, unknown: list[str], otherwise: Any = None) -> Any:
    """Return what *view* has under *name*; where that is not known *otherwise*, and put the reason into *unknown*."""
    try:
        return getattr(view, name)
    except UnknownFact as reason:
        unknown.append(str(reason))
        return otherwise


def _is_new(error: Xid, facts: Facts, limits: Alerts) -> bool:
    return error.at > facts.taken_at - limits.xid_minutes * 60


def _over(figures: Mapping[str, Any], limits: Alerts) -> Iterator[str]:
    """Yield what is over its limit; what the board does not have is over none."""

    def over(name: str, limit: int) -> bool:
        return figures.get(name) is not None and figures[name] > limit

    if over("utilisation_percent", limits.utilisation_percent):
        yield f"utilisation {figures['utilisation_percent']} % > {limits.utilisation_percent} %"
    if over("memory_used_bytes", limits.memory_used):
        yield f"memory {mebibytes(figures['memory_used_bytes'])} > {mebibytes(limits.memory_used)} MiB"
    if over("temperature_celsius", limits.temperature_celsius):
        yield f"temperature {figures['temperature_celsius']} °C > {limits.temperature_celsius} °C"
    if over("uncorrected_errors", limits.uncorrected_errors):
        yield f"uncorrected errors {figures['uncorrected_errors']} > {limits.uncorrected_errors}"


def mebibytes(size_bytes: int) -> int:
    """Return what others write of a GPU's memory, in MiB."""
    return size_bytes >> 20


def _said(error: Xid) -> str:
    return f"Xid {error.code}: {error.text}"


def as_json(report: GpuReport) -> dict[str, Any]:
    """Return *report* for machines."""
    return {
        "stack": report.stack,
        "exit_status": report.exit_status,
        "gpus": [
            {
                "host": row.host,
                "index": row.index,
                **row.figures,
                "processes": [{"pid": pid, "name": name} for pid, name in row.processes],
                "alerts": [*row.alerts],
                "unknown": [*row.unknown],
                "not_reached": row.not_reached and str(row.not_reached),
            }
            for row in report.rows
        ],
    }
