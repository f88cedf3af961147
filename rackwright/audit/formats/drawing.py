"""The drives and GPUs of each host with their states, for the drawing of the rack."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rackwright.audit.formats.finding import Finding
from rackwright.core.contract import Scope
from rackwright.schema.host import Drive, Host

PartState = Literal["ok", "differs", "unknown", "not reached", "not compared"]


@dataclass(frozen=True, slots=True)
class Part:
    """A drive or a GPU."""

    name: str
    """Serial number of a drive, or number of a GPU."""
    purpose: str
    """Tier of a drive, or model of a GPU."""
    state: PartState


@dataclass(frozen=True, slots=True)
class HostDrawing:
    """One host of the rack."""

    name: str
    state: PartState
    drives: tuple[Part, ...]
    gpus: tuple[Part, ...]


def draw(
    hosts: Mapping[str, Host],
    findings: Iterable[Finding],
    hidden_scopes: Callable[[str], tuple[Scope, ...]],
    left_out: Iterable[str] = (),
) -> tuple[HostDrawing, ...]:
    """Return the drawing of *hosts*.

    Args:
        hidden_scopes: Returns the scopes of a host that the target cannot show: their parts were not compared.
        left_out: Hosts that were not compared, for example in maintenance.
    """
    by_host: dict[str, list[Finding]] = {name: [] for name in hosts}
    for finding in findings:
        by_host.setdefault(finding.host, []).append(finding)
    skipped = frozenset(left_out)
    return tuple(
        HostDrawing(name, "not compared", (), ())
        if name in skipped
        else _draw(name, host, by_host[name], hidden_scopes(name))
        for name, host in hosts.items()
    )


def _draw(name: str, host: Host, findings: Sequence[Finding], hidden: Sequence[Scope]) -> HostDrawing:
    away = [finding for finding in findings if finding.state == "not reached"]

    def state(scope: Scope, concerned: Iterable[Finding]) -> PartState:
        return "not compared" if scope in hidden and not away else _worst([*away, *concerned])

    drives = tuple(
        Part(drive.serial, _purpose(drive), state("kernel", (each for each in findings if _names(each, drive.serial))))
        for drive in host.drives
    )
    models = [model for model, count in (host.minimum.verified_value("gpus") or {}).items() for _ in range(count)]
    gpus = tuple(
        Part(str(number), model, state("hardware", (each for each in findings if _is_about_gpu(each, model))))
        for number, model in enumerate(models)
    )
    return HostDrawing(name, _worst(findings), drives, gpus)


def _purpose(drive: Drive) -> str:
    if drive.boot:
        return "boot"
    return f"{drive.tier}, spare" if drive.spare else drive.tier or "unused"


def _names(finding: Finding, serial: str) -> bool:
    """Return whether *finding* names the drive: as its thing, or among its values."""
    return finding.thing == f"drive:{serial}" or serial in re.findall(r"[^\s,]+", f"{finding.found} {finding.wanted}")


def _is_about_gpu(finding: Finding, model: str) -> bool:
    """Return whether *finding* is about all GPUs of its host, or about those of *model*."""
    counted = finding.thing.startswith("gpus:")
    return finding.path.endswith(f".{model}") if counted else re.match(r"gpu[:_]", finding.thing) is not None


def _worst(findings: Iterable[Finding]) -> PartState:
    states = {finding.state for finding in findings if not finding.allowed}
    order: tuple[PartState, ...] = ("not reached", "differs", "unknown")
    if states & {"undeclared"}:
        states.add("differs")
    return next((state for state in order if state in states), "ok")
