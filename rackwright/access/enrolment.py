"""Enrol a person for the second factor: choose a secret, then write it to every host that declares the person.

The two steps are apart so that a caller shows a new secret, and has it confirmed, before any host has it.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from rackwright.access import totp
from rackwright.core.contract import Command, Put
from rackwright.errors import ChangeRefused, DeclarationError, Diagnostic, UserError
from rackwright.exit_status import gravest
from rackwright.facts.digest import digest
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
class PendingEnrolment:
    """A secret that no host has got yet from this enrolment."""

    person: str
    issuer: str
    secret: totp.Secret
    is_new: bool
    """Whether the secret is a new one; False if the person keeps the present one, and more hosts get it."""
    replaces: bool
    """Whether the secret takes the place of the one that hosts have."""
    hosts: tuple[str, ...]
    """Hosts that are to get the secret."""
    failures: Mapping[str, UserError]
    """Errors of hosts that could not be read, by host. They do not get the secret."""


@dataclass(frozen=True)
class Enrolment:
    """Result of an enrolment."""

    hosts: tuple[str, ...]
    """Hosts that got the secret in this enrolment."""
    failures: Mapping[str, UserError]
    """Errors of the other hosts, by host."""
    digest: str
    """Keyed digest of the key, which the fleet may declare so that audits find another key."""


def access(stack: Stack) -> dict[str, dict[str, Any]]:
    """Return the variables of the role access by host, by their full names.

    Raises:
        DeclarationError: no host of *stack* has the role.
    """
    variables = {
        declared.spec.host: stack.repository.roles[ROLE].variables(declared.spec.about.os, declared.spec.variables)
        for declared in declare(stack)
        if isinstance(declared.spec, RoleSpec) and declared.spec.role == ROLE
    }
    if not variables:
        problem, note = f"no host has the role {ROLE}", "the role declares who may log in"
        help = f"Declare roles: {{{ROLE}: …}} for the hosts"
        raise DeclarationError(Diagnostic(f"stack {stack.name}", problem, help=help, note=note))
    return variables


def prepare(stack: Stack, person: str, replace: bool) -> PendingEnrolment:
    """Return a new secret for *person* on every host that declares them, or the present one for hosts that lack it.

    Writes nothing.

    Args:
        replace: Make a new secret even if there is one; codes of the old secret stop working once hosts have it.

    Raises:
        DeclarationError: no host declares *person*.
        ChangeRefused: there is nothing to do, or hosts have different secrets, or another one than the fleet declares.
        HostUnreachable: no host was reached.
    """
    declared = _hosts_with_code(stack, person)
    hosts = Hosts(stack.endpoints, stack.salt)
    try:
        present, unread = _on_each(declared, lambda host: _has_secret(hosts, host, person))
        if not present:
            raise next(iter(unread.values()))
        having = [host for host, has_secret in present.items() if has_secret]
        is_new = replace or not having
        secret = totp.Secret.new() if is_new else _common_secret(hosts, having, person)
        if not is_new:
            _require_declared(secret, having, person, _factors(declared, person), stack.salt)
        lacking = tuple(host for host in present if is_new or host not in having)
        if not lacking:
            problem = f"{person} already has a secret on {_count(having)}"
            help = "Pass --replace to make a new secret, which makes the old one void"
            raise ChangeRefused(Diagnostic(f"stack {stack.name}", problem, help=help))
        issuer = declared[lacking[0]]["access_totp_issuer"]
        return PendingEnrolment(person, issuer, secret, is_new, replace, lacking, unread)
    finally:
        hosts.close()


def activate(stack: Stack, pending: PendingEnrolment, progress: Progress) -> Enrolment:
    """Write the secret of *pending* to its hosts. The person has a new secret before the call."""
    hosts = Hosts(stack.endpoints, stack.salt)
    try:
        written, unwritten = _on_each(pending.hosts, lambda host: _write(hosts, host, pending, progress))
        key = digest(pending.secret.key.encode(), stack.salt)
        return Enrolment(tuple(written), {**pending.failures, **unwritten}, key)
    finally:
        hosts.close()


def _hosts_with_code(stack: Stack, person: str) -> dict[str, dict[str, Any]]:
    """Return the variables of each host on which *person* needs a code."""
    roles = access(stack)
    people = sorted({each["name"] for variables in roles.values() for each in variables["access_people"]})
    if person not in people:
        expected = f"one of {', '.join(people)}" if people else ""
        help = hint(person, people, f"Declare the person in roles.{ROLE}.people, and run the command again")
        raise DeclarationError(Diagnostic("USER", f"stack {stack.name} has no person {person!r}", expected, help))
    with_code = {
        host: variables
        for host, variables in roles.items()
        if variables["access_totp"] and person in (each["name"] for each in variables["access_people"])
    }
    if not with_code:
        problem = f"no host that declares {person} asks for a code"
        expected, help = "totp: true on at least one of these hosts", "Set totp: true, and run the command again"
        raise DeclarationError(Diagnostic(f"stack {stack.name}", problem, expected, help))
    return with_code


def _has_secret(hosts: Hosts, host: str, person: str) -> bool:
    return hosts.exists(host, totp.path(person))  # an existing secret is not overwritten, whatever is in its file


def _common_secret(hosts: Hosts, having: Iterable[str], person: str) -> totp.Secret:
    """Return a secret with the key that all the hosts *having* one share, and with no other part of their files.

    Raises:
        ChangeRefused: a host has a file without a key, or hosts have different keys.
    """
    path = totp.path(person)
    by_host = {host: totp.Secret.from_file(hosts.texts(host, [path])[path] or "") for host in having}
    help = "Find out who changed it, then pass --replace to make a new secret for all hosts"
    if damaged := sorted(host for host, secret in by_host.items() if secret is None):
        problem = f"the first line of {path} on {', '.join(damaged)} is not a key"
        raise ChangeRefused(Diagnostic(f"user {person}", problem, "26 to 64 letters and digits of base32", help))
    secrets = [secret for secret in by_host.values() if secret is not None]
    if any(secret != secrets[0] for secret in secrets):
        same = [[host for host in by_host if by_host[host] == secret] for secret in dict.fromkeys(secrets)]
        groups = " / ".join(", ".join(sorted(group)) for group in same)
        problem = f"hosts have different secrets of {person}: {groups}"
        raise ChangeRefused(Diagnostic(f"user {person}", problem, "one secret for each person", help))
    return secrets[0]


def _factors(declared: Mapping[str, dict[str, Any]], person: str) -> set[str]:
    """Return the digests that hosts declare for the key of *person*; there should be at most one."""
    people = (each for variables in declared.values() for each in variables["access_people"])
    return {each["factor"] for each in people if each["name"] == person and each.get("factor")}


def _require_declared(secret: totp.Secret, having: list[str], person: str, factors: set[str], salt: bytes) -> None:
    """Return if *secret*, which the hosts *having* it share, is the declared one, or if none is declared.

    Raises:
        ChangeRefused: root of a host has put another key there, which other hosts would get.
    """
    actual = digest(secret.key.encode(), salt)
    if factors - {actual}:
        problem = f"the key of {person} on {', '.join(sorted(having))} has the digest {actual}; it was not copied"
        expected = f"factor {' and '.join(sorted(factors))}, as the fleet declares"
        help = "Find out who changed it, then pass --replace to make a new secret for all hosts"
        raise ChangeRefused(Diagnostic(f"user {person}", problem, expected, help))


def _write(hosts: Hosts, host: str, pending: PendingEnrolment, progress: Progress) -> None:
    person = pending.person
    steps = (
        Command(f"make {totp.DIRECTORY}", ("install", "-d", "-m", "0700", "-o", "root", "-g", "root", totp.DIRECTORY)),
        Put(f"write the secret of {person}", totp.path(person), pending.secret.text, 0o400),
    )
    id = f"{host}/{ROLE}"
    with hosts.lease(host, id, lambda message: progress(f"{host}: {message}")):
        if not pending.replaces and _has_secret(hosts, host, person):
            problem = f"{person} got another secret while this command waited; it was not overwritten"
            raise ChangeRefused(Diagnostic(host, problem, help="Pass --replace to make a new secret for all hosts"))
        execute(hosts, host, id, steps, lambda message: progress(f"{host}: {message}"))


def _on_each(names: Iterable[str], work: Callable[[str], T]) -> tuple[dict[str, T], dict[str, UserError]]:
    """Do *work* for all hosts at once; return the results and the errors by host."""

    def attempt(name: str) -> T | UserError:
        try:
            return work(name)
        except UserError as error:
            return error

    names = list(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = dict(zip(names, pool.map(attempt, names), strict=True))
    failures = {name: result for name, result in results.items() if isinstance(result, UserError)}
    return {name: result for name, result in results.items() if not isinstance(result, UserError)}, failures


def _count(hosts: list[str]) -> str:
    return f"all {len(hosts)} hosts that were reached" if len(hosts) > 1 else hosts[0]


def exit_status(enrolment: Enrolment) -> int:
    """Return 0 if every host has the secret, else the exit status of the gravest failure."""
    return gravest(error.exit_status for error in enrolment.failures.values())
