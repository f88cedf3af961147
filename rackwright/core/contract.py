"""What a kind promises: claims from a spec, the same things as found from facts, and a plan between the two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from rackwright.core.repository import Repository
from rackwright.errors import Refused
from rackwright.facts.facts import Facts

Scalar = str | int | float | bool | tuple[str, ...]
Scope = Literal["host", "kernel", "hardware"]
Severity = Literal["error", "warning", "notice"]


FIND_OUT = "find out why it cannot be read, before anything is changed there"


@dataclass(frozen=True, slots=True)
class OneOf:
    """Any of these values holds."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """A number from *low* to *high*, both included; None leaves that side open."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Within:
    """A set with no member outside these; members may be missing."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """Looked for and not there."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Could not be looked at; of what is wanted: cannot be told here. Never counts as holding, and never as absent."""

    reason: str


Want = Scalar | OneOf | Between | Within | Unknown
Value = Scalar | Absent | Unknown
Observation = Mapping[str, Mapping[str, Value]]
"""Thing, property, value as found."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing a declaration says about the world."""

    thing: str
    """``file:/etc/x``, ``md:hot``, ``drive:SERIAL``: unit of ownership and of paths."""
    want: Mapping[str, Want]
    owned: bool = True
    """False: needed here, may be shared, never removed."""
    scope: Scope = "host"
    """What must be real for the claim to be shown: any host, its kernel, or its hardware."""
    secret: bool = False
    """No text of it is ever printed."""
    severity: Severity = "error"
    remedy: str = ""
    """Advice to a person where something else was found. It erases nothing unless that was found to bear no data."""
    remedies: Mapping[str, str] = field(default_factory=dict)
    """Advice about single properties, in the place of *remedy*."""
    remedy_absent: str | None = None
    """Advice where nothing was found; None: as where something else was found."""
    remedy_unknown: str = FIND_OUT
    """Advice where the host cannot tell what is there: how to find out, and nothing else."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A property of a claim that does not hold, or cannot be known."""

    thing: str
    name: str
    want: Want
    found: Value
    severity: Severity = "error"
    remedy: str = ""
    secret: bool = False

    @property
    def unknown(self) -> bool:
        return isinstance(self.found, Unknown)

    @property
    def path(self) -> str:
        """``md:hot.bitmap``: how previews, audits and errors name it."""
        return f"{self.thing}.{self.name}"


@dataclass(frozen=True, slots=True)
class WhenAtRest:
    """When a command runs in a unit of its own, for which nothing waits: once md has nothing of its own to do.

    The unit is gone after a restart of the host. The next preview shows what it would have done.
    """

    array: str
    """The md name or UUID of the array that has to be at rest."""
    unit: str
    """The name of the unit. While a unit of that name waits, the step starts no other one."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command on the host.

    Arguments and contents may hold references, resolved on the host immediately before the step runs, so that no
    kernel name is ever planned. ``${drive:SERIAL}`` is that drive's device path, and ``${drive-if-present:SERIAL}`` the
    same, or empty where there is no such drive. For the array of md name or UUID NAME, ``${device:NAME}`` is its device
    path, ``${array:NAME}`` its UUID, ``${filesystem:NAME}`` its filesystem's UUID, ``${luks:NAME}`` that of its LUKS
    header. A filesystem is also found by the path of what it is on below /dev/mapper.
    """

    text: str
    """What a person reads in the preview, and in the log when it runs."""
    argv: tuple[str, ...]
    expects: Mapping[str, str] = field(default_factory=dict)
    """Serial to what may be on that drive by then, as ``Drive.content`` says it; anything more stops the step.

    One process on the host holds these drives, looks at what is on them, and does the step or becomes its command.
    """
    destroys: tuple[str, ...] = ()
    """What is lost when it runs, drive by drive."""
    creates: bool = False
    """It makes a new thing that will bear data: allowed only where none was made before."""
    timeout_seconds: float = 600
    undone_after_seconds: int | None = None
    """It lets the host take back what follows, after so long, unless a step behind a LogIn stops that."""
    when_at_rest: WhenAtRest | None = None
    """Given: the step only starts the unit that waits; the unit resolves the references after its wait."""


@dataclass(frozen=True, slots=True)
class Put:
    """A file on the host, written beside its place, fsynced and renamed over whatever stood there."""

    text: str
    path: str
    content: str = field(repr=False)
    mode: int = 0o644
    owner: str = "root:root"
    base64: bool = False
    """The content is that of a file that is no text, in base64."""


@dataclass(frozen=True, slots=True)
class Send:
    """A file of this computer, of any size: written beside its place on the host, and renamed when it is whole."""

    text: str
    source: str
    """Its path here."""
    path: str
    """On the host."""
    sha256: str
    """What it has to be: another content is not renamed to that place."""
    mode: int = 0o600
    """The file has this mode and *owner* before it has any content."""
    owner: str = "root:root"


@dataclass(frozen=True, slots=True)
class Remove:
    """A file that goes. Not being there is fine."""

    text: str
    path: str


@dataclass(frozen=True, slots=True)
class PlayRole:
    """A role of ``roles/``, played by Ansible; together with the same role on other hosts, where they come at once."""

    text: str
    role: str
    variables: Mapping[str, Any] = field(repr=False)
    """By their full names, ``<role>_files`` among them: every file it writes, rendered. Secrets are open here."""


@dataclass(frozen=True, slots=True)
class LogIn:
    """A new connection to the host, by the first of its logins: what was changed has locked nobody out."""

    text: str


@dataclass(frozen=True, slots=True)
class Reboot:
    """A restart of the host: first what runs there is drained, by the host's own commands, and each has to end well.

    Done when the host lets us in and says that it was started anew.
    """

    text: str


Step = Command | Put | Send | Remove | PlayRole | LogIn | Reboot


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no step may run, in the four parts of every error."""

    where: str
    got: str
    want: str
    fix: str

    def error(self) -> Refused:
        return Refused(self.where, self.got, self.want, self.fix)


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps that make claims hold, what forbids them, and what only a person can mend."""

    steps: tuple[Step, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    """Any one means that no step runs."""
    by_hand: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    """What a person should see beside the steps: what is on each drive now."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Path to the text that a file will have: shown as a diff against what it has. Never a secret's."""

    @property
    def creates(self) -> bool:
        return any(isinstance(step, Command) and step.creates for step in self.steps)


class Part(BaseModel):
    """A part of a spec."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Resource(Part):
    """What every spec that becomes a Pulumi resource carries."""

    host: str
    """Whose facts are needed, and where the steps run."""
    not_rehearsable: tuple[Scope, ...] = ()
    """Scopes this target cannot show; claims of them are counted apart, never as holding."""


S = TypeVar("S", bound=Resource)


class Kind(Protocol[S]):
    """A sort of thing we manage. Pure: no I/O, no clock, no Pulumi."""

    token: ClassVar[str]
    """The Pulumi type: ``rackwright:storage:Tier``."""
    spec: type[S]

    def id(self, spec: S) -> str:
        """Return ``host/name``: stable, never an address."""
        ...

    def claims(self, spec: S, repository: Repository) -> tuple[Claim, ...]: ...

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        """Return a value for every property of every claim: total, Unknown where facts cannot tell."""
        ...

    def report(self, spec: S, facts: Facts) -> dict[str, Any]:
        """Return what is shown and stored, never compared: UUIDs, sync progress."""
        ...

    def plan(self, spec: S, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan: ...

    def removal(self, spec: S, facts: Facts, repository: Repository, consent: bool) -> Plan: ...

    def consents(self, spec: S) -> bool:
        """Return whether *spec* allows its own removal: ``destroy: allowed``."""
        ...

    def rollout_group(self, spec: S) -> str | None:
        """Return the name under which it is rolled out with its like on other hosts; None: all hosts at once."""
        ...


def claims(kind: Kind[Any], spec: Resource, repository: Repository) -> tuple[Claim, ...]:
    """Return what *kind* claims of *spec*, computed once for each declaration and house."""
    key = kind.token, spec.model_dump_json()
    if key not in repository.claimed:
        repository.claimed[key] = kind.claims(spec, repository)
    computed: tuple[Claim, ...] = repository.claimed[key]
    return computed
