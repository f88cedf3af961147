"""The types of the JSON documents that the command line itself makes; reports have theirs beside their code.

Commands import this module for type checkers alone, so that their start does not become longer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.cli.doctor import Check
from rackwright.cli.stacks import StackRow
from rackwright.erase.certificate import ErasureCertificate
from rackwright.quarantine.hosts import QuarantineData
from rackwright.schema.server import ServedModel
from rackwright.status.alerts import FiringAlert, Silence
from rackwright.status.gpus import GpuData
from rackwright.status.journal import JournalEntry
from rackwright.status.runs import RunData
from rackwright.status.servers import ServerData
from rackwright.twin.twin import MachineStatus


class ErrorData(TypedDict):
    """An error that the operator can correct."""

    where: NotRequired[str]
    """The place: file, line and keys, or the name of a resource, host or option."""
    problem: str
    """The wrong value, or the event."""
    expected: NotRequired[str]
    """The expectation."""
    help: NotRequired[str]
    """The remedy."""
    note: NotRequired[str]
    """A circumstance or a consequence."""
    source: NotRequired[str]
    """The document with the rule."""
    id: NotRequired[str]
    """The id with which `rackwright explain` prints causes and cures."""


class Errors(TypedDict):
    """The errors that ended a command, in the place of its result."""

    errors: Sequence[ErrorData]
    """All errors, in the order of their places."""


class LogLine(TypedDict):
    """One line of a log; each line is a document of its own."""

    host: str
    """Host with the log."""
    line: str
    """The line, without its end."""


class Recipes(TypedDict):
    """The recipes of training runs."""

    recipes: Mapping[str, Mapping[str, Any]]
    """The configuration of each recipe, as `set` of a run replaces it, by the recipe's name."""


class ComputerReport(TypedDict):
    """The features of rackwright on this computer."""

    checks: Sequence[Check]
    """The result for each feature."""


class DeclarationCheck(TypedDict):
    """A declaration without errors."""

    stack: str
    """Name of the stack."""
    hosts: int
    """Number of its hosts."""
    resources: int
    """Number of its resources."""
    notices: Sequence[str]
    """Remarks, for example about maintenance."""


class LockChanges(TypedDict):
    """The changes of a lock."""

    lock: str
    """Path of the lock."""
    changes: Sequence[str]
    """Differences to the earlier lock: `+ packages debian-12/amd64 chrony=4.3-2`."""


class Upgrade(TypedDict):
    """The files that have an older schema."""

    diffs: Mapping[str, str]
    """Unified diff of each file that changes, by path."""
    written: bool
    """Whether the files are written."""


class HostDeclaration(TypedDict):
    """An existing host, as a fleet declares it."""

    declaration: Mapping[str, Any]
    """Keys and values of the host in a fleet file, without its address."""
    notes: Sequence[str]
    """Conclusions and omissions, for the operator to read."""


class Discovery(TypedDict):
    """Existing hosts as a fleet declares them."""

    hosts: Mapping[str, HostDeclaration]
    """Declaration by host."""
    errors: Sequence[ErrorData]
    """Errors of the other hosts."""


class FactChange(TypedDict):
    """A value that differs between two observations of a host."""

    host: str
    """Name of the host."""
    path: str
    """Path of the value in the facts, such as `files./etc/fstab.digest`."""
    before: NotRequired[Any]
    """The earlier value; absent if there was none."""
    after: NotRequired[Any]
    """The later value; absent if there is none."""


class FactComparison(TypedDict):
    """The differences between two observations of hosts."""

    hosts: Sequence[str]
    """Hosts that were compared."""
    changes: Sequence[FactChange]
    """Values that differ, by host and path."""
    missing: Mapping[str, str]
    """Hosts that were not compared, each with the reason."""


class Adoption(TypedDict):
    """The resources that the state has now."""

    adopted: Sequence[str]
    """Resources that this command took into the state."""
    already_adopted: Sequence[str]
    """Resources as declared that were in the state before."""
    not_adopted: Mapping[str, Sequence[str]]
    """Differences of each resource that is not as declared, or the reason why it is unknown."""
    changes: Mapping[str, Sequence[str]]
    """Paths of the facts that changed during the command, by host."""
    set_aside: str | None
    """Path of the file with the old state, if it was moved."""
    undeclared: Sequence[str]
    """Resources of that old state that are no longer declared; they stay on their hosts."""


class LastChange(TypedDict):
    """The last change of a stack, from pulumi's history."""

    started_at: str
    """Time of its start."""
    kind: str
    """The command: `update`, `destroy`, `refresh` or `import`."""
    result: str
    """`succeeded`, `failed` or `in-progress`."""


class HostStatus(TypedDict):
    """The state of one host."""

    resources: int
    """Number of its resources."""
    state: str
    """`as declared`, `not reached`, `not compared`, or the numbers of properties: `2 differ, 1 unknown`."""
    notices: Sequence[str]
    """Work in progress, maintenance, and consents that are still declared, each with its resource."""


class TierStatus(TypedDict):
    """The state of one tier."""

    state: str
    """`optimal`, `syncing`, `rebuilding`, `reshaping`, `scrubbing`, `interrupted`, `degraded`, `failed`, `inactive`,
    `absent` or `unknown`."""
    details: str
    """Progress of a sync and waiting spares, or the reason why the state is unknown."""


class UnknownAlerts(TypedDict):
    """The reason why alerts are unknown."""

    unknown: str
    """The reason: the monitoring host or its Alertmanager does not answer."""


class EndedQuarantine(TypedDict):
    """The end of the quarantine of a host."""

    host: str
    """Name of the host."""
    reason: str
    """Reason that was given."""
    quarantine: QuarantineData
    """The hosts with verdicts after it."""


class StackStatus(TypedDict):
    """The last change of a stack, and the state of its hosts, tiers, GPUs, runs and servers."""

    stack: str
    """Name of the stack."""
    exit_status: int
    """Exit status of the command: 0 as declared, 1 a property differs, 3 none differs, but some are unknown."""
    last_change: LastChange | None
    """The last change; null before the first one."""
    hosts: Mapping[str, HostStatus]
    """State by host."""
    tiers: Mapping[str, TierStatus]
    """State by `HOST/TIER`."""
    gpus: Sequence[GpuData]
    """The declared GPUs, and the hosts about which there is more to know."""
    runs: Mapping[str, RunData]
    """State by run."""
    servers: Mapping[str, ServerData]
    """State by model server; `registered` is null here, since no registry is asked."""
    alerts: Sequence[FiringAlert] | UnknownAlerts
    """Alerts of the stack's monitoring that fire; empty without monitoring."""
    quarantine: QuarantineData | None
    """The hosts in quarantine; null without a declared one."""


class StackList(TypedDict):
    """The stacks of a project."""

    stacks: Sequence[StackRow]
    """The stacks, by name."""


class TwinStatus(TypedDict):
    """The machines of a twin."""

    twin: str
    """Name of the twin."""
    machines: Sequence[MachineStatus]
    """The machines."""


class CheckpointData(TypedDict):
    """A checkpoint of which each byte has been read back and compared."""

    path: str
    """Path of the archive, or of the checkpoint that was restored from one."""
    step: int
    """Step of the checkpoint."""
    files: int
    """Number of its files."""
    bytes: int
    """Total size of its files, in bytes."""


class IssuedCertificate(TypedDict):
    """A certificate for the automation's key."""

    path: str
    """Path of the certificate."""
    serial: int
    """Serial number of the certificate."""
    principals: Sequence[str]
    """Principals for which it is valid."""
    valid_until: str
    """End of its validity."""


class AlertList(TypedDict):
    """The alerts and silences of a stack."""

    alerts: list[FiringAlert]
    """Alerts that fire, without the heartbeat."""
    silences: list[Silence]
    """Silences that hold."""


class JournalEntries(TypedDict):
    """Entries of the journals of a stack's hosts."""

    entries: Sequence[JournalEntry]
    """Entries in the order of time."""
    without: Sequence[str]
    """Hosts without an entry."""
    shortened: Sequence[str]
    """Hosts whose earlier entries were too long to read."""
    unread: Mapping[str, str]
    """Reasons why the journals of hosts were not read, by host."""


class ExpiredSilences(TypedDict):
    """Silences that were ended before their time."""

    silences: list[Silence]
    """Silences as they held before."""


class AuditDelivery(TypedDict):
    """Metrics of audits that the monitoring host has got."""

    host: str
    """The monitoring host."""
    stacks: list[str]
    """Stacks whose metrics it has got."""


class AlertTest(TypedDict):
    """A test message to receivers."""

    alert: str
    """Name of the alert."""
    severity: str
    """Severity of the message."""
    receivers: list[str]
    """Receivers that it goes to."""


class LightData(TypedDict):
    """The light at a drive's bay."""

    host: str
    """Name of the host."""
    serial: str
    """Serial number of the drive."""
    model: str
    """Model of the drive."""
    bus: str
    """Bus of the drive."""
    size_bytes: int
    """Size of the drive."""
    path: str
    """Path of its device on the host."""
    blinks: bool
    """Whether the light blinks now."""


class ErasureData(TypedDict):
    """The result of an erasure; without consent, the content of the drives."""

    erased: Sequence[str]
    """Serial numbers of the drives that were erased and read back."""
    contents: Mapping[str, str]
    """Content before the erasure by serial number, in the words of a consent: of all drives without consent, otherwise
    of the erased ones."""
    errors: Sequence[ErrorData]
    """Reasons why other drives are not erased, or have data left."""
    certificate: str | None
    """Path of the certificate; null if no drive was erased."""


class CertificateCheck(TypedDict):
    """A valid certificate, and its signer."""

    signer: str
    """Name of the signer, from the list of allowed signers."""
    certificate: ErasureCertificate
    """The certificate."""


class VersionData(TypedDict, total=False):
    """A version of a registered model, or a model of a directory, with its provenance.

    A quantised version has other keys than a trained one.
    """

    name: str
    """Name of the model; for a directory, that of its run or of its published model."""
    version: str
    """Number of the version; for a directory, the version of a published model, and else empty."""
    aliases: Sequence[str]
    """Aliases of the version."""
    run: str
    """Id of the run that registered it. A directory does not have this key."""
    source: str
    """Location of its files: that of the registry, or a directory; empty if only the record of a training is known."""
    created_ms: int
    """Time of the registration, in milliseconds since 1970. A directory does not have this key."""
    fleet: str | None
    """Name of the fleet that declared the run; null, here and below, if it is unknown."""
    declaration: str | None
    """Digest of the declaration of the run."""
    lock: str | None
    """Digest of the lock."""
    hosts: str | None
    """Digests of the facts of the hosts."""
    code: str | None
    """Digest of the code."""
    data: str | None
    """Digests of the data."""
    parent: str | None
    """Digest of the checkpoint that was trained further or quantised; `none` for random initial weights."""
    target: str | None
    """Processor for which the version was quantised."""
    precision: str | None
    """Precision of its weights."""
    gate: str | None
    """Verdict of the gate of quantising."""
    machine: str | None
    """Machine that quantised it."""
    checkpoint: str | None
    """Digest of its own checkpoint."""
    step: str | None
    """Step of its checkpoint."""


class LineageData(TypedDict):
    """The origin of a model version or of a directory."""

    versions: Sequence[VersionData]
    """The model and its parents, newest first."""
    missing: Sequence[str]
    """Unknown parts: `digits/3: lock`, and a parent that was not found."""


class FetchedModel(TypedDict):
    """A registered model that is on this computer."""

    server: str
    """Name of the server that declares it."""
    version: str
    """Version of the model."""
    directory: str
    """Directory of its files."""


class FetchedModels(TypedDict):
    """The registered models of a stack, on this computer."""

    models: Sequence[FetchedModel]
    """The models, by server."""


class ModelChange(TypedDict):
    """Another model of a server in the fleet's file."""

    server: str
    """Name of the server."""
    file: str
    """Path of the fleet's file."""
    model: ServedModel
    """The model, as the file declares it now; null for keys that it does not have."""
    previous: str | None
    """Version that the file declared before."""


class ImageContext(TypedDict):
    """The build context of a container image."""

    directory: str
    """Directory of the build context."""
    image: str
    """Tag of the image."""
    stop_seconds: int
    """Time that the server needs to stop."""


class PushedImage(TypedDict):
    """A container image that a registry has."""

    image: str
    """Name of the image for hosts, with its digest."""
    sent: int
    """Number of layers and configurations that were sent."""
    present: int
    """Number of those that the registry had."""
