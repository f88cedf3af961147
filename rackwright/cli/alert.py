"""The commands for alerts of monitoring."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import AsJson, StackName

if TYPE_CHECKING:
    from rackwright.cli.json_types import AlertList, AlertTest, AuditDelivery, ExpiredSilences

app = typer.Typer(no_args_is_help=True, help="The alerts of a stack's monitoring.")
DIFFERS = 1


@app.command("list")
def list_alerts(stack: StackName, as_json: AsJson = False) -> None:
    """Show the alerts that fire, and the silences that hold or are to hold later.

    Exit status: 0 no alert above `info` fires, but for those that are held back, 1 one fires, 3 the monitoring host was
    not reached, 4 Alertmanager does not answer.
    """
    from rackwright.status import alerts

    loaded = project.stack(stack)
    with project.connect_hosts(loaded) as hosts:
        found, held = alerts.alerts(hosts, loaded), alerts.silences(hosts, loaded)
    if as_json:
        document: AlertList = {
            "alerts": found,
            "silences": held,
        }
        terminal.show_json(document)
    else:
        for each in found:
            terminal.show(f"{each.severity:8} {each.alert}: {each.text}")
        for one in held:
            where = f"{f' of {one.host}' if one.host else ''}{' by further labels' if one.by_more else ''}"
            begins = f" from {one.begins}" if one.begins else ""
            terminal.show(
                f"silence  {one.alert or 'all alerts'}{where}{begins} until {one.ends}: {one.reason} ({one.author})"
            )
        if not found:
            terminal.show("no alert fires")
    raise typer.Exit(DIFFERS if any(not each.held_back and each.severity != "info" for each in found) else 0)


@app.command()
def silence(
    stack: StackName,
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="Name of an alert: HostNotReached.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason, for others who look.")],
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="Time until it ends: 30min or 6h.")],
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="Host; without it, all hosts.")] = "",
    as_json: AsJson = False,
) -> None:
    """Hold the messages of an alert back for some time. The alert still shows in `alert list`.

    The author is your account. Exit status: 0 the messages are held back, 2 there is no such alert or host, 3 the
    monitoring host was not reached, 4 Alertmanager does not answer.
    """
    import os

    from rackwright.cli import recording
    from rackwright.errors import DeclarationError
    from rackwright.log import actor
    from rackwright.schema.problem import Problem
    from rackwright.schema.units import parse_time
    from rackwright.status import alerts

    loaded = project.stack(stack)
    alerts.check_silence(loaded, alert, host, reason)
    try:
        seconds = parse_time(duration)
    except Problem as problem:
        raise DeclarationError(problem.at("--for")) from None
    who = actor.current(os.environ)
    author = who["login"] or who["account"]
    place = loaded.fleet.monitoring.host if loaded.fleet.monitoring else ""
    planned = [recording.change(alert, f"hold messages back for {duration}: {reason}", place)]
    arguments = {"alert": alert, "host": host, "for": duration, "reason": reason}
    with (
        recording.record("alert silence", loaded, [place] if place else [], arguments, planned),
        project.connect_hosts(loaded) as hosts,
    ):
        made = alerts.silence(hosts, loaded, alert, host, reason, author, seconds)
    if as_json:
        terminal.show_json(made)
    else:
        where = f" of {host}" if host else ""
        terminal.show(f"messages of {alert}{where} are held back until {made.ends}")


@app.command()
def expire(
    stack: StackName,
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="Name of an alert: HostNotReached.")],
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="Host that the silence names, if any.")] = "",
    as_json: AsJson = False,
) -> None:
    """End the silences of an alert before their time: its messages are sent again.

    Exit status: 0 the messages are sent again, 2 no such silence holds, 3 the monitoring host was not reached, 4
    Alertmanager does not answer.
    """
    from rackwright.cli import recording
    from rackwright.status import alerts

    loaded = project.stack(stack)
    alerts.check_alert(loaded, alert, host)
    place = loaded.fleet.monitoring.host if loaded.fleet.monitoring else ""
    planned = [recording.change(alert, "send messages again", place)]
    with (
        recording.record("alert expire", loaded, [place] if place else [], {"alert": alert, "host": host}, planned),
        project.connect_hosts(loaded) as hosts,
    ):
        ended = alerts.expire(hosts, loaded, alert, host)
    if as_json:
        document: ExpiredSilences = {"silences": ended}
        terminal.show_json(document)
    else:
        where = f" of {host}" if host else ""
        count = f" ({len(ended)} silences ended)" if len(ended) > 1 else ""
        terminal.show(f"messages of {alert}{where} are sent again{count}")


@app.command()
def deliver(
    stack: StackName,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Output of `rackwright audit --format prometheus`.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write the metrics of audits on the monitoring host, for the alerts about audits.

    The fleet of STACK has the monitoring, or uses the hosts of one that has it; `audits` of the monitoring names the
    stacks that the files are about. Exit status: 0 the files are on the host, 2 a file is refused, 3 the monitoring
    host was not reached, 4 a file cannot be written there.
    """
    from rackwright.cli import recording
    from rackwright.status import audit_files

    loaded = project.stack(stack)
    texts = audit_files.read_all(loaded, files)
    place = loaded.fleet.monitoring.host if loaded.fleet.monitoring else ""
    planned = [recording.change(audited, "write the metrics of its audit", place) for audited in texts]
    with (
        recording.record("alert deliver", loaded, [place], planned=planned),
        project.connect_hosts(loaded) as hosts,
    ):
        audit_files.deliver(hosts, loaded, texts)
    if as_json:
        document: AuditDelivery = {"host": place, "stacks": [*texts]}
        terminal.show_json(document)
    else:
        terminal.show(f"{place} has the metrics of {', '.join(texts)}")


@app.command()
def test(
    stack: StackName,
    severity: Annotated[
        str, typer.Option("--severity", metavar="SEVERITY", help="critical, warning or info, for routes by severity.")
    ] = "critical",
    as_json: AsJson = False,
) -> None:
    """Send a test message to the receivers of a severity, which says that nothing is wrong.

    Look whether the message arrives within half a minute: Alertmanager does not report the answer of a receiver here.
    Exit status: 0 Alertmanager has the message, 3 the monitoring host was not reached, 4 Alertmanager does not answer.
    """
    from typing import get_args

    from rackwright.errors import DeclarationError, Diagnostic
    from rackwright.schema.monitoring import Severity
    from rackwright.schema.problem import hint
    from rackwright.status import alerts

    known: tuple[Severity, ...] = get_args(Severity)
    chosen = next((each for each in known if each == severity), None)
    if chosen is None:
        expected = ", ".join(known)
        raise DeclarationError(
            Diagnostic("--severity", f"got {severity!r}", expected, hint(severity, known, "Write one of them"))
        )
    loaded = project.stack(stack)
    with project.connect_hosts(loaded) as hosts:
        receivers = alerts.send_test(hosts, loaded, chosen)
    if as_json:
        document: AlertTest = {"alert": alerts.TEST, "severity": chosen, "receivers": [*receivers]}
        terminal.show_json(document)
    else:
        terminal.show(f"a test message is on its way to {', '.join(receivers) or 'no receiver'}")
