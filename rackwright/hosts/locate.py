"""The light at a drive's bay, switched by ledctl(8) of the host."""

from rackwright.errors import DeclarationError, Diagnostic, HostUnreachable, StepFailed
from rackwright.facts.facts import Facts
from rackwright.facts.storage import DriveFacts
from rackwright.facts.view import UnknownFact
from rackwright.hosts.pool import Hosts
from rackwright.schema.problem import hint
from rackwright.stack import Stack

PACKAGE = "ledmon"


def locate(hosts: Hosts, stack: Stack, host: str, serial: str, on: bool) -> DriveFacts:
    """Switch the light of a drive on or off, and return the drive.

    Raises:
        DeclarationError: there is no such host or drive.
        HostUnreachable: the host does not answer, or its drives are unknown.
        StepFailed: the host has no ledctl, or ledctl knows no light of the drive.
    """
    if wrong := list(stack.unknown_host_errors(host)):
        raise DeclarationError(*wrong)
    facts = hosts.facts(host)
    try:
        drive, has_ledctl = _drive(facts, host, serial), facts.package(PACKAGE) is not None
    except UnknownFact as reason:
        raise HostUnreachable(
            Diagnostic(host, str(reason), help="Correct it on the host, and run this again")
        ) from None
    if not has_ledctl:
        problem, help = f"package {PACKAGE} is not installed", f"Add {PACKAGE} to base_packages of role base"
        note = "its ledctl switches the light"
        raise StepFailed(Diagnostic(f"{host}: drive {serial}", problem, help=help, note=note))
    # without --listed-only it would switch the lights of all other drives as well
    argv = ("ledctl", "--listed-only", f"{'locate' if on else 'locate_off'}={drive.path}")
    done = hosts.connection(host).run(argv)
    output = " / ".join(done.stderr.splitlines())
    if done.status or "ignored" in output:
        problem = f"ledctl cannot switch its light, and printed {output!r}"
        expected = "a controller or an enclosure with a light that ledctl supports"
        help = "Find the drive by the serial on its label"
        raise StepFailed(Diagnostic(f"{host}: drive {serial}", problem, expected, help, source="ledctl(8)"))
    return drive


def _drive(facts: Facts, host: str, serial: str) -> DriveFacts:
    if found := facts.drive(serial):
        return found
    known = [drive.serial for drive in facts.drives]
    # a dead drive reports no serial
    help = hint(serial, known, "If the drive is dead, look for the bay whose drive is none of these")
    expected = f"one of {', '.join(known)}" if known else ""
    raise DeclarationError(Diagnostic(host, f"the host has no drive {serial}", expected, help))
