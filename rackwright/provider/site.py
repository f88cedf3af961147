"""The declaration, hosts and endpoints of a stack, opened at the first call and shared by all resources."""

import contextlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from rackwright.core.contract import EndpointSource, Source, Step
from rackwright.core.repository import Repository
from rackwright.core.wire import JSON
from rackwright.core.wording import format_step
from rackwright.errors import Diagnostic, EndpointUnreachable
from rackwright.facts.facts import Facts
from rackwright.hosts.verdicts import QuarantineLook
from rackwright.kinds.shared.secrets import Redactor
from rackwright.log.operation import Operation
from rackwright.progress import Progress

FindInputs = Callable[[str, str], Mapping[str, JSON] | None]
"""A function of (type token, id) that returns the inputs of a declared resource; None: it is not declared."""

FindPrerequisites = Callable[[str, str], Collection[str]]
"""A function of (type token, id) that returns the ids of the resources after which a declared resource comes."""

IsDeclared = Callable[[Source], bool]
"""A function that returns whether the fleet has a host, or an endpoint."""


class HostsProtocol(Protocol):
    """The provider's interface to the hosts; see rackwright.hosts."""

    def facts(self, host: str, fresh: bool = False) -> Facts: ...

    def texts(self, host: str, paths: Sequence[str]) -> Mapping[str, str | None]: ...

    def lease(self, host: str, id: str, progress: Progress) -> AbstractContextManager[object]: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


class EndpointsProtocol(Protocol):
    """The provider's interface to the endpoints; see rackwright.endpoints."""

    def facts(self, source: EndpointSource, fresh: bool = False) -> Facts: ...

    def lease(self, source: EndpointSource) -> AbstractContextManager[object]: ...

    def execute(self, source: EndpointSource, id: str, steps: Sequence[Step], progress: Progress) -> None: ...

    def cancel(self) -> None: ...


class NoEndpoints:
    """The endpoints of a stack that declares none."""

    def facts(self, source: EndpointSource, fresh: bool = False) -> Facts:
        raise EndpointUnreachable(
            Diagnostic(str(source), "the stack has no such endpoint", help="Declare it in the fleet")
        )

    def lease(self, source: EndpointSource) -> AbstractContextManager[object]:
        return contextlib.nullcontext()

    def execute(self, source: EndpointSource, id: str, steps: Sequence[Step], progress: Progress) -> None:
        self.facts(source)

    def cancel(self) -> None: ...


class Execute(Protocol):
    """The execution of steps on a host under its lease; see rackwright.hosts.steps."""

    def __call__(self, hosts: Any, host: str, id: str, steps: Sequence[Step], progress: Progress) -> None: ...


class RolloutGateProtocol(Protocol):
    """The order in which hosts change; see rackwright.hosts.rollout."""

    def slot(self, rollout_group: str, host: str, progress: Progress) -> AbstractContextManager[None]: ...


class Record(Protocol):
    """The operations log; see rackwright.log.operation."""

    def __call__(
        self, change: str, host: str, resource: str, redact: Callable[[str], str], /
    ) -> AbstractContextManager[Operation]: ...


@dataclass(frozen=True)
class Site:
    """The declaration, hosts and endpoints of one stack."""

    repository: Repository
    hosts: HostsProtocol
    execute_steps: Execute
    rollout_gate: RolloutGateProtocol
    record: Record
    find_inputs: FindInputs = lambda token, id: None
    maintenance: Mapping[str, str] = field(default_factory=dict)
    """Hosts in maintenance today, each with the text for messages."""
    retired_hosts: Collection[str] = ()
    """Hosts whose resources leave the state and stay unchanged."""
    endpoints: EndpointsProtocol = field(default_factory=NoEndpoints)
    find_prerequisites: FindPrerequisites = lambda token, id: ()
    is_declared: IsDeclared = lambda source: True
    quarantine: Callable[[], QuarantineLook | None] = lambda: None
    """A function that returns the hosts in quarantine, read once in this process; None without a declared one."""

    def facts(self, source: Source, fresh: bool = False) -> Facts:
        """Return the facts of *source*, read once in this phase.

        Args:
            fresh: Require a reading that begins after this call.
        """
        if isinstance(source, EndpointSource):
            return self.endpoints.facts(source, fresh=fresh)
        return self.hosts.facts(source, fresh=fresh)

    def texts(self, source: Source, paths: Sequence[str]) -> Mapping[str, str | None]:
        """Return the current texts of files; an endpoint has no files."""
        return {} if isinstance(source, EndpointSource) else self.hosts.texts(source, paths)

    def lease(self, source: Source, id: str, progress: Progress) -> AbstractContextManager[object]:
        """Hold *source* for changes of the resource *id* alone."""
        if isinstance(source, EndpointSource):
            return self.endpoints.lease(source)
        return self.hosts.lease(source, id, progress)

    def slot(self, rollout_group: str | None, source: Source, progress: Progress) -> AbstractContextManager[None]:
        """Wait until *source* may change; an endpoint, or a host without a *rollout_group*, may change at once."""
        if rollout_group is None or isinstance(source, EndpointSource):
            return contextlib.nullcontext()
        return self.rollout_gate.slot(rollout_group, source, progress)

    def execute(
        self, source: Source, id: str, steps: Sequence[Step], progress: Progress, started: Callable[[int], None]
    ) -> None:
        """Do *steps*, and announce each with the text of the preview.

        Args:
            started: A function that gets the number of each step, from 1, before that step.
        """
        current = 0

        def announce(text: str) -> None:
            nonlocal current
            if current < len(steps) and text == steps[current].text:  # another text is progress of the running step
                current += 1
                started(current)
            progress(format_step(current, len(steps), text))

        if isinstance(source, EndpointSource):
            self.endpoints.execute(source, id, steps, announce)
        else:
            self.execute_steps(self.hosts, source, id, steps, announce)


class Sites:
    """The sites by stack name. A provider serves one stack; its name arrives with the first resource."""

    def __init__(self, open_site: Callable[[str, Mapping[str, str]], Site]) -> None:
        """
        Args:
            open_site: A function of the stack's name and the values of its secrets by name.
        """
        self._open = open_site
        self._secrets: Mapping[str, str] = {}
        self._redactor = Redactor()
        self._sites: dict[str, Site] = {}
        self._opened: list[Site] = []
        self._opening = threading.Lock()
        self.declared: set[tuple[str, str]] = set()
        """Type token and id of each resource that the program has declared; in a destruction it declares none."""

    def __getitem__(self, stack: str) -> Site:
        with self._opening:
            if stack not in self._sites:
                self._sites[stack] = self._open(stack, self._secrets)
                self._opened.append(self._sites[stack])
                self._draw()
            return self._sites[stack]

    def configure(self, secrets: Mapping[str, str]) -> None:
        """Use *secrets* for every site opened from now on."""
        with self._opening:
            self._secrets = secrets
            self._sites.clear()
            self.declared.clear()
            self._draw()

    def redact(self, text: str) -> str:
        """Return *text* without any secret that this process knows."""
        return self._redactor(text)

    def _draw(self) -> None:
        of_sites = (value for site in self._opened for value in site.repository.secrets.values())
        self._redactor = Redactor([*self._secrets.values(), *of_sites])

    def cancel(self) -> None:
        """Stop the running work on hosts; the next call opens a new site."""
        with self._opening:
            self._sites.clear()
            self.declared.clear()
        for site in self._opened:
            site.hosts.cancel()
            site.endpoints.cancel()

    def close(self) -> None:
        for site in self._opened:
            site.hosts.close()
