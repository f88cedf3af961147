"""The state, the logs and the previous versions of model servers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.audit.evidence import AT_ONCE
from rackwright.errors import (
    ChangeRefused,
    DeclarationError,
    Diagnostic,
    HostUnreachable,
    StepFailed,
    UserError,
    command,
    one_line,
)
from rackwright.facts.facts import Facts
from rackwright.hosts.pool import Hosts
from rackwright.hosts.reading_threads import reading_threads
from rackwright.kinds.model_server import observe as server_facts
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.kinds.pods import PodsKind, PodsSpec
from rackwright.schema.problem import hint
from rackwright.schema.units import format_time
from rackwright.stack import DeclaredResource, Stack, declare
from rackwright.status import pods
from rackwright.status.registered import ResolvedName, ResolvedNameData, resolve_name


class AccuracyData(TypedDict, total=False):
    """The accuracy of the canary; after a failed check, the last known one and the reason."""

    accuracy: float
    """Share of right answers at the last check, of 1."""
    asked: float
    """Declared minimum of the accuracy, of 1."""
    age_seconds: int
    """Time since the last check."""
    low: bool
    """Whether the accuracy is below its minimum."""
    before: float
    """Share of right answers about a day before, of 1."""
    before_age_seconds: int
    """Time since that check."""
    moved_by: float
    """Difference to that check."""
    moved: bool
    """Whether the difference is larger than the declared one."""
    why_not: str
    """Reason why the latest check failed."""
    unknown: str
    """Reason why the accuracy is unknown now."""


class RefusedRelease(TypedDict):
    """A release that the host refused to serve."""

    release: str
    """Id of the release: the model with its settings."""
    version: str
    """Version of its model."""
    why: str
    """Reason of the refusal."""


class ServedData(TypedDict, total=False):
    """The state of a server on one host; without any key, the host has no such server."""

    outcome: str
    """`ready`, `not ready`, `stopped` or `failed`."""
    version: str | None
    """Version that the server reports; null without an answer."""
    release: str | None
    """Release that the host was last switched to: the model with its settings."""
    models: Sequence[str]
    """Versions that are on the host."""
    previous: str | None
    """Version before the present one, which stays on the host."""
    refused: RefusedRelease
    """Last release that failed to serve, until a later one serves."""
    why: str
    """Reason why the server is not ready."""
    accuracy: AccuracyData
    """Accuracy of the canary, if one is declared."""
    requests: int
    """Number of inference requests since the start of the server."""
    p50_ms: float | None
    """Median latency of these requests, in milliseconds; null without requests."""
    p99_ms: float | None
    """99th percentile of their latency, in milliseconds; null without requests."""
    waiting: int | None
    """Number of requests in the queue; null if the server does not report it."""
    figures: str
    """Reason why these counts are unknown."""
    pods: int
    """Number of pods, for a server on Kubernetes, whose state is that of its control plane."""
    pods_ready: int
    """Number of pods that are ready."""
    unknown: str
    """Reason why nothing is known about the server, for example because the host was not reached."""


class ServerData(TypedDict):
    """The state of a model server on all its hosts."""

    name: str
    """Name of the server."""
    version: str
    """Declared version of its model."""
    hosts: Mapping[str, ServedData]
    """State by host."""
    registered: ResolvedNameData | None
    """The version that its name in the registry resolves to; null if the model has no such name."""


@dataclass(frozen=True)
class ServerReport:
    """The state of a server at one time."""

    name: str
    version: str
    """The declared version."""
    hosts: Mapping[str, Mapping[str, Any]]
    """The report of the kind: outcome, version, previous, models, figures; or the reason why it is unknown; by host."""
    resolved_name: ResolvedName | None = None
    """The version that its name in the registry resolves to now; None without such a name."""

    @property
    def exit_status(self) -> int:
        """0: all hosts serve the declared version, accurately enough. 1: a host does not. 3: this is unknown."""
        if any("unknown" in report for report in self.hosts.values()):
            return 3
        statuses = {*map(self.host_status, self.hosts)}
        return next((status for status in (1, 3) if status in statuses), 0)

    def host_status(self, host: str) -> int:
        """Return the exit status by the state on *host* alone."""
        report = self.hosts[host]
        if "unknown" in report:
            return 3
        if not self._is_right(report):
            return 1
        return 3 if "unknown" in report.get("accuracy", {}) else 0

    def _is_right(self, report: Mapping[str, Any]) -> bool:
        accuracy = report.get("accuracy", {})
        wrong = accuracy.get("low") or accuracy.get("moved")
        return report.get("outcome") == "ready" and report["version"] == self.version and not wrong

    def as_json(self) -> ServerData:
        return {
            "name": self.name,
            "version": self.version,
            "hosts": {name: cast("ServedData", each) for name, each in self.hosts.items()},
            "registered": self.resolved_name.as_json() if self.resolved_name else None,
        }

    def __str__(self) -> str:
        return "\n".join(map(one_line, self._lines()))

    def _lines(self) -> Iterator[str]:
        yield f"{self.name}: version {self.version} is declared"
        if self.resolved_name:
            yield f"  {self.resolved_name}"
        for host, report in self.hosts.items():
            yield f"  {host}: {describe_host(report)}"
            if accuracy := report.get("accuracy"):
                yield f"    {_describe_accuracy(accuracy)}"
            if refused := report.get("refused"):
                yield f"    refused {refused['version']}: {refused['why']}"

    def previous_version(self) -> str:
        """Return the version that all hosts served before the declared one, or still serve.

        Raises:
            HostUnreachable: The previous version of a host is unknown.
            ChangeRefused: There is no previous version, or hosts have different ones.
        """
        previous: dict[str, str | None] = {}
        for host, report in self.hosts.items():
            if "unknown" in report:
                note = "a rollback needs the previous version of each host"
                help = "Repair the host, or remove it from the server"
                raise HostUnreachable(Diagnostic(host, str(report["unknown"]), help=help, note=note))
            current = report.get("version")
            previous[host] = current if current not in (None, self.version) else report.get("previous")
            if previous[host] not in report.get("models", ()):
                previous[host] = None
        versions = {*previous.values()}
        if len(versions) != 1 or None in versions:
            listed = ", ".join(f"{version or 'none'} on {host}" for host, version in previous.items())
            problem = f"the hosts do not agree on the previous version: {listed}"
            help = "Choose a version with `rackwright server promote`"
            note = "`rackwright server status` lists the versions by host"
            raise ChangeRefused(Diagnostic(self.name, problem, "the same previous version on all hosts", help, note))
        return str(versions.pop())


def describe_host(report: Mapping[str, Any]) -> str:
    """Return the state of a server on one host in one line."""
    if "unknown" in report:
        return f"unknown: {report['unknown']}"
    if not report:
        return "absent"
    parts = [f"{report['outcome']}, version {report['version'] or 'none'}"]
    if "pods" in report:
        parts.append(f"{report['pods_ready']} of {report['pods']} pods ready")
    if report.get("why"):
        parts.append(str(report["why"]))
    if report.get("p99_ms") is not None:
        parts.append(f"{report['requests']} requests, p50 {report['p50_ms']:g} ms, p99 {report['p99_ms']:g} ms")
    if report.get("waiting") is not None:
        parts.append(f"{report['waiting']} waiting")
    return ", ".join([*parts, f"previous version {report['previous']}"] if report.get("previous") else parts)


def _describe_accuracy(accuracy: Mapping[str, Any]) -> str:
    parts = [f"accuracy unknown: {accuracy['unknown']}"] if "unknown" in accuracy else []
    if "accuracy" in accuracy:
        share = f"canary accuracy {accuracy['accuracy']:.2%}, {format_time(accuracy['age_seconds'])} ago"
        parts.append(f"{share}, below the minimum of {accuracy['asked']:.2%}" if accuracy["low"] else share)
    if "before" in accuracy:
        before = f"{accuracy['before']:.2%} {format_time(accuracy['before_age_seconds'])} ago"
        parts.append(f"moved by {accuracy['moved_by']:+.2%} from {before}" if accuracy["moved"] else f"before {before}")
    if "why_not" in accuracy and "unknown" not in accuracy:
        parts.append(f"the last canary check failed: {accuracy['why_not']}")
    return ", ".join(parts)


def require_server(stack: Stack, server: str) -> None:
    """Raise if *stack* has no such *server*.

    Raises:
        DeclarationError: The stack has no such server.
    """
    servers = stack.fleet.servers
    if server not in servers:
        expected = f"one of {', '.join(servers)}" if servers else ""
        help = hint(server, servers, "Correct the name")
        raise DeclarationError(Diagnostic("server", f"stack {stack.name} has no server {server!r}", expected, help))


def specs(stack: Stack, server: str) -> tuple[ServerSpec, ...]:
    """Return the specification of *server* on each of its hosts.

    Raises:
        DeclarationError: The stack has no such server.
    """
    require_server(stack, server)
    resources = (declared.spec for declared in declare(stack, server))
    return tuple(spec for spec in resources if isinstance(spec, ServerSpec) and spec.name == server)


def specs_in(resources: Iterable[DeclaredResource], server: str) -> tuple[ServerSpec | PodsSpec, ...]:
    """Return the specification of *server* on each of its hosts, or that of its pods, among *resources*."""
    return tuple(
        spec
        for spec in (declared.spec for declared in resources)
        if (isinstance(spec, ServerSpec) and spec.name == server)
        or (isinstance(spec, PodsSpec) and spec.workload.server is not None and spec.workload.name == server)
    )


def observe(hosts: Hosts, stack: Stack, server: str, tracking: str = "") -> ServerReport:
    """Observe all hosts of *server* at the same time.

    Args:
        tracking: The URL of the MLflow server with which the name of a registered model is resolved; empty for none.
    """
    in_pods = pods_of(stack, server)
    of_server = (in_pods,) if in_pods else specs(stack, server)
    model = stack.fleet.servers[server].model
    resolved_name = resolve_name(model, tracking) if model.registered and not in_pods else None
    return read_server(server, of_server, lambda host: hosts.facts(host, fresh=True), resolved_name)


def read_server(
    server: str,
    of_server: Sequence[ServerSpec | PodsSpec],
    read: Callable[[str], Facts],
    resolved_name: ResolvedName | None = None,
) -> ServerReport:
    """Return the state of *server* by the facts of its hosts.

    Args:
        of_server: Its specification on each of its hosts, or that of its pods.
        read: Returns the facts of a host; called from several threads.
        resolved_name: The version of its name in the registry, if it was asked for.
    """

    def read_host(spec: ServerSpec | PodsSpec) -> dict[str, Any]:
        try:
            facts = read(spec.host)
        except UserError as error:
            return {"unknown": f"not reached: {error.diagnostic.problem}"}
        return PodsKind().report(spec, facts) if isinstance(spec, PodsSpec) else server_facts.report(spec, facts)

    with reading_threads(AT_ONCE) as pool:
        reports = dict(zip((spec.host for spec in of_server), pool.map(read_host, of_server), strict=True))
    return ServerReport(server, _version(of_server[0]), reports, resolved_name)


def _version(spec: ServerSpec | PodsSpec) -> str:
    """Return the declared version of the model."""
    if isinstance(spec, ServerSpec):
        return spec.version
    assert spec.workload.server is not None
    return spec.workload.server.version


def pods_of(stack: Stack, server: str) -> PodsSpec | None:
    """Return the specification of the pods of *server*; None for a server on hosts.

    Raises:
        DeclarationError: The stack has no such server.
    """
    require_server(stack, server)
    if stack.fleet.servers[server].pods is None:
        return None
    resources = (declared.spec for declared in declare(stack, server))
    of_pods = (spec for spec in resources if isinstance(spec, PodsSpec) and spec.workload.server)
    return next(spec for spec in of_pods if spec.workload.name == server)


def stream_logs(
    hosts: Hosts, stack: Stack, server: str, lines: int, follow: bool, on_line: Callable[[str, str], None]
) -> None:
    """Pass the last *lines* of the log on each host of *server* to *on_line*, and then each new line, if *follow*.

    Args:
        on_line: A function of the host and the line.

    Raises:
        StepFailed: A host has no log.
    """

    if in_pods := pods_of(stack, server):
        pods.stream_logs(hosts, in_pods, lines, follow, lambda line: on_line(in_pods.host, line))
        return

    def stream_host(spec: ServerSpec) -> int:
        argv = ("journalctl", "--unit", spec.unit, f"--lines={lines}", "--output=cat", "--no-pager")
        command = (*argv, "--follow") if follow else argv
        seconds = 7 * 86400 if follow else 60.0
        done = hosts.connection(spec.host).run(command, timeout=seconds, on_line=lambda line: on_line(spec.host, line))
        return done.status

    server_specs = specs(stack, server)
    with reading_threads(AT_ONCE) as pool:
        names = (spec.host for spec in server_specs)
        statuses = dict(zip(names, pool.map(stream_host, server_specs), strict=True))
    if failed := [host for host, status in statuses.items() if status]:
        problem, note = f"there is no log on {', '.join(failed)}", "a server has a log from its first start"
        help = f"Run {command('rackwright up {}', stack.name)}"
        raise StepFailed(Diagnostic(server, problem, help=help, note=note))
