"""The placement that a fleet declares, as `tier plan` and `tier move` without a directory show and follow it."""

import time
from typing import TYPE_CHECKING

import typer

from rackwright import terminal
from rackwright.cli import project, recording
from rackwright.errors import DeclarationError, Diagnostic, UserError
from rackwright.exit_status import gravest

if TYPE_CHECKING:
    from rackwright.cli.json_tier_types import PlacementPlan, PlacementResult, RelocationData
    from rackwright.hosts.pool import Hosts
    from rackwright.log.operation import Operation
    from rackwright.stack import Stack
    from rackwright.tiering.bucket import Bucket
    from rackwright.tiering.placement import Relocation, Stay


def show_plan(stack: "Stack", as_json: bool) -> None:
    """Print what `tier move` without a directory would do.

    Raises:
        DeclarationError: the fleet declares no placement.
    """
    _require_rules(stack)
    with project.connect_hosts(stack) as hosts:
        fates, unreachable = _observe(stack, hosts)
    _show(fates, unreachable, as_json)
    _finish({}, unreachable)


def follow(stack: "Stack", bandwidth: int | None, yes: bool, as_json: bool) -> None:
    """Move all directories that the rules of the fleet name. A failed move does not stop the others.

    Raises:
        DeclarationError: the fleet declares no placement.
    """
    from rackwright.cli.tier import open_bucket, require_durable
    from rackwright.tiering import place

    _require_rules(stack)
    with project.connect_hosts(stack) as hosts:
        fates, unreachable = _observe(stack, hosts)
        planned = place.relocations(fates)
        if not as_json:
            _show(fates, unreachable, as_json)
        if planned and not yes:
            terminal.require("Run it on a terminal, or pass --yes to move without a question")
            if not terminal.confirm(f"Move them on {project.format_target(stack)}?"):
                project.notify("nothing was moved")
                raise typer.Exit(2)
        failed: dict[Relocation, UserError] = {}
        if planned:
            loaded = project.secrets(stack)
            for bucket in sorted({each.bucket for each in planned if each.bucket}):
                require_durable(loaded, bucket)
            buckets = {each.bucket: open_bucket(loaded, each.bucket) for each in planned if each.bucket}
            changes = [
                recording.change(each.text, "move", each.host, [f"{each.host}:{each.path}, after it was read back"])
                for each in planned
            ]
            with recording.record(
                "tier move", stack, sorted({each.host for each in planned}), planned=changes
            ) as operation:
                failed = _relocate(planned, buckets, hosts, bandwidth, operation)
    if as_json:
        result: PlacementResult = {
            "moved": [_data(each) for each in planned if each not in failed],
            "failed": [{"move": _data(each), "problem": str(error)} for each, error in failed.items()],
            "unreachable": sorted(unreachable),
        }
        terminal.show_json(result)
    else:
        terminal.show(f"{len(planned) - len(failed)} of {len(planned)} directories moved")
    _finish(failed, unreachable)


def _relocate(
    planned: "tuple[Relocation, ...]",
    buckets: "dict[str, Bucket]",
    hosts: "Hosts",
    bandwidth: int | None,
    operation: "Operation",
) -> "dict[Relocation, UserError]":
    from rackwright.tiering import place

    failed: dict[Relocation, UserError] = {}
    for number, each in enumerate(planned, start=1):
        project.notify(f"move {number} of {len(planned)}: {each.text}")
        try:
            place.relocate(each, buckets, hosts.connection, bandwidth, project.notify)
        except UserError as error:
            project.notify(f"not moved: {error}")
            failed[each] = error
        else:
            operation.complete(each.host, f"s3://{each.bucket}/{each.target}" if each.bucket else each.path, "done")
    return failed


def _observe(stack: "Stack", hosts: "Hosts") -> "tuple[tuple[Relocation | Stay, ...], dict[str, UserError]]":
    from rackwright.tiering import place

    return place.observe(stack.fleet, hosts.connection, time.time(), project.notify)


def _show(fates: "tuple[Relocation | Stay, ...]", unreachable: "dict[str, UserError]", as_json: bool) -> None:
    from rackwright.schema.units import format_size
    from rackwright.tiering import place

    moves = place.relocations(fates)
    if as_json:
        plan: PlacementPlan = {
            "moves": [_data(each) for each in moves],
            "stays": [
                {"rule": each.rule, "host": each.host, "path": each.path, "reason": each.reason}
                for each in place.stays(fates)
            ],
            "unreachable": sorted(unreachable),
        }
        terminal.show_json(plan)
        return
    for fate in fates:
        terminal.show(fate.text)
    size = format_size(sum(each.bytes for each in moves))
    terminal.show(f"{len(moves)} of {len(fates)} directories move, {size}")


def _data(relocation: "Relocation") -> "RelocationData":
    return {
        "rule": relocation.rule,
        "host": relocation.host,
        "path": relocation.path,
        "bucket": relocation.bucket,
        "target": relocation.target,
        "bytes": relocation.bytes,
    }


def _finish(failed: "dict[Relocation, UserError]", unreachable: "dict[str, UserError]") -> None:
    """End the command with the gravest status, after the errors of hosts without a usable answer."""
    for error in unreachable.values():
        project.notify(str(error))
    raise typer.Exit(gravest(error.exit_status for error in (*failed.values(), *unreachable.values())))


def _require_rules(stack: "Stack") -> None:
    if not stack.fleet.placement:
        problem, help = "the fleet declares no placement", "Name a directory and a bucket, or declare placement"
        raise DeclarationError(Diagnostic(f"stack {stack.name}", problem, help=help))
