"""The command rebuild: it takes hosts back to their blank image, changes them to the declared state, and compares."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli import twin as twin_commands
from rackwright.cli.arguments import REHEARSE, AsJson, HostNames, StackName
from rackwright.errors import ChangeRefused, DeclarationError, Diagnostic, command

if TYPE_CHECKING:
    from rackwright.facts.facts import Facts
    from rackwright.stack import Stack

app = typer.Typer()


@app.command(rich_help_panel=REHEARSE)
def rebuild(
    stack: StackName,
    host: HostNames = None,
    before: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Compare with the newest facts that `audit --save` wrote to this directory."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete the disks of the twin without a question.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the disks of a twin's hosts, provision the hosts again, and compare their facts before and after.

    Packages come from the lock and the local repository. The last line is a hash of the facts: the same declaration
    and the same lock give it again. The reference lists the facts that may differ.

    On a rack, save the facts with `audit --save`, reinstall the hosts, and pass --before: nothing is deleted there.

    Exit status: 0 the facts are equal, 1 some differ, otherwise as `up`.
    """
    raise typer.Exit(_run(stack, host or (), before, yes, as_json))


def _run(name: str, hosts: Sequence[str], before: Path | None, yes: bool, as_json: bool) -> int:
    from rackwright.cli import pulumi, recording

    stack = project.stack(name)
    _check(stack, hosts, before, yes)
    pulumi.check(stack)  # nothing is deleted if the declaration or the local repository has errors
    _check_packages(stack)
    hosts = hosts or [host for host in stack.fleet.hosts if host not in stack.maintenance]
    folder = before or stack.project / ".rackwright" / "rebuilds" / name
    earlier = _load(folder, hosts) if before else _save_facts(stack, hosts, folder)
    partial = hosts if len(hosts) < len(stack.fleet.hosts) else ()
    if stack.twin is not None and not yes and not terminal.confirm(_question(stack, hosts, partial)):
        project.notify("nothing was changed")
        return 2
    # stdout is for the comparison alone if a program reads it
    stdout = sys.stderr if as_json else None
    blank = [recording.change(host, "reset", host, ["all disks"]) for host in hosts if stack.twin is not None]
    with recording.record("rebuild", stack, hosts, planned=blank) as operation:
        if stack.twin is not None:
            _make_blank(stack, partial)
        up_status = pulumi.up(name, pulumi.Selection(partial), yes=yes or stack.twin is not None, stdout=stdout)
        status = recording.finish(operation, up_status)
    if status not in (0, 1):
        words = " ".join(["rackwright rebuild {}", *("{}" for _ in partial), "--before {}"])
        retry = command(words, name, *partial, folder)
        project.notify(f"the facts from before are in {folder}; use them again with {retry}")
        return status
    stack = project.stack(name)  # the ports of its hosts are new
    with project.connect_hosts(stack) as pool:
        results = compare(earlier, {host: pool.facts(host) for host in hosts})
    if as_json:
        terminal.show_json(results)
    else:
        terminal.show("\n".join(format_results(results)))
    return 1 if status or any(each.differences for each in results.hosts.values()) else 0


@dataclass(frozen=True)
class HostResult:
    """The comparison of one host's facts."""

    differences: tuple[str, ...] | None
    """A line for each value that differs; None if there are no facts from before."""
    values: int
    """The number of values that were compared."""
    unknown: tuple[str, ...]
    """The paths of values that the probe cannot read, so nothing is known about them."""


@dataclass(frozen=True)
class Results:
    """The comparison of the facts of all hosts before and after a rebuild."""

    hosts: Mapping[str, HostResult]
    """The comparison by host."""
    hash: str
    """Hash of the facts after the rebuild, without those that may differ."""


def compare(before: Mapping[str, "Facts"], after: Mapping[str, "Facts"]) -> Results:
    """Return the comparison of the facts *before* and *after* a rebuild, by host."""
    from rackwright.facts import rebuilt

    def result(host: str, facts: "Facts") -> HostResult:
        differences = rebuilt.differences(before[host], facts) if host in before else None
        return HostResult(differences, rebuilt.count(facts), rebuilt.unknown_paths(facts))

    return Results({host: result(host, facts) for host, facts in after.items()}, rebuilt.digest(after))


def format_results(results: Results) -> Iterator[str]:
    """Yield the lines of a comparison, for people."""
    for host, result in results.hosts.items():
        if result.differences is None:
            yield f"{host}: {result.values} facts, and none from before to compare with"
        elif not result.differences:
            yield f"{host}: {result.values} facts are as before"
        else:
            yield f"{host}: {len(result.differences)} of {result.values} facts differ"
            yield from (f"  {line}" for line in result.differences)
        if result.unknown:
            yield f"  unknown, and not compared: {', '.join(result.unknown)}"
    yield f"hash of the facts: {results.hash}"


def _check(stack: "Stack", hosts: Sequence[str], before: Path | None, yes: bool) -> None:
    """Check that the command can work on *stack*.

    Raises:
        DeclarationError: The stack has no such host.
        ChangeRefused: The stack has runs or servers; its target is a rack, and no facts are named; or there is no
            terminal.
    """
    if wrong := [*stack.unknown_host_errors(*hosts)]:
        raise DeclarationError(*wrong)
    if kept := [
        Diagnostic(host, f"the host is {stack.maintenance[host]}") for host in hosts if host in stack.maintenance
    ]:
        raise ChangeRefused(*kept)
    where = f"stack {stack.name}"
    if stack.fleet.uses:
        problem, help = "the stack has runs or servers", "Name the stack of the hosts"
        raise ChangeRefused(Diagnostic(where, problem, "a stack of hosts", help))
    if stack.twin is None and before is None:
        save = command("rackwright audit {} --save {}", stack.name, "DIR")
        help = f"Run {save}, reinstall the hosts, and run this command with `--before DIR`"
        raise ChangeRefused(
            Diagnostic(where, "its target is `rack`, whose hosts rackwright cannot reinstall", help=help)
        )
    if not yes:
        again = command("rackwright rebuild {}", stack.name)
        terminal.require(f"Run {again} on a terminal, or pass --yes to delete the disks unseen")


def _check_packages(stack: "Stack") -> None:
    """Compare the files of the local repository with the lock.

    Raises:
        ChangeRefused: A file differs.
    """
    from rackwright.lock.tree import find_damaged

    if stack.lock and stack.brings_packages and (damaged := find_damaged(stack.lock)):
        help = f"Remove that file, and run {command('rackwright lock --fetch {}', stack.name)}"
        raise ChangeRefused(Diagnostic(str(stack.lock_file), damaged, "the files in the lock", help))


def _save_facts(stack: "Stack", hosts: Sequence[str], folder: Path) -> dict[str, "Facts"]:
    """Return the facts of *hosts* that answer, after they were written to *folder*."""
    from rackwright.audit import evidence
    from rackwright.facts import snapshot
    from rackwright.facts.facts import Facts

    with project.connect_hosts(stack) as pool:
        found = evidence.from_hosts(pool, hosts, project.notify)
    known = {host: facts for host, facts in found.items() if isinstance(facts, Facts)}
    for host, facts in known.items():
        snapshot.save(folder, host, facts)
    return known


def _load(folder: Path, hosts: Sequence[str]) -> dict[str, "Facts"]:
    """Return the newest facts of *hosts* in *folder*.

    Raises:
        ChangeRefused: The directory has no facts of a host.
        SnapshotError: The directory or a file in it cannot be read.
    """
    from rackwright.facts import snapshot

    found = snapshot.load(folder, datetime.now(UTC))
    if missing := [host for host in hosts if host not in found]:
        problem, help = f"the directory has no facts of {', '.join(missing)}", "Name another directory, or fewer hosts"
        raise ChangeRefused(Diagnostic(str(folder), problem, "facts that `audit --save` wrote", help))
    return {host: found[host] for host in hosts}


def _question(stack: "Stack", hosts: Sequence[str], partial: Sequence[str]) -> str:
    mounts = [f"{host}:{tier.mount}" for host in hosts for tier in stack.fleet.hosts[host].tiers.values()]
    data = f" with all data, also in {', '.join(mounts)}" if mounts else ""
    states = "" if partial else f", and the states of {', '.join(twin_commands.stacks_of_twin(stack))}"
    return f"Delete the disks of {', '.join(hosts)} of the twin {stack.twin}{data}{states}, and provision again?"


def _make_blank(stack: "Stack", hosts: Sequence[str]) -> None:
    """Delete the disks of *hosts*, or of the whole twin with the states of its stacks, and start the hosts again."""
    if hosts:
        twin_commands.build(stack).reset(project.notify, hosts)
    else:
        twin_commands.reset_twin(stack)
    twin_commands.build(stack).start(project.notify)
