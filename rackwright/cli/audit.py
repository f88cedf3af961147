"""The commands audit and digests."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import CHECK, AsJson, StackName, complete_host
from rackwright.errors import DeclarationError, Diagnostic, SetupError, UserError

if TYPE_CHECKING:
    from rackwright.audit.formats.document import AuditDocument
    from rackwright.audit.formats.finding import FileDiffs, Finding, Selection
    from rackwright.audit.report import AuditReport, Evidence
    from rackwright.facts.facts import Facts
    from rackwright.facts.log_chain import HostHead, SeenHead
    from rackwright.stack import DeclaredResource, Stack

    HostFacts = Iterator[tuple[str, Facts | UserError]]

OBJECTS_AT_ONCE = 2_000_000
"""Objects after which the garbage collector runs: the facts of 64 hosts at once have as many, and no cycles."""
app = typer.Typer()
"""The commands of this module; they stand among those of the stack."""


class Format(StrEnum):
    """The formats of a report."""

    terminal = "terminal"
    json = "json"
    junit = "junit"
    sarif = "sarif"
    markdown = "markdown"
    html = "html"
    csv = "csv"
    prometheus = "prometheus"


class Weight(StrEnum):
    """The severities, the heaviest first."""

    error = "error"
    warning = "warning"
    notice = "notice"


@dataclass(frozen=True)
class Options:
    """How the report is made and judged."""

    format: Format = Format.terminal
    output: Path | None = None
    """File for the report; None for stdout."""
    only: Sequence[str] = ()
    severity: Weight = Weight.notice
    hosts: Sequence[str] = ()
    """Hosts to compare; empty for all."""
    strict: bool = False
    baseline: Path | None = None
    """An earlier JSON report; its findings do not change the exit status."""
    diff: bool = False
    state: bool = False
    """Whether the resources are those of the stack's state, instead of those of the fleet."""
    changed_since: Path | None = None
    """Directory of snapshots; findings that they show too do not change the exit status."""
    allow: str | None = None
    """Reason of the lines to add to the fleet for undeclared things; None adds none."""
    metrics: Path | None = None
    """File for the metrics of the report, beside the report itself; None for none."""


@dataclass(frozen=True)
class FactsSource:
    """The origin of the facts, and where to save them."""

    snapshot: Path | None = None
    """Directory of snapshots; None for the hosts."""
    as_of: datetime | None = None
    save: Path | None = None


@app.command(rich_help_panel=CHECK)
def audit(
    stack: StackName,
    as_json: AsJson = False,
    format: Annotated[
        Format, typer.Option(help="Form of the report. terminal shows findings that the baseline does not have.")
    ] = Format.terminal,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report to this file.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Show findings whose kind, resource, path or rule matches, such as tier, 'gpu-*/hot' or "
            "'file:/etc/*'; several are possible.",
        ),
    ] = None,
    severity: Annotated[Weight, typer.Option(help="Show findings of this severity and heavier ones.")] = Weight.notice,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST", help="Compare this host alone; several are possible.", autocompletion=complete_host
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Status 1 also if something is unknown or not reached.")
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An earlier JSON report: only findings that it does not have count."),
    ] = None,
    changed_since: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Saved facts: only findings that they do not show count."),
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show how the texts of files differ, without secrets.")] = False,
    state: Annotated[
        bool,
        typer.Option(
            "--state", help="Compare what the stack's state declares: programs may declare more than the fleet."
        ),
    ] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the facts of every host to this directory.")
    ] = None,
    snapshot: Annotated[Path | None, typer.Option(metavar="DIR", help="Use saved facts instead of the hosts.")] = None,
    as_of: Annotated[
        datetime | None, typer.Option(help="With --snapshot: use the newest facts up to this time, in UTC.")
    ] = None,
    allow: Annotated[
        str | None,
        typer.Option(
            metavar="REASON", help="Add a line to the fleet's file for each undeclared thing; it expires in 90 days."
        ),
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the metrics of the report here, for `rackwright alert deliver`."),
    ] = None,
    digests: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The output of `rackwright digests`: for an audit without the passphrase."),
    ] = None,
    tracking: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar=project.TRACKING_URL,
            help="The MLflow server with which names of registered models are resolved.",
        ),
    ] = "",
) -> None:
    """Compare the declared state with the hosts. Read-only.

    Exit status: 0 as declared, 1 something differs, 3 something is unknown. Findings that the report leaves out
    do not count.
    """
    if as_json and format not in (Format.terminal, Format.json):
        raise typer.BadParameter("--json is the short form of --format json", param_hint="--format")
    options = Options(
        Format.json if as_json else format,
        output,
        tuple(only or ()),
        severity,
        tuple(host or ()),
        strict,
        baseline,
        diff,
        state,
        changed_since,
        allow,
        metrics,
    )
    source = FactsSource(snapshot, as_of, save)
    raise typer.Exit(run(project.stack(stack), options, source, digests, tracking))


@app.command(rich_help_panel=CHECK)
def digests(stack: StackName) -> None:
    """Print keyed digests of values that depend on secrets, for an `audit --digests` without the passphrase."""
    from rackwright.audit.digests import compute_digests

    terminal.show_json(compute_digests(project.secrets(project.stack(stack))))


def run(stack: "Stack", options: Options, source: FactsSource, digests: Path | None, tracking: str) -> int:
    """Print or write the audit of *stack*, and return its exit status."""
    gc.set_threshold(OBJECTS_AT_ONCE, 50, 1000)
    from rackwright.audit import formats, report
    from rackwright.audit.digests import load
    from rackwright.audit.formats.finding import Selection
    from rackwright.cli import recording
    from rackwright.stack import declare
    from rackwright.status import registered

    if wrong := [*stack.unknown_host_errors(*options.hosts)]:
        raise DeclarationError(*wrong)
    secret_digests = load(digests, stack) if digests else None
    if secret_digests is None:
        try:
            stack = project.secrets(stack)
        except SetupError as error:
            project.notify(
                f"values that depend on a secret are unknown; --digests FILE supplies their digests: {error}"
            )
    names = [name for name in options.hosts or stack.fleet.hosts if name not in stack.maintenance]
    if not options.hosts:
        names += map(str, stack.endpoint_sources)
    lookup = (tracking,) if source.snapshot is None else ("", "--snapshot asks no server")
    notices = dict(registered.notices(registered.resolve_names(stack, *lookup), stack))
    resources = _state_resources(stack) if options.state else declare(stack)
    selection = Selection(tuple(options.only), options.severity.value)
    seen_heads = recording.seen_heads(stack.name)
    known: frozenset[str] = frozenset()
    if options.changed_since is not None:
        before = _evidence(stack, names, FactsSource(options.changed_since))
        compared = report.compare_each(
            stack, resources, before, secret_digests, {}, options.hosts, seen_heads=seen_heads
        )
        known |= frozenset(finding.fingerprint for finding in _collect(stack, compared, selection))
    evidence = _evidence(stack, names, source)
    kept: dict[str, Facts | UserError] = {}
    if options.diff and source.snapshot is None:
        evidence = _keep(evidence, kept)  # a plan needs the facts once more
    heads: dict[str, HostHead] = {name: each[-1].head for name, each in (seen_heads or {}).items() if each}
    if source.snapshot is None:
        evidence = _collect_heads(evidence, seen_heads, heads)
    notices |= _quarantine(stack, source)
    compared = report.compare_each(
        stack, resources, evidence, secret_digests, notices, options.hosts, seen_heads=seen_heads
    )
    diffs = _file_diffs(stack, resources, compared, kept) if kept else {}
    document = _document(stack, compared, options, source, diffs, known, selection)
    recording.note("audit", stack, names, document.exit_status, heads)
    _write(document, options)
    if options.metrics is not None:
        _write_file(options.metrics, formats.render(Format.prometheus.value, document))
    if options.allow is not None:
        from rackwright.cli import allow_lines

        allow_lines.write(stack.name, stack.fleet.hosts, compared.undeclared, options.allow)
    return document.exit_status


def _quarantine(stack: "Stack", source: FactsSource) -> dict[str, str]:
    """Return a notice for each host in quarantine, and one about verdicts that are unknown; none for a snapshot."""
    from rackwright.hosts import verdicts

    receiver = verdicts.receiver_of(stack.fleet)
    if receiver is None or source.snapshot is not None:
        return {}
    with project.connect_hosts(stack, is_report=True) as hosts:
        known = verdicts.look(hosts, stack, receiver)
    return known.notices()


def _state_resources(stack: "Stack") -> "tuple[DeclaredResource, ...]":
    """Return the resources in the state of *stack*.

    Raises:
        DeclarationError: The fleet does not have the host of a resource, so nothing reaches it.
    """
    from rackwright.cli import state_resources

    resources = state_resources.read(stack.name)
    if wrong := [
        *stack.unknown_host_errors(*dict.fromkeys(each.source for each in resources if ":" not in each.source))
    ]:
        raise DeclarationError(*wrong)
    return resources


def _evidence(stack: "Stack", names: Sequence[str], source: FactsSource) -> "HostFacts":
    """Yield the facts of each of the hosts *names*, and save them if *source* names a directory for them."""
    from rackwright.audit import evidence
    from rackwright.facts import snapshot
    from rackwright.facts.facts import Facts

    if source.snapshot is not None:
        as_of = source.as_of.replace(tzinfo=UTC) if source.as_of else datetime.now(UTC)
        snapshots = evidence.each_from_snapshots(source.snapshot, as_of, names)
        yield from evidence.with_right_host(stack, snapshots, project.notify)
        return
    hosts_alone = [name for name in names if name in stack.fleet.hosts]
    project.notify_twin_off(stack)
    with project.connect_hosts(stack, is_report=True) as hosts:
        of_endpoints = evidence.from_endpoints(stack, project.notify) if len(hosts_alone) < len(names) else {}
        of_hosts = evidence.each_from_hosts(hosts, hosts_alone, project.notify)
        for name, facts in chain(of_hosts, of_endpoints.items()):
            if source.save is not None and isinstance(facts, Facts):
                snapshot.save(source.save, name, facts)
            yield name, facts
    if source.save is not None:
        project.notify(f"facts saved in {source.save}")


def _keep(evidence: "HostFacts", kept: "dict[str, Facts | UserError]") -> "HostFacts":
    """Yield *evidence*, and store it in *kept*."""
    for name, facts in evidence:
        kept[name] = facts
        yield name, facts


def _collect_heads(
    evidence: "HostFacts", seen: "Mapping[str, tuple[SeenHead, ...]] | None", heads: "dict[str, HostHead]"
) -> "HostFacts":
    """Yield *evidence*, and store the head of each audit log that continues what earlier audits saw in *heads*.

    The others keep the head that was seen: that of another chain would hide the change from the next audit.
    """
    from rackwright.facts.facts import Facts
    from rackwright.facts.log_chain import newest_head

    for name, facts in evidence:
        if isinstance(facts, Facts) and (head := newest_head(facts, (seen or {}).get(name, ()))):
            heads[name] = head
        yield name, facts


def _document(
    stack: "Stack",
    compared: "AuditReport",
    options: Options,
    source: FactsSource,
    file_diffs: "FileDiffs",
    known: frozenset[str],
    selection: "Selection",
) -> "AuditDocument":
    from rackwright.audit.formats.document import AuditDocument, mark_known
    from rackwright.audit.formats.drawing import draw_stack
    from rackwright.audit.formats.json_report import read_baseline

    if options.baseline is not None:
        known |= read_baseline(options.baseline, stack.name)
    findings = mark_known(_collect(stack, compared, selection, file_diffs), known)
    drawing = draw_stack(stack, compared, findings, options.hosts) if options.format is Format.html else ()
    origin = "the hosts" if source.snapshot is None else f"snapshots in {source.snapshot}"
    return AuditDocument(compared, findings, drawing, origin, datetime.now(UTC), options.strict)


def _collect(
    stack: "Stack", compared: "AuditReport", selection: "Selection", file_diffs: "FileDiffs | None" = None
) -> "tuple[Finding, ...]":
    """Return the findings of *compared* that *selection* shows, with their places in the fleet's file."""
    from rackwright.audit.formats.finding import collect
    from rackwright.fleet.resource_place import ResourcePlaces

    return collect(compared, ResourcePlaces(stack.fleet_file), stack.fleet_file_in_project, file_diffs, selection)


def _file_diffs(
    stack: "Stack", resources: "Sequence[DeclaredResource]", compared: "AuditReport", evidence: "Evidence"
) -> "FileDiffs":
    """Return the diffs of files that differ, with their present texts from the hosts; never those of secrets."""
    from rackwright.audit.file_diffs import read_diffs

    with project.connect_hosts(stack, is_report=True) as hosts:
        return read_diffs(stack, resources, compared, evidence, hosts.texts)


def _write(document: "AuditDocument", options: Options) -> None:
    from rackwright.audit import formats
    from rackwright.audit.formats import json_report, terminal_report

    if options.output is None and options.format is Format.terminal:
        terminal_report.show(document, terminal.console(), options.diff)
        return
    if options.output is None and options.format is Format.json:
        terminal.show_json(json_report.as_data(document))
        return
    text = formats.render(options.format.value, document, options.diff)
    if options.output is None:
        terminal.show(text, end="")
        return
    _write_file(options.output, text)
    project.notify(formats.format_counts(document))


def _write_file(path: Path, text: str) -> None:
    from rackwright.files import write_atomic

    try:
        write_atomic(path, text)
    except OSError as error:
        problem = f"the report cannot be written: {error.strerror}"
        raise SetupError(Diagnostic(str(path), problem, help="Name a file in a writable directory")) from None
