"""How the servers of a stack are, on all of their hosts; what they say; and which model was served before."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rackwright.audit.evidence import AT_ONCE
from rackwright.errors import DeclarationError, HostUnreachable, RackwrightError, Refused, StepFailed, one_line
from rackwright.hosts.pool import Hosts
from rackwright.kinds.model_server.observe import report
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.schema.problem import hint
from rackwright.schema.units import format_time
from rackwright.stack import Stack, declare
from rackwright.status.registered import Lead, lead


@dataclass(frozen=True)
class ServerReport:
    """One server at one time."""

    name: str
    version: str
    """That is declared."""
    hosts: Mapping[str, Mapping[str, Any]]
    """What its kind reports of each: outcome, version, previous, models, figures; or why it is not known."""
    lead: Lead | None = None
    """Where its name in the registry leads now, if it has one."""

    @property
    def exit_status(self) -> int:
        """0 every host serves the declared version, and as right as is asked for; 1 one does not, 3 it is not known."""
        if any("unknown" in told for told in self.hosts.values()):
            return 3
        if not all(map(self._right, self.hosts.values())):
            return 1
        return 3 if any("unknown" in told.get("accuracy", {}) for told in self.hosts.values()) else 0

    def _right(self, told: Mapping[str, Any]) -> bool:
        accuracy = told.get("accuracy", {})
        wrong = accuracy.get("low") or accuracy.get("moved")
        return told.get("outcome") == "ready" and told["version"] == self.version and not wrong

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "hosts": {name: dict(each) for name, each in self.hosts.items()},
            "registered": self.lead.as_json() if self.lead else None,
        }

    def __str__(self) -> str:
        return "\n".join(map(one_line, self._lines()))

    def _lines(self) -> Iterator[str]:
        yield f"{self.name}: version {self.version} is declared"
        if self.lead:
            yield f"  {self.lead}"
        for host, told in self.hosts.items():
            yield f"  {host}: {_line(told)}"
            if accuracy := told.get("accuracy"):
                yield f"    {_accuracy(accuracy)}"
            if refused := told.get("refused"):
                yield f"    refused {refused['version']}: {refused['why']}"

    def before(self) -> str:
        """Return the version that every host served before the declared one, or serves still.

        Raises:
            HostUnreachable: it is not known of a host.
            Refused: there is none, or not the same everywhere.
        """
        found: dict[str, str | None] = {}
        for host, told in self.hosts.items():
            if "unknown" in told:
                fix = "Bring it back, or take it out of the server"
                raise HostUnreachable(host, str(told["unknown"]), "what was served there before is asked for", fix)
            served = told.get("version")
            found[host] = served if served not in (None, self.version) else told.get("previous")
            if found[host] not in told.get("models", ()):
                found[host] = None
        versions = {*found.values()}
        if len(versions) != 1 or None in versions:
            said = ", ".join(f"{version or 'none'} on {host}" for host, version in found.items())
            want = "all hosts have the same version from before"
            fix = "Name one with `rackwright server promote`; `rackwright server status` says which each has"
            raise Refused(self.name, f"got {said}", want, fix)
        return str(versions.pop())


def _line(told: Mapping[str, Any]) -> str:
    if "unknown" in told:
        return f"not known: {told['unknown']}"
    if not told:
        return "absent"
    parts = [f"{told['outcome']}, version {told['version'] or 'none'}"]
    if told.get("why"):
        parts.append(str(told["why"]))
    if told.get("p99_ms") is not None:
        parts.append(f"{told['requests']} requests, p50 {told['p50_ms']:g} ms, p99 {told['p99_ms']:g} ms")
    if told.get("waiting") is not None:
        parts.append(f"{told['waiting']} wait")
    return ", ".join([*parts, f"before it {told['previous']}"] if told.get("previous") else parts)


def _accuracy(told: Mapping[str, Any]) -> str:
    parts = [f"accuracy not known: {told['unknown']}"] if "unknown" in told else []
    if "accuracy" in told:
        was = f"the canary had {told['accuracy']:.2%} right {format_time(told['age_seconds'])} ago"
        parts.append(f"{was}, {told['asked']:.2%} are asked for" if told["low"] else was)
    if "before" in told:
        before = f"{told['before']:.2%} {format_time(told['before_age_seconds'])} ago"
        parts.append(f"it has moved by {told['moved_by']:+.2%} from {before}" if told["moved"] else before)
    if "why_not" in told and "unknown" not in told:
        parts.append(f"the last look came to nothing: {told['why_not']}")
    return ", ".join(parts)


def known(stack: Stack, server: str) -> None:
    """Return if *stack* has that *server*.

    Raises:
        DeclarationError: it has not.
    """
    servers = stack.fleet.servers
    if server not in servers:
        fix = hint(server, servers, "Take one of these")
        want = f"servers of stack {stack.name}: {', '.join(servers) or 'none'}"
        raise DeclarationError("server", f"got {server!r}", want, fix)


def specs(stack: Stack, server: str) -> tuple[ServerSpec, ...]:
    """Return what *server* is on each of its hosts.

    Raises:
        DeclarationError: the stack has no such server.
    """
    known(stack, server)
    found = (declared.spec for declared in declare(stack))
    return tuple(spec for spec in found if isinstance(spec, ServerSpec) and spec.name == server)


def look(hosts: Hosts, stack: Stack, server: str, tracking: str = "") -> ServerReport:
    """Look at all hosts of *server* at once, and where its name in the registry at *tracking* leads, if it has one."""
    several = specs(stack, server)

    def of(spec: ServerSpec) -> dict[str, Any]:
        try:
            return report(spec, hosts.facts(spec.host, fresh=True))
        except RackwrightError as error:
            return {"unknown": f"not reached: {error.got}"}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = dict(zip((spec.host for spec in several), pool.map(of, several), strict=True))
    model = stack.fleet.servers[server].model
    return ServerReport(server, several[0].version, told, lead(model, tracking) if model.registered else None)


def logs(hosts: Hosts, stack: Stack, server: str, lines: int, follow: bool, say: Callable[[str, str], None]) -> None:
    """Say the last *lines* of what *server* has said on each host, and go on with what they say, if *follow*.

    Args:
        say: Told the host and a line of its.

    Raises:
        StepFailed: a host has no log.
    """

    def of(spec: ServerSpec) -> int:
        argv = ("journalctl", "--unit", spec.unit, f"--lines={lines}", "--output=cat", "--no-pager")
        asked = (*argv, "--follow") if follow else argv
        seconds = 7 * 86400 if follow else 60.0
        done = hosts.connection(spec.host).run(asked, timeout=seconds, on_line=lambda line: say(spec.host, line))
        return done.status

    several = specs(stack, server)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = dict(zip((spec.host for spec in several), pool.map(of, several), strict=True))
    if failed := [host for host, status in statuses.items() if status]:
        got, want = f"got no log on {', '.join(failed)}", "a server has one from its first start"
        raise StepFailed(server, got, want, "Run `rackwright up`")
