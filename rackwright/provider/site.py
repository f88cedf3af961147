"""Where the resources of a stack live: its declaration and its hosts, opened at the first need and shared by all."""

import contextlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from rackwright.core.contract import Step
from rackwright.core.repository import Repository
from rackwright.core.wire import JSON
from rackwright.core.wording import format_step
from rackwright.facts.facts import Facts
from rackwright.kinds.shared.secrets import Redactor
from rackwright.progress import Progress

Declaration = Callable[[str, str], Mapping[str, JSON] | None]
"""The inputs of what is declared, by type token and id; None for what is not."""


class Hosts(Protocol):
    """What the provider asks of the hosts; see rackwright.hosts."""

    def facts(self, host: str, fresh: bool = False) -> Facts: ...

    def texts(self, host: str, paths: Sequence[str]) -> Mapping[str, str | None]: ...

    def lock(self, host: str, id: str, progress: Progress) -> AbstractContextManager[object]: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


class Execute(Protocol):
    """How steps are done on a host whose lock is held; see rackwright.hosts.steps."""

    def __call__(self, hosts: Any, host: str, id: str, steps: Sequence[Step], progress: Progress) -> None: ...


class RolloutGate(Protocol):
    """Who may change now; see rackwright.hosts.rollout."""

    def slot(self, rollout_group: str, host: str, progress: Progress) -> AbstractContextManager[None]: ...


@dataclass(frozen=True)
class Site:
    repository: Repository
    hosts: Hosts
    do: Execute
    rollout_gate: RolloutGate
    declared: Declaration = lambda token, id: None
    maintenance: Mapping[str, str] = field(default_factory=dict)
    """The hosts that are left alone today, and in which words that is said."""
    retired: Collection[str] = ()
    """Hosts whose resources are let go as they are."""

    def slot(self, rollout_group: str | None, host: str, progress: Progress) -> AbstractContextManager[None]:
        """Wait until *host* may change; at once where it is in no *rollout_group*."""
        return (
            contextlib.nullcontext() if rollout_group is None else self.rollout_gate.slot(rollout_group, host, progress)
        )

    def execute(self, host: str, id: str, steps: Sequence[Step], progress: Progress) -> None:
        """Do *steps*, each announced as the preview named it."""
        begun = 0

        def announce(text: str) -> None:
            nonlocal begun
            if begun < len(steps) and text == steps[begun].text:  # anything else is how the running step gets on
                begun += 1
            progress(format_step(begun, len(steps), text))

        self.do(self.hosts, host, id, steps, announce)


class Sites:
    """The sites by stack name. A provider serves one stack, whose name arrives with the first resource."""

    def __init__(self, open_site: Callable[[str, Mapping[str, str]], Site]) -> None:
        """
        Args:
            open_site: Gets the stack's name, and values of its secrets by name.
        """
        self._open = open_site
        self._secrets: Mapping[str, str] = {}
        self._redactor = Redactor()
        self._sites: dict[str, Site] = {}
        self._opened: list[Site] = []
        self._opening = threading.Lock()

    def __getitem__(self, stack: str) -> Site:
        with self._opening:
            if stack not in self._sites:
                self._sites[stack] = self._open(stack, self._secrets)
                self._opened.append(self._sites[stack])
                self._draw()
            return self._sites[stack]

    def configure(self, secrets: Mapping[str, str]) -> None:
        """Take *secrets* for every site that is opened from now on."""
        with self._opening:
            self._secrets = secrets
            self._sites.clear()
            self._draw()

    def redact(self, text: str) -> str:
        """Return *text* without any secret that is known here."""
        return self._redactor(text)

    def _draw(self) -> None:
        of_sites = (value for site in self._opened for value in site.repository.secrets.values())
        self._redactor = Redactor([*self._secrets.values(), *of_sites])

    def cancel(self) -> None:
        """Stop what runs on hosts; a site that is asked for later is opened anew."""
        with self._opening:
            self._sites.clear()
        for site in self._opened:
            site.hosts.cancel()

    def close(self) -> None:
        for site in self._opened:
            site.hosts.close()
