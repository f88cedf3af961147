"""Erases drives of one host under its lock, reads them back, and tells which are certified and which are not."""

import getpass
import json
import secrets
import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from rackwright import __version__
from rackwright.core.contract import Command, Put, Refusal
from rackwright.erase import certificate
from rackwright.erase.certificate import Certificate, ErasedDrive
from rackwright.erase.plan import BLANK, METHODS, NIST, consents, option, refusals, remembered, unconsented
from rackwright.errors import DeclarationError, DeclarationErrors, RackwrightError, StepFailed
from rackwright.facts import probe
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact, View
from rackwright.hosts import runner_source
from rackwright.hosts.pool import Hosts
from rackwright.hosts.session import DIRECTORY
from rackwright.hosts.steps import execute
from rackwright.progress import Progress
from rackwright.schema.problem import hint
from rackwright.stack import Stack

JOB, REPORT = f"{DIRECTORY}/erase.json", f"{DIRECTORY}/erased.json"
"""On the host: what the eraser is to do, with its modules; and what became of each drive."""
ERASER = "rackwright.erase.onhost.eraser"
LOOK_SECONDS = 180.0
MONTH_SECONDS = 30 * 24 * 3600.0
AGAIN = "Erase it by another method, or destroy it; it is not in any certificate"


@dataclass(frozen=True)
class Request:
    """What somebody wants erased, how, and where the certificate goes."""

    host: str
    serials: tuple[str, ...]
    method: str
    consents: tuple[str, ...]
    key: Path
    certificate: Path


@dataclass(frozen=True)
class Target:
    """A drive that is to be erased."""

    serial: str
    model: str
    bus: str
    content: str
    """In the words of a consent; empty where it looks blank."""
    note: str
    """What a person should see of it before."""


@dataclass(frozen=True)
class DryRun:
    """What drives hold: nothing was given up, and nothing erased."""

    drives: Mapping[str, str]
    """By serial, in the words of a consent."""
    text: str


@dataclass(frozen=True)
class EraseResult:
    """What became of the drives."""

    certificate: Certificate | None
    """Of those that are erased; None where none is."""
    failures: tuple[RackwrightError, ...]
    """Why others are not, or cannot be known to be."""


def erase(hosts: Hosts, stack: Stack, request: Request, progress: Progress) -> DryRun | EraseResult:
    """Erase the drives of *request*, if all that is on them is given up; without any consent, tell what that is.

    Raises:
        DeclarationErrors: it cannot be begun; all reasons at once, and nothing was written.
        StepFailed: all of it failed together, or the certificate could not be written.
        HostUnreachable: it is not reached.
    """
    given = _checked(stack, request)
    if given:
        certificate.sign(b"rackwright can sign\n", request.key)  # before anything is lost
    name = request.host
    id = f"{name}/erase"
    with hosts.lock(name, id, lambda text: progress(f"{name}: {text}")) if given else nullcontext():
        facts, abilities = hosts.facts(name, fresh=True), _abilities(hosts, request)
        wrong = list(refusals(name, stack.fleet.hosts[name], facts, abilities, request.serials, request.method))
        targets, unknown = _targets(facts, request, frozenset(one.where for one in wrong))
        wrong += unknown
        for target in targets if given else ():
            wrong += unconsented(name, target.serial, target.content, given.get(target.serial))
        if wrong:
            raise _errors(wrong)
        contents = {target.serial: target.content for target in targets}
        if not given:
            pasted = " \\\n  ".join(option(serial, content) for serial, content in contents.items())
            notes = [target.note for target in targets]
            holds = {serial: content or BLANK for serial, content in contents.items()}
            return DryRun(holds, "\n".join([*notes, f"To erase all of it, add:\n  {pasted}"]))
        for target in targets:
            progress(f"{name}: {target.note}")
        report = _work(hosts, request, id, contents, progress)
    return _ended(stack, request, targets, report)


def _checked(stack: Stack, request: Request) -> dict[str, str]:
    """Return the consents by serial, everything being as it should be as far as that shows without the host."""
    path, key = request.certificate, request.key
    given, wrong = consents(request.consents, request.serials)
    wrong += [
        Refusal(error.where, error.got, error.want, error.fix) for error in stack.unknown_host_errors(request.host)
    ]
    if request.method not in METHODS:
        fix = hint(request.method, METHODS, "Take one of these")
        wrong.append(Refusal("--method", f"got {request.method!r}", f"methods are {', '.join(METHODS)}", fix))
    for serial in sorted({each for each in request.serials if request.serials.count(each) > 1}):
        wrong.append(Refusal(f"drive {serial}", "got it twice", "each is named once", "Leave one out"))
    for taken in (path, certificate.signature_path(path)):
        if taken.exists():
            want = "no certificate is overwritten"
            wrong.append(Refusal("--certificate", f"got {taken}, which is there", want, "Name another file"))
    if not path.parent.is_dir():
        want, fix = "the certificate is written there", "Make it, or name another file"
        wrong.append(Refusal("--certificate", f"got no directory {path.parent}", want, fix))
    if not key.is_file():
        want = "it signs the certificate"
        fix = "Name a private key, or a public one whose private key the agent has"
        wrong.append(Refusal("--sign-with", f"got no file {key}", want, fix))
    if wrong:
        raise _errors(wrong)
    return given


def _errors(wrong: Sequence[Refusal]) -> DeclarationErrors:
    return DeclarationErrors(DeclarationError(one.where, one.got, one.want, one.fix) for one in wrong)


def _abilities(hosts: Hosts, request: Request) -> View:
    """Return what the host tells of each drive that is to be erased, by serial."""
    connection, argv = hosts.connection(request.host), (*probe.command(), "abilities")
    done = connection.run(argv, _job(do="look", serials=request.serials).encode(), LOOK_SECONDS)
    if done.status:
        raise connection.useless(argv, done)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return View(told, request.host)


def _job(**job: object) -> str:
    modules = [*runner_source.on_drives(), (ERASER, _source())]
    return json.dumps({"modules": modules, **job})


@cache
def _source() -> str:
    return files("rackwright.erase.onhost").joinpath("eraser.py").read_text()


def _targets(facts: Facts, request: Request, refused: Collection[str]) -> tuple[list[Target], list[Refusal]]:
    """Return the drives with what is on them, and why that cannot be known.

    Args:
        refused: Places about which something was said: of a drive that is used, that it is.
    """
    targets, unknown = [], []
    for serial in request.serials:
        where = f"{request.host}: drive {serial}"
        try:
            if (drive := facts.drive(serial)) and where not in refused:
                targets.append(Target(serial, drive.model, drive.bus, drive.content, remembered(drive)))
        except UnknownFact as reason:
            if where not in refused:
                got, want = f"got no look at it ({reason})", "what is erased is known before"
                unknown.append(Refusal(where, got, want, "Mend that, and run again"))
    return targets, unknown


def _work(hosts: Hosts, request: Request, id: str, contents: Mapping[str, str], progress: Progress) -> dict[str, Any]:
    """Erase the drives on the host, whose lock is held, and return what it reports of each by serial."""
    serials, stamp = ", ".join(request.serials), secrets.token_hex(8)
    method = METHODS[request.method].text
    named = {"serials": request.serials, "contents": dict(contents)}
    job = _job(do="erase", id=stamp, method=request.method, report=REPORT, **named)
    steps = (
        Put(f"put the eraser there: {JOB}", JOB, job, 0o600),
        Command(
            f"erase {serials}: {method}",
            runner_source.from_file(JOB),
            destroys=tuple(f"{serial}: {content or 'what is on it'}" for serial, content in contents.items()),
            timeout_seconds=MONTH_SECONDS,
        ),
    )
    execute(hosts, request.host, id, steps, lambda text: progress(f"{request.host}: {text}"))
    told = json.loads(hosts.texts(request.host, [REPORT])[REPORT] or "{}")
    if told.get("id") != stamp:
        raise StepFailed(request.host, f"got no report in {REPORT}", "the eraser leaves one", "Run it again")
    drives: dict[str, Any] = told["drives"]
    return drives


def _ended(stack: Stack, request: Request, targets: Sequence[Target], report: Mapping[str, Any]) -> EraseResult:
    """Return the certificate of what is erased by *report*, and why the rest is not."""
    erased, failures = [], []
    for target in targets:
        told = report[target.serial]
        if failure := failed(f"{request.host}: drive {target.serial}", request.method, told):
            failures.append(failure)
        else:
            erased.append(certified(target, request.method, told))
    return EraseResult(_certificate(stack, request.host, erased) if erased else None, tuple(failures))


def _certificate(stack: Stack, host: str, erased: Sequence[ErasedDrive]) -> Certificate:
    what, value = stack.fleet.hosts[host].identity.strongest
    return Certificate(
        rackwright=__version__,
        fleet=stack.fleet.fleet,
        stack=stack.name,
        host=host,
        identity={what: value},
        by=f"{getpass.getuser()}@{socket.gethostname()}",
        drives=tuple(erased),
    )


def failed(where: str, method: str, told: Mapping[str, Any]) -> StepFailed | None:
    """Return why a drive is not erased, by what its host reports."""
    if reason := told.get("failed"):
        return StepFailed(where, str(reason), "it is erased, and read back as zeros", AGAIN)
    found = told["verification"]
    if found["bytes_read"] != told["size_bytes"]:
        got = f"{found['bytes_read']} of {told['size_bytes']} bytes were read back"
        return StepFailed(where, got, "all of it is", AGAIN)
    if left := found["blocks_with_content"]:
        blocks = told["size_bytes"] // found["block_bytes"]
        got = (
            f"after {method} {left} of {blocks} blocks of {found['block_bytes']} bytes have content,"
            f" the first at byte {found['first_content_at']}"
        )
        return StepFailed(where, got, "an erased drive reads as zeros", AGAIN)
    return None


def certified(target: Target, method: str, told: Mapping[str, Any]) -> ErasedDrive:
    """Return what a certificate says of a drive that is erased."""
    verification = {name: value for name, value in told["verification"].items() if name != "first_content_at"}
    return ErasedDrive.model_validate(
        {
            **{name: told[name] for name in ("size_bytes", "command", "tool", "kernel", "started_at", "ended_at")},
            "serial": target.serial,
            "model": target.model,
            "bus": target.bus,
            "held": target.content or BLANK,
            "method": method,
            "nist": {"document": NIST, "term": METHODS[method].nist},
            "verification": verification,
        }
    )
