"""Files with the metrics of audits, which go to the monitoring host."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from rackwright.errors import DeclarationError, Diagnostic, StepFailed, command
from rackwright.facts.audit_metrics import LINE
from rackwright.facts.metrics_text import is_value, parse_labels
from rackwright.facts.probe import INTERPRETER
from rackwright.fleet.monitoring import auditors_of
from rackwright.foreign import InvalidData, read_file
from rackwright.hosts.pool import Hosts
from rackwright.schema.metric_files import audit_file
from rackwright.schema.problem import hint
from rackwright.stack import Stack
from rackwright.status.alerts import monitoring_host

FOLDER = "/var/lib/prometheus/node-exporter"
BYTES_MAX = 1 << 20
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


def read_all(stack: Stack, paths: Sequence[Path]) -> dict[str, str]:
    """Return the metrics in the files *paths*, by the stack that they are about.

    Raises:
        DeclarationError: *stack* has no monitoring, a file has no metrics of an audit, or no alert waits for them.
    """
    monitoring_host(stack)
    texts: dict[str, str] = {}
    errors = []
    for path in paths:
        try:
            text = read_file(path, BYTES_MAX).decode()
            audited = _audited_stack(text)
        except (OSError, UnicodeDecodeError, InvalidData, ValueError) as error:
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            expected = f"the output of {command('rackwright audit {} --format prometheus', stack.name)}"
            errors.append(Diagnostic(str(path), f"the file has no metrics of an audit: {reason}", expected))
            continue
        errors += _refusals(stack, path, audited)
        texts[audited] = text
    if errors:
        raise DeclarationError(*errors)
    return texts


def deliver(hosts: Hosts, stack: Stack, texts: Mapping[str, str]) -> None:
    """Write *texts*, by the stack that they are about, on the monitoring host, whose exporter serves them.

    Raises:
        HostUnreachable: the monitoring host does not answer.
        StepFailed: the file cannot be written.
    """
    host = monitoring_host(stack)
    program = files("rackwright.facts").joinpath("metrics_text.py").read_text()
    for audited, text in texts.items():
        path = f"{FOLDER}/{audit_file(audited)}"
        write = f"{program}\nos.umask(0o022)\nwrite_file({path!r}, {text!r})\n"
        done = hosts.connection(host).run((INTERPRETER, "-I", "-S", "-"), write.encode())
        if done.status:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1][-300:]
            help = f"Run {command('rackwright up {}', stack.name)}, then deliver the file again"
            raise StepFailed(Diagnostic(f"{host}: {path}", f"the file cannot be written: {reason}", help=help))


def _audited_stack(text: str) -> str:
    """Return the one stack that all samples of *text* are about.

    Raises:
        ValueError: a line is no sample of an audit, or there are several stacks.
    """
    stacks = set()
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        if line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        labels = parse_labels(found[2]) if found else None
        if not found or labels is None or not is_value(found[3]) or not NAME.fullmatch(labels.get("stack", "")):
            raise ValueError(f"line {number} is no sample of an audit")
        stacks.add(labels["stack"])
    if len(stacks) != 1:
        raise ValueError(f"it is about {len(stacks)} stacks")
    return stacks.pop()


def _refusals(stack: Stack, path: Path, audited: str) -> list[Diagnostic]:
    audits = stack.fleet.monitoring.audits if stack.fleet.monitoring else {}
    if audited not in audits:
        expected = f"a stack of `audits` of the monitoring: {', '.join(audits) or 'none'}"
        help = hint(audited, audits, f"Add {audited} to `audits`, and run {command('rackwright up {}', stack.name)}")
        return [Diagnostic(str(path), f"its metrics are those of stack {audited}", expected, help)]
    if (auditor := auditors_of(stack.fleet.hosts).get(audited)) is not None:
        expected = "stacks that no role audits: its alerts take the metrics of that host alone"
        help = f"Remove {audited} from role scheduled_audit of {auditor}, or deliver nothing for it"
        return [Diagnostic(str(path), f"role scheduled_audit of {auditor} audits {audited}", expected, help)]
    return []
