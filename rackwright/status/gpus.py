"""The figures of all GPUs of a fleet, with an alert for each figure over its limit."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, cast

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.audit.evidence import AT_ONCE
from rackwright.audit.report import Evidence
from rackwright.errors import UserError
from rackwright.facts.facts import Facts
from rackwright.facts.gpu import GpuFacts, Xid
from rackwright.facts.view import UnknownFact, View
from rackwright.hosts.pool import Hosts
from rackwright.hosts.reading_threads import reading_threads
from rackwright.schema import nvidia
from rackwright.schema.alerts import Alerts
from rackwright.schema.host import Host
from rackwright.stack import Stack

RETRY_SECONDS = 30
"""Seconds between two attempts to reach a host that was not reached; the other hosts do not wait for it."""
FIGURES = (
    "name", "uuid", "utilisation_percent", "memory_used_bytes", "memory_bytes", "temperature_celsius", "power_watts",
    "power_limit_watts", "uncorrected_errors",
)  # fmt: skip
"""Names of the figures of a GPU in facts."""


@dataclass(frozen=True)
class GpuRow:
    """One GPU; or a host, for alerts and errors that belong to none of its GPUs."""

    host: str
    index: int | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Known figures of FIGURES; None for a figure that the board does not have."""
    processes: tuple[tuple[int, str | None], ...] = ()
    """Process id and name of each process."""
    assigned_to: tuple[str, ...] = ()
    """The runs and servers that have the GPU: ``run-NAME``, ``server-NAME``."""
    alerts: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """The reasons why facts are unknown."""
    not_reached: UserError | None = None


@dataclass(frozen=True)
class GpuReport:
    """The state of all GPUs of a fleet at one time."""

    stack: str
    rows: tuple[GpuRow, ...]

    @property
    def exit_status(self) -> int:
        """0: no alert. 1: an alert. 3: no alert, but a fact is unknown."""
        if any(row.alerts for row in self.rows):
            return 1
        return 3 if any(row.unknown or row.not_reached for row in self.rows) else 0


def hosts_with_gpus(stack: Stack) -> tuple[str, ...]:
    """Return the hosts that are declared to have GPUs; no other host is asked."""
    return tuple(name for name, host in stack.fleet.hosts.items() if nvidia.gpus(host.minimum))


def observe(hosts: Hosts, stack: Stack) -> GpuReport:
    """Observe the GPUs of all hosts at the same time."""

    def read_host(name: str) -> Facts | UserError:
        try:
            return hosts.gpus(name)
        except UserError as error:
            return error

    names = hosts_with_gpus(stack)
    with reading_threads(AT_ONCE) as pool:
        return build_report(stack, dict(zip(names, pool.map(read_host, names), strict=True)))


def watch(hosts: Hosts, stack: Stack, seconds: float, stop: threading.Event) -> Iterator[GpuReport]:
    """Yield a report every *seconds* until *stop* is set, the first one now."""
    tried = time.monotonic()
    while True:
        yield observe(hosts, stack)
        if stop.wait(seconds):
            return
        if time.monotonic() - tried > RETRY_SECONDS:
            tried = time.monotonic()
            hosts.try_again()


def build_report(stack: Stack, evidence: Evidence) -> GpuReport:
    """Return the report of *stack*: the observed GPUs, compared with the declared ones."""
    rows = (row for name, facts in evidence.items() for row in _rows(name, stack.fleet.hosts[name], facts))
    return GpuReport(stack.name, tuple(rows))


def _rows(name: str, host: Host, facts: Facts | UserError) -> Iterator[GpuRow]:
    if isinstance(facts, UserError):
        yield GpuRow(name, not_reached=facts)
        return
    unknown: list[str] = []
    gpus: tuple[GpuFacts, ...] | None = _read(facts, "gpus", unknown)
    errors = [error for error in _read(facts, "xids", unknown) or () if _is_new(error, facts, host.alerts)]
    alerts = []
    declared = len(nvidia.gpus(host.minimum))
    if gpus is not None and len(gpus) < declared:
        alerts.append(f"{len(gpus)} of {declared} GPUs are there")
    for gpu in gpus or ():
        # a lost GPU has no known PCI address, so its errors count as the host's
        place = _read(gpu, "pci_address", [], "")
        its_own = [error for error in errors if place.startswith(error.pci)]
        errors = [error for error in errors if error not in its_own]
        yield _row(name, gpu, host.alerts, map(_format_xid, its_own), facts)
    alerts += [f"{error.pci}: {_format_xid(error)}" for error in errors]
    if alerts or unknown:
        yield GpuRow(name, alerts=tuple(dict.fromkeys(alerts)), unknown=tuple(unknown))


def _row(host: str, gpu: GpuFacts, limits: Alerts, errors: Iterable[str], facts: Facts) -> GpuRow:
    unknown: list[str] = []
    condition = _read(gpu, "condition", unknown)
    owners = _owners(facts, gpu, unknown)
    if condition != "working":
        alerts = (*([condition] if condition else []), *dict.fromkeys(errors))
        return GpuRow(host, gpu.index, assigned_to=owners, alerts=alerts, unknown=tuple(unknown))
    figures = {name: _read(gpu, name, unknown, MISSING) for name in FIGURES}
    figures = {name: value for name, value in figures.items() if value is not MISSING}
    processes = [(process.pid, _read(process, "name", unknown)) for process in _read(gpu, "processes", unknown, ())]
    over = (*_exceeded_limits(figures, limits), *dict.fromkeys(errors))
    return GpuRow(host, gpu.index, figures, tuple(processes), owners, over, tuple(unknown))


def _owners(facts: Facts, gpu: GpuFacts, unknown: list[str]) -> tuple[str, ...]:
    """Return the runs and servers that have *gpu*; if they are unknown, add the reason to *unknown*."""
    try:
        return facts.gpu_owners_of(gpu.index, _read(gpu, "uuid", []))
    except UnknownFact as reason:
        unknown.append(str(reason))
        return ()


MISSING = object()


def _read(view: View, name: str, unknown: list[str], otherwise: Any = None) -> Any:
    """Return the fact *name* of *view*; if it is unknown, add the reason to *unknown* and return *otherwise*."""
    try:
        return getattr(view, name)
    except UnknownFact as reason:
        unknown.append(str(reason))
        return otherwise


def _is_new(error: Xid, facts: Facts, limits: Alerts) -> bool:
    return error.at > facts.taken_at - limits.xid_minutes * 60


def _exceeded_limits(figures: Mapping[str, Any], limits: Alerts) -> Iterator[str]:
    """Yield a text for each figure over its limit; a figure that the board does not have is over none."""

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
    """Return a size of GPU memory in whole MiB, as other tools write it."""
    return size_bytes >> 20


def _format_xid(error: Xid) -> str:
    return f"Xid {error.code}: {error.text}"


class ProcessData(TypedDict):
    """A process on a GPU."""

    pid: int
    """Process id on its host."""
    name: str | None
    """Name of its program; null if it is unknown."""


class GpuData(TypedDict):
    """One GPU; or a host, for alerts and errors that belong to none of its GPUs.

    An unknown figure is absent, and its reason is in `unknown`.
    """

    host: str
    """Name of the host."""
    index: int | None
    """Number of the GPU on its host; null for a row about the host."""
    name: NotRequired[str]
    """Name of the model, as the driver reports it."""
    uuid: NotRequired[str]
    """UUID, as the driver reports it."""
    utilisation_percent: NotRequired[int | float | None]
    """Share of the time in which a kernel ran; null if the board does not measure it."""
    memory_used_bytes: NotRequired[int | None]
    """Used memory; null if the board does not measure it."""
    memory_bytes: NotRequired[int | None]
    """Size of the memory; null if the board does not report it."""
    temperature_celsius: NotRequired[int | float | None]
    """Temperature; null if the board does not measure it."""
    power_watts: NotRequired[int | float | None]
    """Present power; null if the board does not measure it."""
    power_limit_watts: NotRequired[int | float | None]
    """Largest power that is allowed; null if the board has no limit."""
    uncorrected_errors: NotRequired[int | None]
    """Number of uncorrected memory errors; null if the board does not count them."""
    processes: Sequence[ProcessData]
    """Processes that use the GPU."""
    assigned_to: Sequence[str]
    """Runs and servers that have the GPU, as `run-NAME` and `server-NAME`."""
    alerts: Sequence[str]
    """Figures over their limits, lost GPUs, and new errors of the driver."""
    unknown: Sequence[str]
    """Reasons why figures are unknown."""
    not_reached: str | None
    """Reason why nothing is known about the GPUs of the host."""


class GpuReportData(TypedDict):
    """The state of all GPUs of a stack at one time."""

    stack: str
    """Name of the stack."""
    exit_status: int
    """Exit status of the command: 0 no alert, 1 an alert, 3 no alert, but something is unknown."""
    gpus: Sequence[GpuData]
    """The declared GPUs, and the hosts about which there is more to know."""


def as_json(report: GpuReport) -> GpuReportData:
    """Return *report* as JSON data."""
    return {
        "stack": report.stack,
        "exit_status": report.exit_status,
        "gpus": [
            {
                **cast("GpuData", row.figures),
                "host": row.host,
                "index": row.index,
                "processes": [{"pid": pid, "name": name} for pid, name in row.processes],
                "assigned_to": [*row.assigned_to],
                "alerts": [*row.alerts],
                "unknown": [*row.unknown],
                "not_reached": str(row.not_reached) if row.not_reached else None,
            }
            for row in report.rows
        ],
    }
