"""The erasure of drives of one leased host: checks, erasure, verification and certificate."""

import getpass
import json
import secrets
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from rackwright import __version__
from rackwright.core.contract import Command, Put
from rackwright.erase import certificate
from rackwright.erase.certificate import ErasedDrive, ErasureCertificate
from rackwright.erase.plan import (
    BLANK,
    METHODS,
    NIST,
    consent_option,
    consent_refusals,
    describe_drive,
    parse_consents,
    refusals,
)
from rackwright.errors import DeclarationError, Diagnostic, StepFailed, UserError
from rackwright.facts import probe
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact, View
from rackwright.foreign import InvalidData, parse_object
from rackwright.hosts import runner_source
from rackwright.hosts.pool import Hosts
from rackwright.hosts.session import DIRECTORY
from rackwright.hosts.steps import execute
from rackwright.progress import Progress
from rackwright.schema.problem import hint
from rackwright.stack import Stack

JOB, REPORT = f"{DIRECTORY}/erase.json", f"{DIRECTORY}/erased.json"
"""Files on the host: the job of the eraser with its modules, and the report about each drive."""
ERASER = "rackwright.erase.onhost.eraser"
LOOK_SECONDS = 180.0
MONTH_SECONDS = 30 * 24 * 3600.0
HELP = "Erase it by another method, or destroy the drive"
NOTE = "no certificate contains this drive"


@dataclass(frozen=True)
class EraseRequest:
    """A request to erase drives: method, consents, signing key and path of the certificate."""

    host: str
    serials: tuple[str, ...]
    method: str
    consents: tuple[str, ...]
    key: Path
    certificate: Path


@dataclass(frozen=True)
class Target:
    """A drive to erase."""

    serial: str
    model: str
    bus: str
    content: str
    """Content in the words of a consent; empty for a drive that looks blank."""
    note: str
    """Description that people read before the erasure."""


@dataclass(frozen=True)
class DryRun:
    """The contents of drives, for a request without consent, which erases nothing."""

    drives: Mapping[str, str]
    """Content by serial, in the words of a consent."""
    text: str


@dataclass(frozen=True)
class EraseResult:
    """The result of an erasure."""

    certificate: ErasureCertificate | None
    """Certificate of the erased drives; None if no drive was erased."""
    failures: tuple[UserError, ...]
    """Reasons why other drives are not erased, or not verified."""


def erase(
    hosts: Hosts,
    stack: Stack,
    request: EraseRequest,
    progress: Progress,
    start: Callable[[Mapping[str, str]], None] = lambda contents: None,
) -> DryRun | EraseResult:
    """Erase the drives of *request* if its consents cover their content; without any consent, return that content.

    Args:
        start: A function that gets the content of each drive, by serial, before the first write.

    Raises:
        DeclarationError: the erasure cannot begin; contains all reasons, and nothing was written.
        StepFailed: the eraser failed as a whole.
        HostUnreachable: the host is not reachable.
    """
    consents_by_serial = _check_request(stack, request)
    if consents_by_serial:
        certificate.sign(b"rackwright can sign\n", request.key)  # fails before data is lost
    name = request.host
    id = f"{name}/erase"
    with hosts.lease(name, id, lambda text: progress(f"{name}: {text}")) if consents_by_serial else nullcontext():
        facts, abilities = hosts.facts(name, fresh=True), _abilities(hosts, request)
        problems = list(refusals(name, stack.fleet.hosts[name], facts, abilities, request.serials, request.method))
        targets, unreadable = _targets(facts, request, frozenset(one.where for one in problems))
        problems += unreadable
        for target in targets if consents_by_serial else ():
            problems += consent_refusals(name, target.serial, target.content, consents_by_serial.get(target.serial))
        if problems:
            raise DeclarationError(*problems)
        contents = {target.serial: target.content for target in targets}
        if not consents_by_serial:
            options = " \\\n  ".join(consent_option(serial, content) for serial, content in contents.items())
            notes = [target.note for target in targets]
            by_serial = {serial: content or BLANK for serial, content in contents.items()}
            return DryRun(by_serial, "\n".join([*notes, f"To erase all of it, add:\n  {options}"]))
        for target in targets:
            progress(f"{name}: {target.note}")
        start(contents)
        report = _erase_on_host(hosts, request, id, contents, progress)
    return _make_result(stack, request, targets, report)


def _check_request(stack: Stack, request: EraseRequest) -> dict[str, str]:
    """Return the consents by serial.

    Raises:
        DeclarationError: a part of the request is wrong that can be checked without the host.
    """
    path, key = request.certificate, request.key
    consents_by_serial, problems = parse_consents(request.consents, request.serials)
    problems += stack.unknown_host_errors(request.host)
    if request.method not in METHODS:
        problem, help = f"no such method, {request.method!r}", hint(request.method, METHODS, "Choose one of these")
        problems.append(Diagnostic("--method", problem, f"one of {', '.join(METHODS)}", help))
    for serial in sorted({each for each in request.serials if request.serials.count(each) > 1}):
        problems.append(
            Diagnostic(f"drive {serial}", "the drive is named twice", "each drive once", "Remove one of the two")
        )
    for target in (path, certificate.signature_path(path)):
        if target.exists():
            problem, note = f"{target} exists already", "no certificate is overwritten"
            problems.append(Diagnostic("--certificate", problem, "a new file", "Name another file", note))
    if not path.parent.is_dir():
        problem, help = f"the directory {path.parent} does not exist", "Create it, or name another file"
        problems.append(Diagnostic("--certificate", problem, help=help))
    if not key.is_file():
        problem = f"{key} is not a file"
        problems.append(Diagnostic("--sign-with", problem, certificate.SIGNING_KEY, "Name such a key"))
    if problems:
        raise DeclarationError(*problems)
    return consents_by_serial


def _abilities(hosts: Hosts, request: EraseRequest) -> View:
    """Return the host's report about the erase methods of each requested drive, by serial."""
    connection, argv = hosts.connection(request.host), (*probe.command(), "abilities")
    result = connection.run(argv, _job_json(do="look", serials=request.serials).encode(), LOOK_SECONDS)
    if result.status:
        raise connection.command_error(argv, result)
    try:
        report = parse_object(result.stdout.splitlines()[-1])
    except (InvalidData, IndexError):
        raise connection.connection_lost("it sent no report about its drives") from None
    return View(report, request.host)


def _job_json(**job: object) -> str:
    modules = [*runner_source.on_drives(), (ERASER, _eraser_source())]
    return json.dumps({"modules": modules, **job})


@cache
def _eraser_source() -> str:
    return files("rackwright.erase.onhost").joinpath("eraser.py").read_text()


def _targets(facts: Facts, request: EraseRequest, explained: Collection[str]) -> tuple[list[Target], list[Diagnostic]]:
    """Return the drives with their content, and a refusal for each drive with unknown content.

    Args:
        explained: Places that already have a refusal, such as a drive in use; they get no second one.
    """
    targets, unreadable = [], []
    for serial in request.serials:
        where = f"{request.host}: drive {serial}"
        try:
            if (drive := facts.drive(serial)) and where not in explained:
                targets.append(Target(serial, drive.model, drive.bus, drive.content, describe_drive(drive)))
        except UnknownFact as reason:
            if where not in explained:
                help = "Correct it on the host, and run the command again"
                unreadable.append(Diagnostic(where, f"its content is unknown ({reason})", help=help))
    return targets, unreadable


def _erase_on_host(
    hosts: Hosts, request: EraseRequest, id: str, contents: Mapping[str, str], progress: Progress
) -> dict[str, Any]:
    """Erase the drives on the leased host, and return its report about each by serial."""
    serials, stamp = ", ".join(request.serials), secrets.token_hex(8)
    method = METHODS[request.method].text
    arguments = {"serials": request.serials, "contents": dict(contents)}
    job = _job_json(do="erase", id=stamp, method=request.method, report=REPORT, **arguments)
    steps = (
        Put(f"copy the eraser to the host: {JOB}", JOB, job, 0o600),
        Command(
            f"erase {serials}: {method}",
            runner_source.from_file(JOB),
            destroys=tuple(f"{serial}: {content or 'all content'}" for serial, content in contents.items()),
            timeout_seconds=MONTH_SECONDS,
        ),
    )
    execute(hosts, request.host, id, steps, lambda text: progress(f"{request.host}: {text}"))
    try:
        report = parse_object(hosts.texts(request.host, [REPORT])[REPORT] or "{}")
    except InvalidData:
        report = {}
    if report.get("id") != stamp:
        raise StepFailed(
            Diagnostic(
                request.host,
                f"the eraser left no report in {REPORT}",
                help="Run the command again",
                note="it is unknown whether the drives are erased",
            )
        )
    drives = report.get("drives")
    return drives if isinstance(drives, dict) else {}


def _make_result(
    stack: Stack, request: EraseRequest, targets: Sequence[Target], report: Mapping[str, Any]
) -> EraseResult:
    """Return the certificate of the drives that are erased according to *report*, and the failures of the others."""
    drives, failures = [], []
    for target in targets:
        where = f"{request.host}: drive {target.serial}"
        try:
            drive_report = report[target.serial]
            if failure := drive_failure(where, request.method, drive_report):
                failures.append(failure)
            else:
                drives.append(certify(target, request.method, drive_report))
        except Exception as error:  # the host wrote the report, and the other drives have theirs
            problem = f"the report of the eraser has another form ({type(error).__name__})"
            failures.append(StepFailed(Diagnostic(where, problem, help=HELP, note=NOTE)))
    return EraseResult(_certificate(stack, request.host, drives) if drives else None, tuple(failures))


def _certificate(stack: Stack, host: str, drives: Sequence[ErasedDrive]) -> ErasureCertificate:
    kind, value = stack.fleet.hosts[host].identity.strongest
    return ErasureCertificate(
        rackwright=__version__,
        fleet=stack.fleet.fleet,
        stack=stack.name,
        host=host,
        identity={kind: value},
        by=f"{getpass.getuser()}@{socket.gethostname()}",
        drives=tuple(drives),
    )


def drive_failure(where: str, method: str, report: Mapping[str, Any]) -> StepFailed | None:
    """Return why a drive is not erased according to the *report* of its host; None if it is erased."""
    if reason := report.get("failed"):
        return StepFailed(Diagnostic(where, str(reason), help=HELP, note=NOTE))
    verification = report["verification"]
    if verification["bytes_read"] != report["size_bytes"]:
        problem = f"only {verification['bytes_read']} of {report['size_bytes']} bytes were read back"
        return StepFailed(Diagnostic(where, problem, "all bytes read back as zeros", HELP, NOTE))
    if blocks_with_content := verification["blocks_with_content"]:
        blocks = report["size_bytes"] // verification["block_bytes"]
        problem = (
            f"after {method} {blocks_with_content} of {blocks} blocks of {verification['block_bytes']} bytes"
            f" have content, the first at byte {verification['first_content_at']}"
        )
        return StepFailed(Diagnostic(where, problem, "a drive that reads as zeros", HELP, NOTE))
    return None


def certify(target: Target, method: str, report: Mapping[str, Any]) -> ErasedDrive:
    """Return the certificate's entry of an erased drive."""
    verification = {name: value for name, value in report["verification"].items() if name != "first_content_at"}
    return ErasedDrive.model_validate(
        {
            **{name: report[name] for name in ("size_bytes", "command", "tool", "kernel", "started_at", "ended_at")},
            "serial": target.serial,
            "model": target.model,
            "bus": target.bus,
            "held": target.content or BLANK,
            "method": method,
            "nist": {"document": NIST, "term": METHODS[method].nist},
            "verification": verification,
        }
    )
