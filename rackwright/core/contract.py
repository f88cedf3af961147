"""The interface of a kind: claims from a spec, observations from facts, and a plan from their differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import ConfigDict

from rackwright.core.repository import Repository
from rackwright.errors import Diagnostic
from rackwright.facts.facts import Facts
from rackwright.schema.base import DescribedModel

Scalar = str | int | float | bool | tuple[str, ...]
Scope = Literal["host", "kernel", "hardware"]
Severity = Literal["error", "warning", "notice"]


EndpointProtocol = Literal["s3", "kubernetes"]
"""The protocols of endpoints; rackwright/endpoints/protocols.py has the reader of each."""


@dataclass(frozen=True, slots=True)
class EndpointSource:
    """An API that gives facts and takes requests, such as an object store."""

    protocol: EndpointProtocol
    name: str
    """The name under which the fleet declares the endpoint."""

    def __str__(self) -> str:
        """Return ``s3:archive``, which names no host: a host's name has no colon."""
        return f"{self.protocol}:{self.name}"


Source = str | EndpointSource
"""The origin of a resource's facts, to which its changes go: a host, by name, or an endpoint."""


REMEDY_UNKNOWN = "find out why it cannot be read, before anything is changed there"


@dataclass(frozen=True, slots=True)
class OneOf:
    """A wanted value: any one of these."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """A wanted number from *low* to *high*, both included; None leaves that side open."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Within:
    """A wanted set: a subset of these values, possibly empty."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """An observed value: the probe looked for the thing, and the thing does not exist."""


@dataclass(frozen=True, slots=True)
class UnknownValue:
    """A value that cannot be determined.

    As an observed value: the probe could not read it. As a wanted value: this computer cannot compute it, for example
    because it lacks a secret. UnknownValue never counts as holding, and never as absent.
    """

    reason: str


Want = Scalar | OneOf | Between | Within | UnknownValue
Value = Scalar | Absent | UnknownValue
Observation = Mapping[str, Mapping[str, Value]]
"""Observed values, by thing and property."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The wanted properties of one thing that a declaration requires."""

    thing: str
    """The thing's name, ``file:/etc/x``, ``md:hot`` or ``drive:SERIAL``: the unit of ownership and of paths."""
    want: Mapping[str, Want]
    owned: bool = True
    """Whether this resource owns the thing. False: the thing is required, may be shared, and is never removed."""
    scope: Scope = "host"
    """The part of a target that must be real to show the claim: any host, its kernel, or its hardware."""
    secret: bool = False
    """Whether the wanted values are secret: no output ever prints them."""
    severity: Severity = "error"
    remedy: str = ""
    """Advice to the operator for another value. The advice erases nothing unless the probe saw that it has no data."""
    remedies: Mapping[str, str] = field(default_factory=dict)
    """Advice about single properties, instead of *remedy*."""
    remedy_absent: str | None = None
    """Advice for an absent thing; None: *remedy* applies."""
    remedy_unknown: str = REMEDY_UNKNOWN
    """Advice for an unknown value: only how to find out the value."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A property of a claim that does not hold, or whose value is unknown."""

    thing: str
    name: str
    want: Want
    actual: Value
    severity: Severity = "error"
    remedy: str = ""
    secret: bool = False

    @property
    def is_unknown(self) -> bool:
        return isinstance(self.actual, UnknownValue)

    @property
    def path(self) -> str:
        """The name of the property in previews, audits and errors, such as ``md:hot.bitmap``."""
        return f"{self.thing}.{self.name}"


@dataclass(frozen=True, slots=True)
class WhenAtRest:
    """The condition for a command that runs in its own systemd unit: the md array has no resync or reshape left.

    No step waits for the unit. A restart of the host discards the unit; the next preview then shows the work again.
    """

    array: str
    """The md name or UUID of the array that must be idle."""
    unit: str
    """The name of the unit. While a unit of that name waits, the step starts no second one."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command on the host.

    Arguments and contents may hold references. The host resolves them immediately before the step runs, so a plan
    never contains a kernel device name.

    * ``${drive:SERIAL}``: the device path of that drive.
    * ``${drive-if-present:SERIAL}``: the same, or empty if the drive does not exist.
    * ``${device:NAME}``: the device path of the array with the md name or UUID NAME.
    * ``${array:NAME}``: the UUID of that array.
    * ``${filesystem:NAME}``: the UUID of the array's filesystem. NAME may also be the path below /dev/mapper of the
      device that holds the filesystem.
    * ``${luks:NAME}``: the UUID of the array's LUKS header.
    """

    text: str
    """The line in the preview, and in the log when the command runs."""
    argv: tuple[str, ...]
    expects: Mapping[str, str] = field(default_factory=dict)
    """The content that each drive may have at that time, by serial, as in ``Drive.content``; more stops the step.

    One process on the host holds these drives, checks their content, and does the step or becomes its command.
    """
    destroys: tuple[str, ...] = ()
    """The data that the command destroys, one line for each drive."""
    creates: bool = False
    """Whether the command makes a new thing that will hold data: allowed only if the resource never existed."""
    timeout_seconds: float = 600
    undo_after_seconds: int | None = None
    """Seconds until the host undoes the next steps by itself, unless a step after a LogIn cancels that."""
    when_at_rest: WhenAtRest | None = None
    """The condition to wait for: the step only starts a unit, which waits and then resolves the references."""


@dataclass(frozen=True, slots=True)
class Put:
    """A file for the host: written to a temporary name, fsynced, and renamed over the path."""

    text: str
    path: str
    content: str = field(repr=False)
    mode: int = 0o644
    owner: str = "root:root"
    base64: bool = False
    """Whether *content* is binary, encoded as base64."""


@dataclass(frozen=True, slots=True)
class Send:
    """A file of this computer, of any size: sent to a temporary name on the host, and renamed when it is complete."""

    text: str
    source: str
    """The path on this computer."""
    path: str
    """The path on the host."""
    sha256: str
    """The digest of the file: the step fails before the rename if the content has another digest."""
    mode: int = 0o600
    """The mode of the file. The file has this mode and *owner* before it has any content."""
    owner: str = "root:root"


@dataclass(frozen=True, slots=True)
class PutOutput:
    """A file for the host with the output of a command on another host, such as a token that lives for minutes.

    The output is in no plan, state and log. The host has the file with mode 0600 from the beginning.
    """

    text: str
    source: str
    """The host that runs the command."""
    argv: tuple[str, ...]
    path: str
    """The path on this host; empty for a command whose output is not needed."""
    timeout_seconds: float = 600


@dataclass(frozen=True, slots=True)
class Remove:
    """A file to remove from the host; a missing file is no error."""

    text: str
    path: str


@dataclass(frozen=True, slots=True)
class PlayRole:
    """A role of ``roles/`` that Ansible plays; concurrent plays of one role on several hosts share one Ansible run."""

    text: str
    role: str
    variables: Mapping[str, Any] = field(repr=False)
    """Variables by full name. ``<role>_files`` holds every file of the role, rendered. Secrets are in plain text."""


@dataclass(frozen=True, slots=True)
class LogIn:
    """A new connection to the host with its first login: proves that the change still allows logins."""

    text: str


@dataclass(frozen=True, slots=True)
class Reboot:
    """A restart of the host. The host's own drain commands run first, and each must succeed.

    The step ends when a login works again and the host reports another boot.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request to an endpoint; hosts have no such step."""

    text: str
    operation: str
    """The operation of the protocol's client, such as ``put_bucket_tagging`` of boto3."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    destroys: tuple[str, ...] = ()
    """The data that the request destroys, one line for each thing."""
    creates: bool = False
    """Whether the request makes a new thing that will hold data: allowed only if the resource never existed."""


HostStep = Command | Put | PutOutput | Send | Remove | PlayRole | LogIn | Reboot
Step = HostStep | Call


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps that make claims hold, the refusals, and the differences that need manual work."""

    steps: tuple[Step, ...] = ()
    refusals: tuple[Diagnostic, ...] = ()
    """Reasons against the plan: with at least one, no step runs."""
    by_hand: tuple[Difference, ...] = ()
    """Differences that only the operator can fix."""
    notes: tuple[str, ...] = ()
    """Lines to show beside the steps, such as the present content of each drive."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """New texts of files, by path; the preview shows each as a diff. Never the text of a secret."""

    @property
    def creates(self) -> bool:
        return any(isinstance(step, Command | Call) and step.creates for step in self.steps)


class SpecPart(DescribedModel):
    """The base class of a part of a spec."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", defer_build=True)


class Spec(SpecPart):
    """The base class of every spec that becomes a Pulumi resource."""

    not_rehearsable: tuple[Scope, ...] = ()
    """Scopes that this target cannot show. Their claims are counted separately, never as holding."""

    @property
    def facts_source(self) -> Source:
        """The host or endpoint that gives the facts and takes the steps."""
        raise NotImplementedError

    @property
    def is_only_compared(self) -> bool:
        """Whether the resource belongs to others, so that its removal changes nothing and needs no source."""
        return False


class Resource(Spec):
    """The base class of the specs of resources on a host."""

    host: str
    """The host that gives the facts and runs the steps."""

    @property
    def facts_source(self) -> str:
        return self.host


S = TypeVar("S", bound=Spec)


class Kind(Protocol[S]):
    """The interface of a kind of resource. Every method is pure: no I/O, no clock, no Pulumi."""

    token: ClassVar[str]
    """The Pulumi type, such as ``rackwright:storage:Tier``."""
    spec: type[S]

    def id(self, spec: S) -> str:
        """Return ``host/name`` or ``endpoint/name``: a stable id that never contains an address."""
        ...

    def claims(self, spec: S, repository: Repository) -> tuple[Claim, ...]:
        """Return the claims that *spec* makes."""
        ...

    def observe(self, claims: Sequence[Claim], facts: Facts) -> Observation:
        """Return a value for every property of every claim, UnknownValue for each that *facts* cannot answer."""
        ...

    def report(self, spec: S, facts: Facts) -> dict[str, Any]:
        """Return values that are shown and stored but never compared, such as UUIDs and sync progress."""
        ...

    def plan(self, spec: S, differences: Sequence[Difference], facts: Facts, repository: Repository) -> Plan:
        """Return the plan that removes *differences*."""
        ...

    def removal(self, spec: S, facts: Facts, repository: Repository, consent: bool) -> Plan:
        """Return the plan that removes the resource from its source."""
        ...

    def consents(self, spec: S) -> bool:
        """Return whether *spec* allows its own removal: ``destroy: allowed``."""
        ...

    def rollout_group(self, spec: S) -> str | None:
        """Return the name that resources of different hosts share to be rolled out in order; None: no order."""
        ...


def claims(kind: Kind[Any], spec: Spec, repository: Repository) -> tuple[Claim, ...]:
    """Return the claims of *spec*, computed once for each spec and repository."""
    same: tuple[Resource, tuple[Claim, ...]] | None = repository.claims_by_id.get(id(spec))
    if same is not None and same[0] is spec:
        return same[1]
    key = kind.token, spec.model_dump_json()
    if key not in repository.claims_cache:
        repository.claims_cache[key] = kind.claims(spec, repository)
    computed: tuple[Claim, ...] = repository.claims_cache[key]
    repository.claims_by_id[id(spec)] = spec, computed
    return computed
