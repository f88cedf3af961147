"""The command that measures tiers and compares their costs."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import AsJson, StackName
from rackwright.cli.tier import open_bucket, parse_bytes
from rackwright.errors import DeclarationError, Diagnostic, UserError
from rackwright.exit_status import gravest

if TYPE_CHECKING:
    from rackwright.cli.json_tier_types import CostComparison, TierBench
    from rackwright.hosts.pool import Hosts
    from rackwright.stack import Stack
    from rackwright.tiering.bench import Speed
    from rackwright.tiering.costs import Comparison

app = typer.Typer()


@app.command()
def bench(
    stack: StackName,
    host: Annotated[list[str] | None, typer.Option(help="A host to measure; by default, all with tiers.")] = None,
    size: Annotated[str, typer.Option(metavar="SIZE", help="Size of the file, such as 4GiB.")] = "1GiB",
    costs_only: Annotated[bool, typer.Option("--costs", help="Measure nothing, and compare the costs.")] = False,
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write an HTML page with plots.")] = None,
    model: Annotated[
        str, typer.Option(metavar="SIZE", help="Size of the model whose time to load the page shows.")
    ] = "700GB",
    yes: Annotated[bool, typer.Option("--yes", help="Measure without a question.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure the tiers of hosts and the buckets, and compare the monthly costs that the fleet declares.

    The command writes a file of random content to each tier and to each bucket without retention, reads it back, and
    removes it. Every host transfers the file to the buckets from its first tier. `costs` in the fleet has the capacity
    and the prices of tiers. The page of --page also says whether two frequent promises about tiers hold here.

    Exit status: 0 measured, 2 refused, 3 a host or the store was not reached, 4 failed.
    """
    loaded = project.stack(stack)
    costs = _comparison(loaded)
    if costs_only and costs is None:
        problem, help = "the fleet declares no costs", "Declare the capacity and the price of each tier under costs"
        raise DeclarationError(Diagnostic(f"stack {stack}", problem, help=help))
    model_bytes = parse_bytes(model, "--model")
    if page is not None:
        project.require_writable(page)
    speeds: list[Speed] = []
    unreachable: list[UserError] = []
    if not costs_only:
        speeds, unreachable = _measure(loaded, host, parse_bytes(size, "--size"), yes, as_json)
    if as_json:
        data: TierBench = {
            "speeds": [
                {
                    "place": each.place,
                    "bytes": each.bytes,
                    "write_seconds": each.write_seconds,
                    "read_seconds": each.read_seconds,
                }
                for each in speeds
            ],
            "costs": None if costs is None else _costs_data(costs),
            "unreachable": [str(error) for error in unreachable],
        }
        terminal.show_json(data)
    elif costs is not None:
        terminal.show("\n".join(costs.lines()))
    for error in unreachable:
        project.notify(str(error))
    if page is not None:
        _write_page(page, stack, speeds, costs, model_bytes)
    raise typer.Exit(gravest(error.exit_status for error in unreachable))


def _write_page(page: Path, stack: str, speeds: "list[Speed]", costs: "Comparison | None", model_bytes: int) -> None:
    from rackwright.files import write_atomic
    from rackwright.tiering.page import render

    write_atomic(page, render(stack, speeds, costs, model_bytes, datetime.now(UTC)))
    project.notify(f"the page is {page}")


def _measure(
    stack: "Stack", chosen: list[str] | None, size: int, yes: bool, as_json: bool
) -> "tuple[list[Speed], list[UserError]]":
    """Return the speeds that were measured, and the errors of hosts without an answer.

    Raises:
        DeclarationError: the fleet has no such host, or none with a tier.
    """
    if wrong := [error for name in chosen or () for error in stack.unknown_host_errors(name)]:
        raise DeclarationError(*wrong)
    fleet = stack.fleet
    hosts = [name for name in chosen or fleet.hosts if fleet.hosts[name].tiers]
    if not hosts:
        problem, help = "no host has a tier", "Name a host with tiers, or pass --costs"
        raise DeclarationError(Diagnostic(f"stack {stack.name}", problem, help=help))
    # nothing could remove the file from a bucket with retention
    buckets = [name for name, bucket in fleet.buckets.items() if bucket.retention is None]
    for name in fleet.buckets.keys() - set(buckets):
        project.notify(f"bucket {name} is not measured, because its objects are under retention")
    if not yes:
        terminal.require("Run it on a terminal, or pass --yes to measure without a question")
        places = [f"{name}:{tier.mount}" for name in hosts for tier in fleet.hosts[name].tiers.values()]
        terminal.show(f"write and read a file in {', '.join([*places, *(f's3://{name}' for name in buckets)])}")
        if not terminal.confirm(f"Measure the tiers of {project.format_target(stack)}?"):
            project.notify("nothing was measured")
            raise typer.Exit(2)
    from rackwright.cli import recording

    changes = [recording.change(name, "measure the tiers", name) for name in hosts]
    with recording.record("tier bench", stack.name, hosts, planned=changes), project.connect_hosts(stack) as pool:
        return _measure_hosts(stack, hosts, buckets, pool, size, as_json)


def _measure_hosts(
    stack: "Stack", names: list[str], buckets: list[str], hosts: "Hosts", size: int, as_json: bool
) -> "tuple[list[Speed], list[UserError]]":
    from rackwright.tiering import bench
    from rackwright.tiering.remote import HostDirectory

    speeds: list[Speed] = []
    unreachable: list[UserError] = []
    opened = [open_bucket(stack, name) for name in buckets]
    for name in names:
        try:
            for number, tier in enumerate(stack.fleet.hosts[name].tiers.values()):
                directory = HostDirectory(name, tier.mount, partial(hosts.connection, name))
                for speed in bench.measure(directory, () if number else opened, size, project.notify):
                    speeds.append(speed)
                    if not as_json:
                        terminal.show(speed.text)
        except UserError as error:
            unreachable.append(error)
    return speeds, unreachable


def _comparison(stack: "Stack") -> "Comparison | None":
    from rackwright.tiering import costs

    return None if stack.fleet.costs is None else costs.compare(stack.fleet.costs)


def _costs_data(costs: "Comparison") -> "CostComparison":
    return {
        "currency": costs.currency,
        "tiers": [
            {"tier": each.name, "bytes": each.bytes, "per_tb": each.per_tb, "total": each.total} for each in costs.tiers
        ],
        "total": costs.total,
        "fastest": costs.fastest,
        "fastest_alone": costs.fastest_alone,
        "saving": costs.saving,
        "break_even_tb": costs.break_even_tb,
        "break_even_price_per_tb": costs.break_even_price_per_tb,
    }
