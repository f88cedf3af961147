"""The checks before an erasure: consents, refusals and methods, as pure functions of declaration and facts."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rackwright.errors import Diagnostic, command
from rackwright.facts.content import covers
from rackwright.facts.facts import Facts
from rackwright.facts.storage import DriveFacts
from rackwright.facts.view import Fact, UnknownFact, View
from rackwright.kinds.shared import observation
from rackwright.kinds.shared.identity import WRONG_MACHINE_HELP, WRONG_MACHINE_NOTE
from rackwright.schema.host import Host
from rackwright.schema.problem import hint
from rackwright.schema.units import format_size

BLANK = "blank"
"""Content in a consent for a drive without a signature whose samples are all zero."""
NIST = "SP 800-88 Rev. 1"


@dataclass(frozen=True)
class Method:
    """A method to erase a drive."""

    text: str
    nist: str
    """NIST's term for its effect on a drive that executes its commands correctly: purge, clear or none."""


METHODS: Mapping[str, Method] = {
    "format": Method("NVMe Format with user data erase", "purge"),
    "crypto-erase": Method("NVMe Format with cryptographic erase", "purge"),
    "discard": Method("discard of every block", "none"),
    "overwrite": Method("one pass of zeros over every block", "clear"),
}
"""Methods by name. Source of the terms: NIST SP 800-88 Rev. 1, tables A-5 and A-8, which do not contain discard."""


class Abilities(View):
    """The erase methods that a drive supports, and whether it is in use, as its host reports."""

    can_format = Fact(bool)
    can_crypto_erase = Fact(bool)
    namespaces_erased = Fact(int, "Number of namespaces that a format of this namespace erases.")
    discard_max_bytes = Fact(int, "Maximum size of a discard; 0 if the drive does not support discards.")
    in_use = Fact(bool, "Whether a program, mount, array or swap has opened the drive exclusively.")


def parse_consents(texts: Sequence[str], serials: Sequence[str]) -> tuple[dict[str, str], list[Diagnostic]]:
    """Return the consented content by serial, and the refusals of malformed consents.

    Args:
        texts: Values of `--consent`: a serial, ``=``, and the content of the drive.
        serials: Serials of the drives to erase.
    """
    by_serial: dict[str, str] = {}
    problems = []
    for text in texts:
        serial, equals, content = text.partition("=")
        if not equals or not content:
            problem, help = f"{text!r} is not a consent", "Run the command without it, and paste the printed option"
            problems.append(Diagnostic("--consent", problem, "SERIAL=CONTENT", help))
        elif serial not in serials:
            problem, expected = f"drive {serial} is not erased by this command", f"one of {', '.join(serials)}"
            help = hint(serial, serials, "Name the drive as well, or remove its consent")
            problems.append(Diagnostic("--consent", problem, expected, help))
        elif serial in by_serial:
            problems.append(
                Diagnostic(
                    "--consent", f"drive {serial} has two consents", "one consent for each drive", "Remove one of them"
                )
            )
        else:
            by_serial[serial] = content
    return by_serial, problems


def refusals(
    name: str,
    host: Host,
    facts: Facts,
    abilities: View,
    serials: Sequence[str],
    method: str,
) -> Iterator[Diagnostic]:
    """Yield why drives of the host *name* cannot be erased, whatever the consents.

    Args:
        abilities: Report of the host about each drive, by serial.
    """
    yield from _identity_refusals(name, host, facts)
    for serial in serials:
        where = f"{name}: drive {serial}"
        try:
            drive = facts.drive(serial)
            if drive is None:
                serials_found = [each.serial for each in facts.drives]
                expected = f"one of {', '.join(serials_found)}" if serials_found else ""
                help = hint(serial, serials_found, "Correct the serial")
                yield Diagnostic(where, "the host has no drive with this serial", expected, help)
                continue
            blocking = [*_declaration_refusals(where, name, host, serial), *_use_refusals(where, drive)]
            yield from blocking
            drive_abilities = Abilities(abilities.read(serial), serial)
            if not blocking:
                yield from _open_file_refusals(where, drive_abilities, drive)
            yield from _method_refusals(where, drive_abilities, method)
        except UnknownFact as reason:
            help = "Correct it on the host, and run the command again"
            yield Diagnostic(where, f"its content or its use is unknown ({reason})", help=help)


def _identity_refusals(name: str, host: Host, facts: Facts) -> Iterator[Diagnostic]:
    kind, value = host.identity.strongest
    try:
        actual = observation.identity(facts, kind)
    except UnknownFact as reason:
        actual = f"no answer ({reason})"
    if actual != value:
        shown = actual if isinstance(actual, str) else "none"
        yield Diagnostic(
            f"{name}: {kind}",
            f"the machine has {shown}",
            f"{value}, as the fleet declares",
            WRONG_MACHINE_HELP.format(host=name),
            WRONG_MACHINE_NOTE,
        )


def _declaration_refusals(where: str, name: str, host: Host, serial: str) -> Iterator[Diagnostic]:
    for line in host.drives:
        if line.serial == serial and line.boot:
            help = "Boot the machine from another system, and erase the drive there"
            note = "a running system cannot erase its own drive"
            yield Diagnostic(where, "the drive is the boot drive of the host", help=help, note=note)
        if line.serial == serial and line.tier:
            help = (
                "Remove the tier: set `destroy: allowed`, run up, remove it from the fleet, run up; or replace the"
                f" drive with {command('rackwright drive replace STACK {} {} NEW', name, serial)}, and run up"
            )
            yield Diagnostic(where, f"the drive belongs to tier {line.tier}", "a drive without a tier", help)


def _use_refusals(where: str, drive: DriveFacts) -> Iterator[Diagnostic]:
    expected, check = "a drive that is not in use", "Make sure that it is not needed, then"
    if drive.mountpoints:
        problem = f"the drive is mounted at {', '.join(drive.mountpoints)}"
        yield Diagnostic(where, problem, expected, f"{check} unmount it on the host")
    if drive.holders:
        problem = f"the drive is part of {', '.join(drive.holders)}"
        commands = ", ".join(
            command("mdadm --stop {}", f"/dev/{holder}") for holder in drive.holders if holder.startswith("md")
        )
        close = f"run {commands} on the host" if commands else "close the device on the host"
        yield Diagnostic(where, problem, expected, f"{check} {close}")


def _open_file_refusals(where: str, abilities: Abilities, drive: DriveFacts) -> Iterator[Diagnostic]:
    if abilities.in_use:
        help = (
            f"Find the program with {command('fuser -v {}', drive.path)} on the host, and stop it if it is not needed"
        )
        yield Diagnostic(where, "a program has the drive open", "a drive that is not in use", help)


def _method_refusals(where: str, abilities: Abilities, method: str) -> Iterator[Diagnostic]:
    help = f"Choose another method: {', '.join(other for other in METHODS if other != method)}"
    if method == "discard" and abilities.discard_max_bytes == 0:
        yield Diagnostic(where, "method discard: the drive does not support discards", help=help)
    if method == "format" and not abilities.can_format:
        problem = "method format: the drive has no NVMe controller that supports format"
        yield Diagnostic(where, problem, help=help)
    if method == "crypto-erase" and not abilities.can_crypto_erase:
        problem = "method crypto-erase: the drive has no NVMe controller that supports cryptographic erase"
        yield Diagnostic(where, problem, help=help)
    if method in ("format", "crypto-erase") and abilities.can_format and abilities.namespaces_erased != 1:
        problem = f"method {method}: the controller would erase {abilities.namespaces_erased} namespaces"
        yield Diagnostic(where, problem, "a controller that erases this namespace alone", help)


def consent_refusals(name: str, serial: str, content: str, consent: str | None) -> Iterator[Diagnostic]:
    """Yield a refusal if *consent* does not cover the *content* of a drive."""
    if consent is None or (content and not covers(consent, content)):
        problem = f"the drive has {content or BLANK!r} on it" + (
            f", and the consent is for {consent!r}" if consent else ""
        )
        help = f"If you want to lose exactly that, add {consent_option(serial, content)}"
        yield Diagnostic(f"{name}: drive {serial}", problem, "consent to lose exactly this content", help)


def consent_option(serial: str, content: str) -> str:
    """Return the command-line option that consents to the loss of all content of a drive."""
    return f"--consent {shlex.quote(f'{serial}={content or BLANK}')}"


def describe_drive(drive: DriveFacts) -> str:
    """Return the description of a drive that people read before its erasure."""
    content = drive.content or f"{BLANK} as far as it was read: no signature, and zeros in all samples"
    if drive.unwitnessed_content:
        unwitnessed = ", ".join(drive.unwitnessed_content)
        content += f" (later writes to {unwitnessed} show in no superblock, only in the count of writes)"
    return f"{drive.serial} ({drive.model}, {drive.bus}, {format_size(drive.size_bytes)}): {content}"
