"""Giving a person the second factor: one secret on every host that declares them, and nowhere else."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from rackwright.access import totp
from rackwright.core.contract import Command, Put
from rackwright.errors import DeclarationError, HostUnreachable, RackwrightError, Refused
from rackwright.facts.view import UnknownFact
from rackwright.hosts.pool import Hosts
from rackwright.hosts.steps import execute
from rackwright.kinds.role.spec import RoleSpec
from rackwright.progress import Progress
from rackwright.schema.problem import hint
from rackwright.stack import Stack, declare

ROLE = "access"
AT_ONCE = 32
T = TypeVar("T")


@dataclass(frozen=True)
class Enrolled:
    """How it ended."""

    person: str
    issuer: str
    secret: totp.Secret | None
    """None where the person keeps the one they have, and some hosts were given it."""
    hosts: tuple[str, ...]
    """Which have it now, and had not before."""
    failures: Mapping[str, RackwrightError]
    """Why others have it not, by host."""


def access(stack: Stack) -> dict[str, dict[str, Any]]:
    """Return the variables of the role access by host, by their full names.

    Raises:
        DeclarationError: no host of *stack* has it.
    """
    found = {
        declared.spec.host: stack.repository.roles[ROLE].variables(declared.spec.about.os, declared.spec.variables)
        for declared in declare(stack)
        if isinstance(declared.spec, RoleSpec) and declared.spec.role == ROLE
    }
    if not found:
        where, fix = f"stack {stack.name}", f"Declare it: roles: {{{ROLE}: …}}"
        raise DeclarationError(where, f"got no host with the role {ROLE}", "it says who may log in", fix)
    return found


def enrol(stack: Stack, person: str, replace: bool, progress: Progress) -> Enrolled:
    """Give *person* a secret on every host that declares them, or those the one they have that lack it.

    Args:
        replace: Make a new one where there is one; the old one's codes let in nobody any more.

    Raises:
        DeclarationError: no host declares *person*.
        Refused: there is nothing to do, or hosts have different secrets.
        HostUnreachable: no host was reached.
    """
    declared = _declaring(stack, person)
    hosts = Hosts(stack.endpoints, stack.salt)
    try:
        there, failures = _everywhere(declared, lambda host: _is_there(hosts, host, person))
        if not there:
            raise next(iter(failures.values()))
        having = [host for host, found in there.items() if found]
        secret = totp.Secret.new() if replace or not having else None
        text = (secret or _common(hosts, having, person)).text
        lacking = [host for host in there if secret or host not in having]
        if not lacking:
            got, fix = f"got {person} with a secret on {_count(having)}", "Say --replace to make a new one"
            raise Refused(f"stack {stack.name}", got, "it is made once, and kept", fix)
        written, more = _everywhere(lacking, lambda host: _write(hosts, host, person, text, progress))
        if not written:
            raise next(iter(more.values()))
        issuer = declared[next(iter(written))]["access_totp_issuer"]
        return Enrolled(person, issuer, secret, tuple(written), {**failures, **more})
    finally:
        hosts.close()


def _declaring(stack: Stack, person: str) -> dict[str, dict[str, Any]]:
    """Return the variables of each host on which *person* needs a code."""
    roles = access(stack)
    people = sorted({each["name"] for variables in roles.values() for each in variables["access_people"]})
    if person not in people:
        want = f"people of stack {stack.name}: {', '.join(people) or 'none'}"
        fix = hint(person, people, f"Declare them under roles.{ROLE}.people, then run it again")
        raise DeclarationError("USER", f"got {person!r}", want, fix)
    needing = {
        host: variables
        for host, variables in roles.items()
        if variables["access_totp"] and person in (each["name"] for each in variables["access_people"])
    }
    if not needing:
        got, want = f"got totp: false wherever {person} is declared", "a secret is for who needs a code"
        raise DeclarationError(f"stack {stack.name}", got, want, "Set totp: true first")
    return needing


def _is_there(hosts: Hosts, host: str, person: str) -> bool:
    try:
        return hosts.facts(host, fresh=True).file(totp.path(person)) is not None
    except UnknownFact as reason:
        want, fix = "a secret that is there is not overwritten", "Mend that, or say --replace"
        raise Refused(host, f"got no answer whether {person} has a secret there ({reason})", want, fix) from None


def _common(hosts: Hosts, having: Iterable[str], person: str) -> totp.Secret:
    """Return the secret whose key all hosts *having* one agree on. No other part of their files is passed on.

    Raises:
        Refused: a host has a file without a key, or hosts have different keys.
    """
    path = totp.path(person)
    found = {host: totp.Secret.of_file(hosts.texts(host, [path])[path] or "") for host in having}
    replace = "look at who changed it, then say --replace to make a new one for all"
    if broken := sorted(host for host, secret in found.items() if secret is None):
        got = f"got no key in the first line of {path} on {', '.join(broken)}"
        raise Refused(f"user {person}", got, "a key has 26 to 64 letters and digits of base32", replace.capitalize())
    secrets = [secret for secret in found.values() if secret is not None]
    if any(secret != secrets[0] for secret in secrets):
        same = [[host for host in found if found[host] == secret] for secret in dict.fromkeys(secrets)]
        groups = " / ".join(", ".join(sorted(group)) for group in same)
        got = f"got different secrets of {person}: {groups}"
        raise Refused(f"user {person}", got, "a person has one", replace.capitalize())
    return secrets[0]


def _write(hosts: Hosts, host: str, person: str, text: str, progress: Progress) -> None:
    steps = (
        Command(f"make {totp.DIRECTORY}", ("install", "-d", "-m", "0700", "-o", "root", "-g", "root", totp.DIRECTORY)),
        Put(f"write the secret of {person}", totp.path(person), text, 0o400),
    )
    id = f"{host}/{ROLE}"
    with hosts.lease(host, id, lambda said: progress(f"{host}: {said}")):
        execute(hosts, host, id, steps, lambda said: progress(f"{host}: {said}"))


def _everywhere(names: Iterable[str], work: Callable[[str], T]) -> tuple[dict[str, T], dict[str, RackwrightError]]:
    """Do *work* for all hosts at once; return what it gave, and why it failed, by host."""

    def attempt(name: str) -> T | RackwrightError:
        try:
            return work(name)
        except RackwrightError as error:
            return error

    names = list(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = dict(zip(names, pool.map(attempt, names), strict=True))
    failed = {name: result for name, result in ended.items() if isinstance(result, RackwrightError)}
    return {name: result for name, result in ended.items() if not isinstance(result, RackwrightError)}, failed


def _count(hosts: list[str]) -> str:
    return f"all {len(hosts)} hosts that were reached" if len(hosts) > 1 else hosts[0]


def exit_status(enrolled: Enrolled) -> int:
    """Return 0 where every host has it, else what the worst failure says."""
    statuses = {error.exit_status for error in enrolled.failures.values()}
    return max(statuses - {HostUnreachable.exit_status}, default=HostUnreachable.exit_status if statuses else 0)
