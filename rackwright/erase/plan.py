"""What may be erased, by which method, and what is remembered of it first: pure functions of declaration and facts."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rackwright.core.contract import Refusal
from rackwright.errors import command
from rackwright.facts.content import covers
from rackwright.facts.facts import Facts
from rackwright.facts.storage import Drive
from rackwright.facts.view import Fact, UnknownFact, View
from rackwright.kinds.shared import observation
from rackwright.kinds.shared.identity import WRONG_MACHINE_FIX
from rackwright.schema.host import Host
from rackwright.schema.problem import hint
from rackwright.schema.units import format_size

BLANK = "blank"
"""What a consent says of a drive that has no signature and is zero where it is sampled."""
NIST = "SP 800-88 Rev. 1"


@dataclass(frozen=True)
class Method:
    """A way to erase a drive."""

    text: str
    nist: str
    """The term of NIST for what it does to a drive that keeps its promises: purge, clear, or none."""


METHODS: Mapping[str, Method] = {
    "format": Method("NVMe Format with user data erase", "purge"),
    "crypto-erase": Method("NVMe Format with cryptographic erase", "purge"),
    "discard": Method("discard of every block", "none"),
    "overwrite": Method("one pass of zeros over every block", "clear"),
}
"""Source of the terms: NIST SP 800-88 Rev. 1, tables A-5 and A-8. It names no discard."""


class Abilities(View):
    """What a drive can do, and whether it is free, as its host tells."""

    can_format = Fact(bool)
    can_crypto_erase = Fact(bool)
    namespaces_erased = Fact(int, "How many namespaces of an NVMe controller a format of this one erases.")
    discard_max_bytes = Fact(int, "0 where it takes no discards.")
    in_use = Fact(bool, "Whether anybody has it for themselves.")


def consents(given: Sequence[str], serials: Sequence[str]) -> tuple[dict[str, str], list[Refusal]]:
    """Return what *given* gives up of which drive, and what is wrong with it."""
    found: dict[str, str] = {}
    wrong = []
    for text in given:
        serial, equals, content = text.partition("=")
        if not equals or not content:
            got, want = f"got {text!r}", "a consent is a serial and what is on that drive"
            wrong.append(Refusal("--consent", got, want, "Run it without, and paste what it prints"))
        elif serial not in serials:
            fix = hint(serial, serials, "Name the drive as well, or leave its consent out")
            wrong.append(Refusal("--consent", f"got one for {serial}", f"to erase are {', '.join(serials)}", fix))
        elif serial in found:
            wrong.append(Refusal("--consent", f"got two for {serial}", "a drive has one content", "Leave one out"))
        else:
            found[serial] = content
    return found, wrong


def refusals(
    name: str,
    host: Host,
    facts: Facts,
    abilities: View,
    serials: Sequence[str],
    method: str,
) -> Iterator[Refusal]:
    """Yield why drives of the host *name* are not erased, whatever anybody consents to.

    Args:
        abilities: What the host told of each drive, by its serial.
    """
    yield from _machine(name, host, facts)
    for serial in serials:
        where = f"{name}: drive {serial}"
        try:
            drive = facts.drive(serial)
            if drive is None:
                known = [each.serial for each in facts.drives]
                got, fix = "got no drive with this serial", hint(serial, known, "Name one of these")
                yield Refusal(where, got, f"its drives are {', '.join(known) or 'none'}", fix)
                continue
            kept = [*_declared(where, name, host, serial), *_used(where, drive)]
            yield from kept
            able = Abilities(abilities.read(serial), serial)
            if not kept:
                yield from _held(where, able, drive)
            yield from _unable(where, able, method)
        except UnknownFact as reason:
            fix = "Mend that, and run again"
            yield Refusal(where, f"got no answer ({reason})", "nothing is erased that could not be looked at", fix)


def _machine(name: str, host: Host, facts: Facts) -> Iterator[Refusal]:
    what, value = host.identity.strongest
    try:
        found = observation.identity(facts, what)
    except UnknownFact as reason:
        found = f"no answer ({reason})"
    if found != value:
        said = found if isinstance(found, str) else "none"
        yield Refusal(f"{name}: {what}", f"got {said}", f"the fleet says {value}", WRONG_MACHINE_FIX.format(host=name))


def _declared(where: str, name: str, host: Host, serial: str) -> Iterator[Refusal]:
    for line in host.drives:
        if line.serial == serial and line.boot:
            fix = "Erase it from another system, started on that machine"
            yield Refusal(where, "got the boot drive", "what runs on it could not tell of its end", fix)
        if line.serial == serial and line.tier:
            want = "what is declared is not erased"
            fix = (
                f"Give up the tier: `destroy: allowed`, up, take it out of the fleet, up; or put another drive in its"
                f" place with {command('rackwright drive replace STACK {} {} NEW', name, serial)}, and up"
            )
            yield Refusal(where, f"got a drive of tier {line.tier}", want, fix)


def _used(where: str, drive: Drive) -> Iterator[Refusal]:
    want, fix = "only what nobody uses is erased", "after looking at what it is for"
    if drive.mountpoints:
        got = f"got it mounted at {', '.join(drive.mountpoints)}"
        yield Refusal(where, got, want, f"Unmount that by hand, {fix}")
    if drive.holders:
        got = f"got it held by {', '.join(drive.holders)}"
        ends = ", ".join(
            command("mdadm --stop {}", f"/dev/{holder}") for holder in drive.holders if holder.startswith("md")
        )
        yield Refusal(where, got, want, f"{f'Run {ends}' if ends else 'Close that by hand'}, {fix}")


def _held(where: str, able: Abilities, drive: Drive) -> Iterator[Refusal]:
    if able.in_use:
        fix = f"Look who has it open with {command('fuser -v {}', drive.path)} on the host"
        yield Refusal(where, "got it held by a program", "only what nobody uses is erased", fix)


def _unable(where: str, able: Abilities, method: str) -> Iterator[Refusal]:
    fix = f"Take another of {', '.join(other for other in METHODS if other != method)}"
    if method == "discard" and able.discard_max_bytes == 0:
        yield Refusal(where, "got method discard", "it takes no discards", fix)
    if method == "format" and not able.can_format:
        yield Refusal(where, "got method format", "it has no NVMe controller that formats", fix)
    if method == "crypto-erase" and not able.can_crypto_erase:
        want = "it has no NVMe controller that erases by changing its key"
        yield Refusal(where, "got method crypto-erase", want, fix)
    if method in ("format", "crypto-erase") and able.can_format and able.namespaces_erased != 1:
        got, want = f"got method {method}", f"its controller would erase {able.namespaces_erased} namespaces with it"
        yield Refusal(where, got, want, fix)


def unconsented(name: str, serial: str, content: str, consent: str | None) -> Iterator[Refusal]:
    """Yield that what is on a drive is not what was given up."""
    if consent is None or (content and not covers(consent, content)):
        got = f"got {content or BLANK!r} on it" + (f", and consent for {consent!r}" if consent else "")
        want = "what is on it is given up by name"
        yield Refusal(f"{name}: drive {serial}", got, want, f"To lose exactly that, add {option(serial, content)}")


def option(serial: str, content: str) -> str:
    """Return what gives up all that is on a drive, to be pasted."""
    return f"--consent {shlex.quote(f'{serial}={content or BLANK}')}"


def remembered(drive: Drive) -> str:
    """Return what a person should see of a drive before it is erased."""
    content = drive.content or f"{BLANK} where it was looked at: no signature, and zeros in sampled places"
    if drive.unwitnessed_content:
        unwitnessed = ", ".join(drive.unwitnessed_content)
        content += f" (later writes to {unwitnessed} show in no superblock, only in the count of writes)"
    return f"{drive.serial} ({drive.model}, {drive.bus}, {format_size(drive.size_bytes)}): {content}"
