"""The alerts and silences of a stack's Alertmanager: listed, made and tested by root of the monitoring host."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from rackwright.errors import DeclarationError, Diagnostic, StepFailed, command
from rackwright.facts.probe import INTERPRETER
from rackwright.fleet.render_alerts import RUNBOOK, alert_names
from rackwright.foreign import InvalidData, parse_json
from rackwright.hosts.pool import Hosts
from rackwright.schema.monitoring import Severity
from rackwright.schema.problem import hint
from rackwright.stack import Stack

ANSWER_BYTES, DEPTH = 2 << 20, 12
PART_BYTES = 128 << 10
"""Bytes of the alerts of one host and severity that are read: root of a host chooses their number and their labels."""
PORT = 9093
UNLISTED = "AlertsNotListed"
"""Name of the row in the place of alerts that are longer than PART_BYTES."""
SEVERITIES = {"critical": '="critical"', "warning": '="warning"', "info": '!~"critical|warning"'}
HEARTBEAT, TEST = "Heartbeat", "TestMessage"
TEST_MINUTES = 5
"""Minutes after which a test message counts as resolved."""
HOLDING = ("active", "pending")
IDENTITY = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{7,63}")
"""Form of the identity of a silence, a UUID, which becomes a part of a path."""
TEXT_MAX = 500
"""Characters of a reason and of a summary."""


@dataclass(frozen=True, slots=True)
class FiringAlert:
    """An alert that fires."""

    alert: str
    """Name of the alert."""
    host: str
    """Host that it is about; empty for one about no host alone."""
    severity: str
    """critical, warning or info."""
    summary: str
    """Summary with values."""
    since: str
    """Time of its begin."""
    held_back: bool
    """Whether a silence or another alert holds its messages back."""
    receivers: tuple[str, ...]
    """Receivers of its messages."""

    @property
    def text(self) -> str:
        """The summary, and whether its messages are held back."""
        return f"{self.summary}{' (held back)' if self.held_back else ''}"


@dataclass(frozen=True, slots=True)
class Silence:
    """A time in which the messages of alerts are held back."""

    id: str
    """Identity at Alertmanager."""
    alert: str
    """Name of the alert; empty for all."""
    host: str
    """Host; empty for all."""
    reason: str
    """Reason, in words of the author."""
    author: str
    """Account that made it."""
    ends: str
    """Time of its end."""
    by_more: bool = False
    """Whether it also depends on other labels, or on patterns, as one that was made with other tools."""
    begins: str = ""
    """Time of its begin if it does not hold yet, as one that was made with other tools; else empty."""


def alerts(hosts: Hosts, stack: Stack) -> list[FiringAlert]:
    """Return the alerts that fire, by name and host; the heartbeat always fires and is none of them.

    Alertmanager is asked for each host and severity, so that the alerts of one host hide none of others. A row
    *UNLISTED* stands for those that are too long.

    Raises:
        DeclarationError: the fleet has no monitoring.
        HostUnreachable: the monitoring host does not answer.
        StepFailed: Alertmanager does not answer.
    """
    monitoring_host(stack)
    names = ("", *stack.fleet.hosts)
    parts = {(host, severity): _path(stack, host, severity) for host in names for severity in SEVERITIES}
    answers = zip(parts, _ask_each(hosts, stack, [*parts.values()]), strict=True)
    found = (each for part, answer in answers for each in _part(stack, *part, answer))
    return sorted((each for each in found if each.alert != HEARTBEAT), key=lambda each: (each.alert, each.host))


def _path(stack: Stack, host: str, severity: str) -> str:
    """Return the path of the alerts of a host, or for an empty one of those about no host of the stack."""
    others = "|".join(re.escape(name) for name in stack.fleet.hosts)
    instance = f'="{host}"' if host else f"!~{json.dumps(others)}"
    return _query(f"instance{instance}", f"severity{SEVERITIES[severity]}")


def _query(*matchers: str) -> str:
    return "/api/v2/alerts?" + "&".join(f"filter={quote(each, safe='')}" for each in matchers)


def _part(stack: Stack, host: str, severity: str, answer: str) -> list[FiringAlert]:
    """Return the alerts of one answer; one row for an answer that is too long."""
    status, _, content = answer.partition(" ")
    if status == "long":
        limit = f"longer than {PART_BYTES >> 10} KiB, and are not listed"
        about = f"of {host}" if host else "about no host"
        return [FiringAlert(UNLISTED, host, severity, f"The {severity} alerts {about} are {limit}", "", False, ())]
    return [_alert(each) for each in _objects(stack, _parse(stack, status, content))]


def silences(hosts: Hosts, stack: Stack) -> list[Silence]:
    """Return the silences that hold or are to hold later, by their end; the errors are those of `alerts`."""
    rows = _rows(hosts, stack, "/api/v2/silences")
    found = [each for each in rows if _text(each, "status", "state") in HOLDING]
    if wrong := [each for each in found if not IDENTITY.fullmatch(_text(each, "id"))]:
        raise _invalid(monitoring_host(stack), f"the identity of a silence is {_text(wrong[0], 'id')[:100]!r}")
    return sorted((_silence(each) for each in found), key=lambda each: each.ends)


def silence(hosts: Hosts, stack: Stack, alert: str, host: str, reason: str, author: str, seconds: int) -> Silence:
    """Hold the messages of an alert back for some time, and return the silence; the errors are those of `alerts`.

    Args:
        host: Host of the alert; empty for all hosts.
    """
    now = datetime.now(UTC)
    matchers = {"alertname": alert, **({"instance": host} if host else {})}
    body = {
        "matchers": [
            {"name": name, "value": value, "isRegex": False, "isEqual": True} for name, value in matchers.items()
        ],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(seconds=seconds)).isoformat(),
        "createdBy": author,
        "comment": reason,
    }
    answer = _ask(hosts, stack, "POST", "/api/v2/silences", body)
    return Silence(_text(answer, "silenceID"), alert, host, reason, author, str(body["endsAt"]))


def expire(hosts: Hosts, stack: Stack, alert: str, host: str) -> list[Silence]:
    """End the silences of an alert, as `silences` lists them, and return them; the errors are those of `alerts`.

    A silence that others made by more than the name of an alert and a host stays.

    Args:
        host: Host that the silences name; empty for those that name none.

    Raises:
        DeclarationError: no such silence holds.
    """
    held = [each for each in silences(hosts, stack) if (each.alert, each.host, each.by_more) == (alert, host, False)]
    if not held:
        where = f" of {host}" if host else ""
        help = f"Look at the silences that {command('rackwright alert list {}', stack.name)} shows"
        raise DeclarationError(Diagnostic("ALERT", f"no silence of {alert}{where} holds", help=help))
    for each in held:
        _ask(hosts, stack, "DELETE", f"/api/v2/silence/{each.id}")
    return held


def check_alert(stack: Stack, alert: str, host: str) -> None:
    """Check the names of an alert and of a host, which may be empty.

    Raises:
        DeclarationError: there is no such alert or host.
    """
    if wrong := [*_unknown_names(stack, alert, host)]:
        raise DeclarationError(*wrong)


def check_silence(stack: Stack, alert: str, host: str, reason: str) -> None:
    """Check the arguments of a silence.

    Raises:
        DeclarationError: there is no such alert or host, or the reason is empty or too long.
    """
    if wrong := [*_problems(stack, alert, host, reason)]:
        raise DeclarationError(*wrong)


def _problems(stack: Stack, alert: str, host: str, reason: str) -> Iterable[Diagnostic]:
    yield from _unknown_names(stack, alert, host)
    if not reason.strip() or len(reason) > TEXT_MAX:
        problem = f"got {len(reason)} characters" if reason.strip() else "got no reason"
        yield Diagnostic(
            "--reason", problem, f"a reason has 1 to {TEXT_MAX} characters", "Write why nothing is to be done"
        )


def _unknown_names(stack: Stack, alert: str, host: str) -> Iterable[Diagnostic]:
    if alert not in alert_names():
        help = hint(alert, alert_names(), "Correct the name")
        yield Diagnostic("ALERT", f"there is no alert {alert}", f"an alert of {RUNBOOK}", help)
    if host:
        yield from stack.unknown_host_errors(host)


def send_test(hosts: Hosts, stack: Stack, severity: Severity) -> tuple[str, ...]:
    """Send a test message of *severity*, and return the receivers to which Alertmanager routes it.

    The errors are those of `alerts`.
    """
    now = datetime.now(UTC)
    monitored = monitoring_host(stack)
    labels = {"alertname": TEST, "severity": severity, "instance": monitored, "sent": now.isoformat()}
    summary = f"Test of receivers, sent by {command('rackwright alert test {}', stack.name)}. Nothing is wrong"
    ends = (now + timedelta(minutes=TEST_MINUTES)).isoformat()
    body = [{"labels": labels, "annotations": {"summary": summary}, "startsAt": now.isoformat(), "endsAt": ends}]
    _ask(hosts, stack, "POST", "/api/v2/alerts", body)
    own = _query(f"sent={json.dumps(labels['sent'])}")
    sent = [each for each in _rows(hosts, stack, own) if _text(each, "labels", "sent") == labels["sent"]]
    return _alert(sent[0]).receivers if sent else ()


def monitoring_host(stack: Stack) -> str:
    """Return the monitoring host of *stack*.

    Raises:
        DeclarationError: the fleet has no monitoring.
    """
    monitoring = stack.fleet.monitoring
    if monitoring is None:
        problem, expected = "the fleet has no monitoring", "monitoring names the host of Alertmanager"
        raise DeclarationError(
            Diagnostic(stack.name, problem, expected, "Declare `monitoring`, see docs/guides/monitor.md")
        )
    return monitoring.host


def _rows(hosts: Hosts, stack: Stack, path: str) -> list[Mapping[str, Any]]:
    """Return the objects of a list of Alertmanager's."""
    return _objects(stack, _ask(hosts, stack, "GET", path))


def _objects(stack: Stack, answer: Any) -> list[Mapping[str, Any]]:
    if not isinstance(answer, list) or not all(isinstance(each, Mapping) for each in answer):
        raise _invalid(monitoring_host(stack), "it is no list of objects")
    return answer


def _invalid(host: str, reason: str) -> StepFailed:
    help = "Look at `journalctl -u rackwright-alertmanager.service` on the host"
    return StepFailed(Diagnostic(f"{host}: Alertmanager", f"its answer is not valid: {reason}", help=help))


def _ask(hosts: Hosts, stack: Stack, method: str, path: str, body: Any = None) -> Any:
    """Return the answer of Alertmanager."""
    more = () if body is None else (json.dumps(body),)
    status, _, content = _run(hosts, stack, method, path, *more).partition("\n")
    return _parse(stack, status, content)


def _ask_each(hosts: Hosts, stack: Stack, paths: Sequence[str]) -> list[str]:
    """Return the status and the body of each of *paths* as one text, `long` for one of more than PART_BYTES."""
    lines = _run(hosts, stack, "EACH", str(PART_BYTES), *paths).split("\n")[:-1]
    if len(lines) != len(paths):
        raise _invalid(monitoring_host(stack), f"it has {len(lines)} lines for {len(paths)} questions")
    return lines


def _run(hosts: Hosts, stack: Stack, *arguments: str) -> str:
    """Return the output of the program that asks Alertmanager on its host."""
    host = monitoring_host(stack)
    program = files("rackwright.hosts.onhost").joinpath("ask_alertmanager.py").read_bytes()
    port = str(stack.fleet.hosts[host].roles.get("alertmanager", {}).get("port", PORT))
    done = hosts.connection(host).run((INTERPRETER, "-I", "-S", "-", port, *arguments), program)
    if done.status:
        raise _silent(stack, done.stderr.strip())
    return done.stdout.decode(errors="replace")


def _parse(stack: Stack, status: str, content: str) -> Any:
    if status != "200":
        raise _silent(stack, f"it answers {status}: {content[:200]}")
    try:
        return parse_json(content.encode(), ANSWER_BYTES, DEPTH) if content.strip() else {}
    except InvalidData as error:
        raise _invalid(monitoring_host(stack), str(error)) from None


def _silent(stack: Stack, message: str) -> StepFailed:
    help = f"Run {command('rackwright audit {}', stack.name)}, which names the part that does not run"
    return StepFailed(
        Diagnostic(f"{monitoring_host(stack)}: Alertmanager", f"no answer: {message[-300:] or 'no message'}", help=help)
    )


def _alert(raw: Mapping[str, Any]) -> FiringAlert:
    receivers = raw.get("receivers")
    names = [_text(each, "name") for each in receivers] if isinstance(receivers, list) else []
    return FiringAlert(
        _text(raw, "labels", "alertname"),
        _text(raw, "labels", "instance"),
        _text(raw, "labels", "severity"),
        _text(raw, "annotations", "summary"),
        _text(raw, "startsAt"),
        _text(raw, "status", "state") == "suppressed",
        tuple(name for name in names if name),
    )


def _silence(raw: Mapping[str, Any]) -> Silence:
    found = raw.get("matchers")
    rows = [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []
    matchers = {_text(row, "name"): _text(row, "value") for row in rows}
    alert, host = matchers.get("alertname", ""), matchers.get("instance", "")
    plain = all(row.get("isRegex") is False and row.get("isEqual", True) is True for row in rows)
    # matchers that are no objects or have the name of another one are left out of the table
    whole = isinstance(found, list) and len(matchers) == len(found)
    by_more = not plain or not whole or not matchers.keys() <= {"alertname", "instance"}
    times = _text(raw, "comment"), _text(raw, "createdBy"), _text(raw, "endsAt")
    begins = _text(raw, "startsAt") if _text(raw, "status", "state") == "pending" else ""
    return Silence(_text(raw, "id"), alert, host, *times, by_more, begins)


def _text(raw: Any, *keys: str) -> str:
    """Return the text below *keys*, without signs that a terminal acts on; empty if there is none."""
    for key in keys:
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return re.sub(r"[^\x20-\x7e\xa0-\uffff]", "?", raw)[:TEXT_MAX] if isinstance(raw, str) else ""
