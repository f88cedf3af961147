"""A rule: a pure function from the facts of a host and its declaration to what is undeclared."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.core.contract import Scope, Severity
from rackwright.facts.facts import Facts

ADMIT = "or admit it under `allow`"


@dataclass(frozen=True)
class Finding:
    """A thing that a rule found on a host."""

    thing: str
    """Name of the thing in the form of a claim, such as ``file:/etc/cron.d/x``."""
    found: str
    """Description of the thing for people."""
    file: str = ""
    """Path of the file that makes the thing, where its name does not have it."""
    remedy: str = ""
    """Remedy of this finding, where that of the rule would not end it or would break the host."""

    @property
    def path(self) -> str:
        """Path of the file that was found; empty for a thing that is no file."""
        sort, _, name = self.thing.partition(":")
        return self.file or (name if sort in ("file", "directory") else "")


Search = Callable[[Facts, HostDeclaration], Iterable[Finding]]


@dataclass(frozen=True)
class Rule:
    """One rule, with its explanation."""

    id: str
    """``RW-NNN``; an id never gets another meaning."""
    sentence: str
    """The state that the rule requires."""
    subject: str
    """Name of the things that the rule judges, for a host whose facts do not answer it."""
    why: str
    """The harm of a violation."""
    remedy: str
    source: str
    """Origin of the rule: a specification, a manual, or an issue of another project."""
    search: Search
    severity: Severity = "warning"
    scope: Scope = "host"
    """The part of a target that must be real to show a violation."""
    rest: bool = False
    """Whether the rule leaves the files to other rules that find them: no file has two rows."""
    remedy_unknown: str = ""
    """How to make the facts of the rule known; empty for the usual advice."""
