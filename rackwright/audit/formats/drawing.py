"""The drives, GPUs and links of each host with their states, for the drawing of the rack."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rackwright.audit.formats.finding import Finding, State
from rackwright.audit.report import AuditReport
from rackwright.core.contract import Scope
from rackwright.schema.host import Drive, Host
from rackwright.schema.network import Network, links
from rackwright.stack import Stack

PartState = Literal["ok", "differs", "unknown", "not reached", "not compared"]
WORST_FIRST: tuple[PartState, ...] = ("not reached", "differs", "unknown", "not compared")
_STATES: Mapping[State, PartState] = {
    "differs": "differs", "undeclared": "differs", "unknown": "unknown", "not reached": "not reached",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A drive, a GPU or a link."""

    name: str
    """Serial number of a drive, number of a GPU, or name of a link."""
    purpose: str
    """Tier of a drive, model of a GPU, or addresses of a link."""
    state: PartState
    findings: tuple[Finding, ...] = ()
    """The findings that are about it alone or name it."""


@dataclass(frozen=True, slots=True)
class HostDrawing:
    """One host of the rack."""

    name: str
    state: PartState
    drives: tuple[Part, ...]
    gpus: tuple[Part, ...]
    links: tuple[Part, ...] = ()


def draw_stack(
    stack: Stack, report: AuditReport, findings: Iterable[Finding], names: Collection[str] = ()
) -> tuple[HostDrawing, ...]:
    """Return the drawing of the hosts of *stack* by the *findings* of *report*.

    Args:
        names: The hosts that are drawn; empty for all.
    """
    hosts = {name: host for name, host in stack.fleet.hosts.items() if not names or name in names}
    compared = {result.name.partition("/")[0] for result in report.results} - stack.maintenance.keys()
    left_out = hosts.keys() - compared
    return draw(hosts, findings, stack.not_rehearsable, left_out, has_parts=not stack.fleet.uses)


def draw(
    hosts: Mapping[str, Host],
    findings: Iterable[Finding],
    hidden_scopes: Callable[[str], tuple[Scope, ...]],
    left_out: Iterable[str] = (),
    has_parts: bool = True,
) -> tuple[HostDrawing, ...]:
    """Return the drawing of *hosts*.

    Args:
        hidden_scopes: Returns the scopes of a host that the target cannot show: their parts were not compared.
        left_out: Hosts that were not compared, for example in maintenance.
        has_parts: Whether the comparison has resources with drives, GPUs and links: runs and servers alone have none.
    """
    by_host: dict[str, list[Finding]] = {name: [] for name in hosts}
    for finding in findings:
        by_host.setdefault(finding.host, []).append(finding)
    skipped = frozenset(left_out)
    return tuple(
        _draw(name, host, by_host[name], hidden_scopes(name), name not in skipped, has_parts)
        for name, host in hosts.items()
    )


def _draw(
    name: str, host: Host, findings: Sequence[Finding], hidden: Sequence[Scope], is_compared: bool, has_parts: bool
) -> HostDrawing:
    away = [finding for finding in findings if finding.state == "not reached"]

    def part(name: str, purpose: str, scope: Scope, concerned: Iterable[Finding]) -> Part:
        its_own = tuple(concerned)
        shows = is_compared and has_parts and scope not in hidden
        state = worst_state([*away, *its_own]) if shows or away else "not compared"
        return Part(name, purpose, state, its_own)

    drives = tuple(
        part(drive.serial, _purpose(drive), "kernel", (each for each in findings if _names(each, drive.serial)))
        for drive in host.drives
    )
    models = [model for model, count in (host.minimum.verified_value("gpus") or {}).items() for _ in range(count)]
    gpus = tuple(
        part(str(number), model, "hardware", (each for each in findings if _is_about_gpu(each, model)))
        for number, model in enumerate(models)
    )
    of_links = tuple(
        part(link, purpose, scope, (each for each in findings if each.thing in things))
        for link, purpose, scope, things in _links(host)
    )
    own = worst_state(findings) if is_compared or findings else "not compared"
    return HostDrawing(name, own, drives, gpus, of_links)


def _links(host: Host) -> Iterator[tuple[str, str, Scope, tuple[str, ...]]]:
    """Yield the name, the addresses, the scope and the things of each port, bond and VLAN of *host*."""
    network = host.network or Network()
    ports = {nic.name: nic for nic in host.nics}
    members = {member for bond in network.bonds.values() for member in bond.members}
    for name, link in links(network, host.nics).items():
        port = ports.get(name)
        things = (f"link:{name}", f"nic:{port.key}") if port else (f"link:{name}",)
        scope: Scope = "kernel" if port is None or name in members else "hardware" if port.pci else "host"
        yield name, ", ".join(link.addresses) or ("port" if port else "link"), scope, things


def _purpose(drive: Drive) -> str:
    if drive.boot:
        return "boot"
    return f"{drive.tier}, spare" if drive.spare else drive.tier or "unused"


def _names(finding: Finding, serial: str) -> bool:
    """Return whether *finding* is about the drive: as its thing, or as a value that is either found or wanted."""
    return finding.thing == f"drive:{serial}" or _lists(finding.found, serial) != _lists(finding.wanted, serial)


def _lists(text: str, serial: str) -> bool:
    # the search of the plain text comes first, because hosts report long texts
    return serial in text and serial in re.findall(r"[^\s,]+", text)


def _is_about_gpu(finding: Finding, model: str) -> bool:
    """Return whether *finding* is about all GPUs of its host, or about those of *model*."""
    counted = finding.thing.startswith("gpus:")
    return finding.path.endswith(f".{model}") if counted else re.match(r"gpu[:_]", finding.thing) is not None


def worst_state(findings: Iterable[Finding]) -> PartState:
    """Return the state of a part that *findings* are about; a finding that the fleet allows does not count."""
    return worst_of(_STATES[finding.state] for finding in findings if not finding.allowed)


def worst_of(states: Iterable[PartState]) -> PartState:
    """Return the worst of *states*; `ok` if there are none."""
    present = {*states}
    return next((state for state in WORST_FIRST if state in present), "ok")
