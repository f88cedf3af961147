"""The commands of the operations log: they show, verify, export and copy it, and change its keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import AsJson, StackName

if TYPE_CHECKING:
    from rackwright.cli.json_log_types import BreakData, HeadsData, LogEntries, LogExport, LogHead, LogVerification
    from rackwright.log.chain import Break, Chain
    from rackwright.log.heads import Comparison
    from rackwright.log.keys import PublicKey

app = typer.Typer(no_args_is_help=True, help="The tamper-evident log of operations.")
Heads = Annotated[
    list[str] | None,
    typer.Option(
        "--heads",
        metavar="PLACE",
        envvar="RACKWRIGHT_LOG_HEADS",
        help="Second place with copied heads: a path, ssh://[USER@]HOST[:PORT]/PATH, "
        "git+URL[#BRANCH], or s3+https://HOST[:PORT]/BUCKET[/PREFIX].",
    ),
]


@app.command()
def show(
    host: Annotated[list[str] | None, typer.Option(metavar="HOST", help="Operations on this host alone.")] = None,
    actor: Annotated[list[str] | None, typer.Option(metavar="ACCOUNT", help="Those of this account alone.")] = None,
    stack: Annotated[str | None, typer.Option(metavar="STACK", help="Those on this stack alone.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Those from this time on, in UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Those up to this time, in UTC.")] = None,
    key: Annotated[
        str | None, typer.Option(metavar="SHA256:…", help="Entries that this key signed, such as a stolen one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the operations of this project: who changed what on which host, and the result. Changes nothing.

    Exit status: 1 the log is broken; entries before that place are shown.
    """
    from rackwright.cli import recording
    from rackwright.log import chain, reading

    path = recording.current_log().path
    checked = chain.check(reading.read_log(path))
    wanted = reading.Filter(host or (), actor or (), stack, _utc(since), _utc(until), key)
    entries = [line.data for line in checked.lines if wanted.matches(line)]
    if as_json:
        document: LogEntries = {"path": str(path), "log": checked.state.log, "entries": entries}
        terminal.show_json(document)
    else:
        for line in reading.format_operations(entries):
            terminal.show(line)
    if checked.broken:
        project.notify(f"{path}: {checked.broken}")
    raise typer.Exit(int(checked.broken is not None))


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="An exported log; by default the log of this project.")
    ] = None,
    heads: Heads = None,
    signers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keys that may sign, as allowed signers of ssh-keygen; by default that of the log's first entry.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the whole log: each hash, each signature, the order, and the heads at a second place. Changes nothing.

    The first broken place is named with its sort: edited, deleted, inserted, swapped, truncated, forked, or signed by
    an unknown or a revoked key. Only a second place shows that entries are missing at the end.

    Exit status: 0 the log is whole, 1 it is broken, 2 there is no log, 3 a second place was not reached.
    """
    from rackwright.cli import recording
    from rackwright.log import chain, reading

    path = file or recording.current_log().path
    keys = reading.read_signers(signers) if signers else None
    checked = chain.check(reading.read_log(path), keys)
    places = [_compare(checked, place, keys) for place in heads or ()]
    broken = checked.broken or next((each.comparison.broken for each in places if each.comparison), None)
    if as_json:
        terminal.show_json(_verification(path, checked, broken, places))
    else:
        _show_verification(path, checked, broken, places)
    if broken or any(each.problem for each in places if each.comparison):
        raise typer.Exit(1)
    raise typer.Exit(3 if any(each.comparison is None for each in places) else 0)


@app.command()
def export(
    to: Annotated[Path, typer.Argument(metavar="DIR", help="An absent or empty directory, or one of an earlier call.")],
    as_json: AsJson = False,
) -> None:
    """Write the log for an auditor: its entries, its keys, and its head with a signature for `ssh-keygen -Y verify`.

    Exit status: 1 the log is broken; it is written as it is.
    """
    from rackwright.cli import recording
    from rackwright.log import chain, export, reading

    path = recording.current_log().path
    content = reading.read_log(path)
    checked = chain.check(content)
    files = export.files(content, checked)
    project.write_files(to, files)
    if as_json:
        document: LogExport = {"directory": str(to), "files": [*files], "entries": len(checked.lines)}
        terminal.show_json(document)
    else:
        terminal.show(f"{to}: {reading.format_count(checked.lines)} in {', '.join(files)}")
        for line in export.commands(to):
            terminal.show(f"  {line}")
    if checked.broken:
        project.notify(f"{path}: {checked.broken}")
    raise typer.Exit(int(checked.broken is not None))


@app.command()
def push(
    to: Annotated[
        str,
        typer.Option(metavar="PLACE", envvar="RACKWRIGHT_LOG_HEADS", help="Second place; see `log verify --heads`."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Copy the head of the log to a second place, after a comparison with the last head there.

    Commands that change something do it themselves if RACKWRIGHT_LOG_HEADS is set; plain pulumi does not.

    Exit status: 1 the log is not that of the last head there, 2 there is no log, 3 the place was not reached.
    """
    from rackwright.cli import recording
    from rackwright.log.copying import copy_head
    from rackwright.log.places import parse_place

    place = parse_place(to)
    head = copy_head(recording.current_log().path, place)
    if as_json:
        document: LogHead = {"place": place.name, "log": head.log, "sequence": head.sequence, "hash": head.hash}
        terminal.show_json(document)
    else:
        terminal.show(f"{place.name} has the head of entry {head.sequence}")


@app.command()
def restart(
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; the new log's first entry repeats it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Start another log without a question.")] = False,
) -> None:
    """Set the log aside, and start another one whose first entry has the digest of the old file.

    For a log that is broken, or whose keys are lost. The old file stays beside the new one.

    Exit status: 2 there is no log, it was not confirmed, or it cannot be written.
    """
    from rackwright.cli import recording

    log = recording.current_log()
    if not yes and not terminal.confirm(f"Set {log.path} aside, and start another log?"):
        project.notify("nothing was changed")
        raise typer.Exit(2)
    aside = log.start_again(reason)
    project.notify(f"the old log is in {aside}; another log has started in {log.path}")


@app.command()
def add_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A public Ed25519 key of OpenSSH.")],
) -> None:
    """Allow another key to sign, by an entry that a present key signs.

    Exit status: 2 the key may sign already, or was revoked.
    """
    from rackwright.cli import recording
    from rackwright.errors import DeclarationError, Diagnostic
    from rackwright.log import chain, reading
    from rackwright.log.keys import read_public_key

    key, log = read_public_key(file), recording.current_log()
    if present := chain.check(reading.read_log(log.path)).state.keys.get(key.fingerprint):
        revoked = f"entry {present.revoked_at} has revoked" if present.revoked_at is not None else "the log has"
        raise DeclarationError(Diagnostic(str(file), f"{revoked} the key {key.fingerprint}", "another key"))
    line = log.append("key_added", {"key": key.text})
    project.notify(f"{key.fingerprint} may sign after entry {line.sequence}")


@app.command()
def revoke_key(
    fingerprint: Annotated[str, typer.Argument(metavar="SHA256:…", help="Fingerprint, as `log verify` prints it.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; the entry repeats it.")],
) -> None:
    """Revoke a key: an entry that it signs afterwards breaks the log. Entries before stay valid.

    The command names the keys that the revoked one has added, which a thief may have.

    Exit status: 2 the log has no such key, or it is the last one.
    """
    from rackwright.cli import recording
    from rackwright.errors import DeclarationError, Diagnostic
    from rackwright.log import chain, reading

    log = recording.current_log()
    states = chain.check(reading.read_log(log.path)).state.keys
    valid = [name for name, state in states.items() if state.revoked_at is None]
    if fingerprint not in valid:
        problem, expected = f"the log has no valid key {fingerprint}", f"one of {', '.join(valid) or 'none'}"
        raise DeclarationError(Diagnostic("SHA256:…", problem, expected, "Name one of these"))
    if valid == [fingerprint]:
        problem, help = "the log has no other valid key", "Add another key with `rackwright log add-key FILE` first"
        raise DeclarationError(Diagnostic("SHA256:…", problem, "a key that can sign afterwards", help))
    line = log.append("key_revoked", {"key": fingerprint, "reason": reason})
    project.notify(f"{fingerprint} may not sign after entry {line.sequence}")
    for name, state in states.items():
        if state.added_by == fingerprint and name != fingerprint:
            project.notify(f"it has added {name} in entry {state.added_at}; revoke that one too unless you know it")


@app.command()
def accept(
    stack: StackName,
    host: Annotated[list[str], typer.Argument(metavar="HOST…", help="Hosts whose audit logs begin another chain.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; the entry repeats it.")],
) -> None:
    """Accept other chains of hosts' audit logs, by an entry: after a new installation, or at the end of an incident.

    The next audit notes the heads of these chains, and audits before the entry no longer count for them.

    Exit status: 2 the log has no head of such a host.
    """
    from rackwright.cli import recording
    from rackwright.errors import DeclarationError, Diagnostic

    seen = recording.seen_heads(stack) or {}
    if unknown := [name for name in host if not seen.get(name)]:
        names = [name for name, heads in seen.items() if heads]
        problem, expected = "no audit has noted its audit log", f"one of {', '.join(names) or 'none'}"
        raise DeclarationError(*(Diagnostic(name, problem, expected, "Name one of these") for name in unknown))
    line = recording.current_log().append("host_accepted", {"stack": stack, "hosts": host, "reason": reason})
    project.notify(f"entry {line.sequence}: the next audit notes the audit logs of {', '.join(host)} again")


@dataclass(frozen=True)
class _PlaceResult:
    """The comparison with one second place."""

    name: str
    comparison: "Comparison | None"
    """None for a place that was not reached."""
    problem: str = ""


def _compare(checked: "Chain", name: str, signers: "Mapping[str, PublicKey] | None") -> _PlaceResult:
    from rackwright.errors import HostUnreachable
    from rackwright.log.heads import compare
    from rackwright.log.places import parse_place

    try:
        content = parse_place(name).read()
    except HostUnreachable as error:
        return _PlaceResult(name, None, str(error))
    result = compare(checked, content, signers)
    if result.broken:
        return _PlaceResult(name, result, str(result.broken))
    if result.unreadable:
        lines = ", ".join(map(str, result.unreadable))
        problem = f"{name}: no key of this log has signed the heads in lines {lines}"
        help = (
            "they were forged there, or the log has lost the entry about their key; --signers FILE tells the two apart"
        )
        return _PlaceResult(name, result, f"{problem}; {help}")
    if result.copied is None:
        return _PlaceResult(name, result, f"{name}: no head of log {checked.state.log} is there")
    return _PlaceResult(name, result)


def _show_verification(path: Path, checked: "Chain", broken: "Break | None", places: Sequence[_PlaceResult]) -> None:
    from rackwright.log.chain import unfinished_operations
    from rackwright.log.reading import format_count

    terminal.show(f"{path}: {broken}" if broken else f"{path}: {format_count(checked.lines)}, whole")
    for name, state in checked.state.keys.items():
        revoked = f", revoked by entry {state.revoked_at}" if state.revoked_at is not None else ""
        terminal.show(f"  key {name}, of entry {state.added_at}{revoked}")
    for entry in unfinished_operations(checked.entries):
        subject = entry.get("resource") or entry["stack"]
        terminal.show(f"  entry {entry['sequence']}: {entry['command']} {subject} has no end")
    for place in places:
        copied = place.comparison.copied if place.comparison else None
        terminal.show(f"  {place.problem}" if place.problem else f"  {place.name}: heads up to entry {copied}")
    if not places:
        terminal.show("  no second place was named, so entries that are missing at the end do not show")


def _verification(
    path: Path, checked: "Chain", broken: "Break | None", places: Sequence[_PlaceResult]
) -> "LogVerification":
    from rackwright.log.chain import unfinished_operations

    return {
        "path": str(path),
        "log": checked.state.log,
        "entries": len(checked.lines),
        "broken": _break_data(broken),
        "keys": [
            {"fingerprint": name, "added_at": state.added_at, "revoked_at": state.revoked_at}
            for name, state in checked.state.keys.items()
        ],
        "unfinished": [entry["sequence"] for entry in unfinished_operations(checked.entries)],
        "heads": [_heads_data(each) for each in places],
    }


def _heads_data(place: _PlaceResult) -> "HeadsData":
    copied = place.comparison.copied if place.comparison else None
    return {"place": place.name, "reached": place.comparison is not None, "copied": copied, "problem": place.problem}


def _break_data(broken: "Break | None") -> "BreakData | None":
    if broken is None:
        return None
    return {"sort": broken.sort, "line": broken.line, "sequence": broken.sequence, "problem": str(broken)}


def _utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time else None
