"""The page of `status`: racks to scale, and each host with its parts, its work, its alerts and its findings."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rackwright import html_page
from rackwright.audit.formats import html
from rackwright.audit.formats.document import AuditDocument, by_host, format_counts
from rackwright.audit.formats.drawing import HostDrawing, Part, PartState, worst_of, worst_state
from rackwright.audit.formats.finding import Finding
from rackwright.errors import quantity
from rackwright.kinds.tier import HEALTHY
from rackwright.schema.host import RackPlace
from rackwright.stack import Stack
from rackwright.status.alerts import FiringAlert
from rackwright.status.gpus import GpuRow, mebibytes
from rackwright.status.overview import Overview, TierRow
from rackwright.status.runs import RunReport
from rackwright.status.servers import ServerReport, describe_host

FOLDER = Path(__file__).parent
FINDINGS_OF_HOST, FINDINGS_OF_PAGE = 50, 1000
"""Most findings that the page shows; `audit` shows all."""
ALERTS_SHOWN, CHANGES_SHOWN, CHANGES_OF_HOST, DETAILS_SHOWN, CELLS_SHOWN = 100, 10, 3, 10, 256
UNIT = "1.7rem"
"""Least height of a unit."""
LONGEST = 400
"""Characters of a value that the page shows."""
BY_STATUS: Mapping[int, PartState] = {0: "ok", 1: "differs", 3: "unknown"}
SOUND = (*HEALTHY.values, "scrubbing")
"""States of a tier that the audit takes for the declared one."""
NO_MONITORING = "the fleet declares no monitoring"


@dataclass(frozen=True)
class Change:
    """One operation of the operations log."""

    summary: str
    """Time, account, command and outcome."""
    details: tuple[str, ...]
    """A line for each resource."""
    hosts: frozenset[str]


@dataclass(frozen=True)
class Sight:
    """Everything that the page shows."""

    document: AuditDocument
    """The comparison, with the drawing of the hosts."""
    overview: Overview
    alerts: tuple[FiringAlert, ...] | str
    """The alerts that fire, or the reason why they are unknown."""
    changes: tuple[Change, ...] | str
    """Operations, the newest first; or the reason why they are unknown."""
    quarantine: Mapping[str, str] = field(default_factory=dict)
    """Hosts in quarantine, each with the text for the page."""


@dataclass(frozen=True)
class StateLine:
    """The state of a tier, run, server or figure in one line."""

    name: str
    state: PartState
    text: str


@dataclass(frozen=True)
class PagePart:
    """A drive, GPU or link."""

    part: Part
    figures: str = ""
    """Use and temperature of a GPU, and the runs and servers that have it."""
    notes: tuple[str, ...] = ()
    """Alerts of a GPU, and reasons why its figures are unknown."""


@dataclass(frozen=True)
class PageHost:
    """A host on the page, or the source of other findings, such as an object store."""

    name: str
    id: str
    state: PartState
    text: str
    """State in words."""
    place: RackPlace | None = None
    parts: tuple[tuple[str, tuple[PagePart, ...]], ...] = ()
    """Drives, GPUs and links, each with their title."""
    lines: tuple[tuple[str, tuple[StateLine, ...]], ...] = ()
    """Tiers, runs and servers, each with their title."""
    alerts: tuple[FiringAlert, ...] = ()
    changes: tuple[Change, ...] = ()
    cards: tuple[html.Card, ...] = ()
    left_out: int = 0
    """Number of findings that the page does not show."""


@dataclass(frozen=True)
class Rack:
    """A rack with its hosts, the highest first."""

    name: str
    units: int
    """Highest unit of a host."""
    hosts: tuple[PageHost, ...]


def render(stack: Stack, sight: Sight, last_change: str) -> str:
    """Return the page of *stack*. It has no script, loads nothing, and shows texts of hosts as texts alone."""
    hosts = tuple(_hosts(stack, sight))
    of_stack = [host for host in hosts if host.name in stack.fleet.hosts]
    racks = tuple(_racks(of_stack))
    label, text = html.verdict(sight.document)
    servers = sight.overview.servers
    names = {
        "document": sight.document,
        "stack": stack.name,
        "last_change": last_change,
        "verdict": {"label": label, "text": text},
        "counts": format_counts(sight.document).partition(": ")[2],
        "alerts": _shown_alerts(sight.alerts),
        "changes": sight.changes if isinstance(sight.changes, str) else sight.changes[:CHANGES_SHOWN],
        "details_shown": DETAILS_SHOWN,
        "runs": [*map(_run, sight.overview.runs)],
        "servers": [_server(each, host, f"{each.name} on {host}") for each in servers for host in each.hosts],
        "racks": racks,
        "without_rack": [host for host in of_stack if host.place is None],
        "hosts": hosts,
        "labels": html.LABELS,
        "signs": html.SIGNS,
    }
    style = html.read_style() + (FOLDER / "page.css").read_text() + _rack_style(racks)
    filters = {**html.FILTERS, "quantity": lambda number, plural: quantity(number, plural.removesuffix("s"))}
    return html_page.render(
        FOLDER, "page.html.j2", names, style=style, filters=filters, shared=(html.FOLDER,), longest=LONGEST
    )


@dataclass(frozen=True)
class ShownAlerts:
    """The state of the alerts of a stack."""

    state: PartState
    text: str
    firing: tuple[FiringAlert, ...] = ()
    left_out: int = 0


def _shown_alerts(alerts: tuple[FiringAlert, ...] | str) -> ShownAlerts:
    if isinstance(alerts, str):
        return ShownAlerts("unknown", f"Alerts are unknown: {alerts}")
    if not alerts:
        return ShownAlerts("ok", "No alert fires")
    firing = quantity(len(alerts), "alert")
    text = f"{firing} {'fires' if len(alerts) == 1 else 'fire'}"
    return ShownAlerts("differs", text, alerts[:ALERTS_SHOWN], max(0, len(alerts) - ALERTS_SHOWN))


def _hosts(stack: Stack, sight: Sight) -> Iterator[PageHost]:
    """Yield the hosts of *stack*, and then each other source of findings."""
    findings = by_host(sight.document.findings)
    drawings = {drawing.name: drawing for drawing in sight.document.drawing}
    room = FINDINGS_OF_PAGE
    for number, name in enumerate(dict.fromkeys((*drawings, *findings))):
        own = findings.get(name, ())
        cards = html.make_cards(own)
        shown = tuple(cards[: min(FINDINGS_OF_HOST, room)])
        room -= len(shown)
        state = worst_state(own)
        text = _words(state, own)
        base = PageHost(name, f"h{number}", state, text, cards=shown, left_out=len(cards) - len(shown))
        yield _host(stack, sight, drawings[name], own, base) if name in drawings else base


def _host(stack: Stack, sight: Sight, drawing: HostDrawing, findings: Sequence[Finding], base: PageHost) -> PageHost:
    name, declared = drawing.name, stack.fleet.hosts[drawing.name]
    titled_parts = {
        "drives": tuple(map(PagePart, drawing.drives[:CELLS_SHOWN])),
        "GPUs": tuple(_gpus(drawing, sight.overview.gpus.rows))[:CELLS_SHOWN],
        "links": tuple(map(PagePart, drawing.links[:CELLS_SHOWN])),
    }
    lines = {title: tuple(several) for title, several in _lines(name, sight.overview)}
    states = [drawing.state, *(line.state for several in lines.values() for line in several)]
    # parts that the target cannot show do not make their host one that was not compared
    states += [each.part.state for several in titled_parts.values() for each in several]
    state = worst_of(each for each in states if each != "not compared" or drawing.state == "not compared")
    alerts = () if isinstance(sight.alerts, str) else tuple(each for each in sight.alerts if each.host == name)
    changes = () if isinstance(sight.changes, str) else tuple(each for each in sight.changes if name in each.hosts)
    return replace(
        base,
        state=state,
        text=_host_text(stack, sight, name, state, findings),
        place=None if declared.retired else declared.rack,
        parts=tuple((title, several) for title, several in titled_parts.items() if several),
        lines=tuple((title, several) for title, several in lines.items() if several),
        alerts=alerts[:ALERTS_SHOWN],
        changes=changes[:CHANGES_OF_HOST],
    )


def _host_text(stack: Stack, sight: Sight, name: str, state: PartState, findings: Sequence[Finding]) -> str:
    """Return the state of a host in words; of several, that by which it changes least."""
    if stack.fleet.hosts[name].retired:
        return "retired"
    return stack.maintenance.get(name) or sight.quarantine.get(name) or _words(state, findings)


def _words(state: PartState, findings: Sequence[Finding]) -> str:
    """Return the state of a host in words: the number of its findings by state, if it has findings that count."""
    counts = Counter(finding.state for finding in findings if not finding.allowed)
    if counts["not reached"] or not counts:
        return "as declared" if state == "ok" else state
    return ", ".join(f"{count} {each}".replace("differs", "differ") for each, count in counts.items())


def _gpus(drawing: HostDrawing, rows: Sequence[GpuRow]) -> Iterator[PagePart]:
    """Yield the declared GPUs with their figures, and then those that nothing declares."""
    of_host = {row.index: row for row in rows if row.host == drawing.name and row.index is not None}
    for number, part in enumerate(drawing.gpus):
        row = of_host.pop(number, None)
        yield PagePart(part) if row is None else _gpu(part, row)
    for index, row in of_host.items():
        yield _gpu(Part(str(index), "undeclared", "not compared"), row)


def _gpu(part: Part, row: GpuRow) -> PagePart:
    seen: list[PartState] = ["differs"] if row.alerts else []
    seen += ["unknown"] if row.unknown else []
    figures = [
        f"{'?' if value is None else format(value, '.0f')}{unit}"
        for key, unit in (("utilisation_percent", " %"), ("temperature_celsius", " °C"))
        if (value := row.figures.get(key)) is not None or key not in row.figures
    ]
    used, size = (row.figures.get(key) for key in ("memory_used_bytes", "memory_bytes"))
    if used is not None and size is not None:
        figures.append(f"{mebibytes(used)} of {mebibytes(size)} MiB")
    figures += row.assigned_to
    notes = (*row.alerts, *(f"unknown: {reason}" for reason in row.unknown))
    return PagePart(replace(part, state=worst_of([part.state, *seen])), ", ".join(figures), notes)


def _lines(host: str, overview: Overview) -> Iterator[tuple[str, Iterator[StateLine]]]:
    """Yield the tiers, the GPUs as a whole, the runs and the servers of *host*, each with their title."""
    yield "tiers", (_tier(tier) for tier in overview.tiers if tier.name.partition("/")[0] == host)
    yield "GPUs of the host", _gpu_lines(row for row in overview.gpus.rows if row.host == host and row.index is None)
    yield "runs", (_run(run) for run in overview.runs if host in run.ranks)
    yield "servers", (_server(server, host, server.name) for server in overview.servers if host in server.hosts)


def _tier(tier: TierRow) -> StateLine:
    state: PartState = "unknown" if tier.state == "unknown" else "ok" if tier.state in SOUND else "differs"
    return StateLine(tier.name.partition("/")[2], state, ", ".join(filter(None, (tier.state, tier.details))))


def _run(run: RunReport) -> StateLine:
    return StateLine(run.name, BY_STATUS[run.exit_status], run.summary)


def _server(server: ServerReport, host: str, name: str) -> StateLine:
    return StateLine(name, BY_STATUS[server.host_status(host)], describe_host(server.hosts[host]))


def _gpu_lines(rows: Iterable[GpuRow]) -> Iterator[StateLine]:
    for row in rows:
        yield from (StateLine("alert", "differs", alert) for alert in row.alerts)
        yield from (StateLine("unknown", "unknown", reason) for reason in row.unknown)
        if row.not_reached:
            yield StateLine("not reached", "not reached", row.not_reached.diagnostic.problem)


def _racks(hosts: Iterable[PageHost]) -> Iterator[Rack]:
    """Yield the racks in the order of their names."""
    by_rack: dict[str, list[tuple[RackPlace, PageHost]]] = defaultdict(list)
    for host in hosts:
        if host.place is not None:
            by_rack[host.place.name].append((host.place, host))
    for name, placed in sorted(by_rack.items()):
        placed.sort(key=lambda each: -each[0].unit)
        yield Rack(name, max(place.top for place, _ in placed), tuple(host for _, host in placed))


def _rack_style(racks: Sequence[Rack]) -> str:
    """Return the rules for the places in *racks*: the page's policy allows no style at an element.

    All units of a rack are as high as the one that needs the most, so that the drawing stays to scale at any width.
    """
    units = sorted({rack.units for rack in racks})
    heights = sorted({host.place.height for rack in racks for host in rack.hosts if host.place})
    rules = [f".units-{n} {{ grid-template-rows: repeat({n}, minmax({UNIT}, 1fr)); }}" for n in units]
    rules += [f".unit-{n} {{ grid-row-end: -{n}; }}" for n in range(1, max(units, default=0) + 1)]
    rules += [f".high-{n} {{ grid-row-start: span {n}; }}" for n in heights]
    return "\n".join(rules)
