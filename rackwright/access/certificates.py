"""Issue short-lived certificates for the automation's key, without reading the private key of the authority."""

import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from socket import gethostname
from typing import Any

from rackwright.access.enrolment import access
from rackwright.errors import ChangeRefused, DeclarationError, Diagnostic, SetupError, StepFailed, command
from rackwright.schema.problem import hint
from rackwright.stack import Stack

AGENT, PKCS11 = "agent", "pkcs11:"
EARLIER = "-1m"
"""Start of the validity, relative to now: clocks may differ."""


@dataclass(frozen=True)
class Certificate:
    """An issued certificate."""

    path: Path
    until: datetime
    """End of the validity."""
    serial: int
    principals: tuple[str, ...]


def issue(
    stack: Stack, key: Path | None, authority: str, principals: Sequence[str], minutes: int, sources: Sequence[str]
) -> Certificate:
    """Sign the automation's public key for *minutes*, and write the certificate to the path that its login names.

    Args:
        key: Key of the automation, private or public; None for the key of the login with a certificate.
        authority: Path of the private key of the authority, ``agent`` for ssh-agent, or ``pkcs11:LIBRARY`` for a token.
        principals: Subset of the declared principals; empty for all of them.
        sources: Addresses, as IP or IP/prefix length, from which the certificate is valid; empty for any address.

    Raises:
        DeclarationError: *stack* declares no automation, or not these principals.
        ChangeRefused: the hosts do not trust the authority, or its key is in the repository.
        SetupError: a key is missing.
        StepFailed: ssh-keygen did not sign.
    """
    automation, trusted = _automation(stack)
    principals = _principals(automation, principals)
    public, destination = _key(stack, key)
    with tempfile.TemporaryDirectory(prefix=".rackwright-", dir=destination.parent) as name:
        directory = Path(name)
        signing = _signing_options(stack, authority, trusted, directory)
        (directory / "key.pub").write_bytes(public.read_bytes())
        restrictions = ["-O", "clear"] + (["-O", f"source-address={','.join(sources)}"] if sources else [])
        # the serial is the time, so that it shows which of two certificates is newer
        identity = ["-I", f"{stack.name}:{getuser()}@{gethostname()}", "-z", str(time.time_ns())]
        limits = ["-n", ",".join(principals), "-V", f"{EARLIER}:+{minutes}m"]
        _ssh_keygen(*signing, *identity, *limits, *restrictions, str(directory / "key.pub"))
        (directory / "key-cert.pub").replace(destination)
    return _read(destination)


def _automation(stack: Stack) -> tuple[dict[str, set[str]], list[str]]:
    """Return the principals of each automation account, and the public keys of all trusted authorities."""
    automation: dict[str, set[str]] = {}
    trusted: list[str] = []
    for variables in access(stack).values():
        account: dict[str, Any] | None = variables["access_automation"]
        if account:
            automation.setdefault(account["user"], set()).update(account.get("principals") or [account["user"]])
            trusted += variables["access_ca_keys"]
    if not automation:
        problem, note = "no host declares an account for the automation", "the certificate is for that account"
        help = "Declare roles.access.automation: {user: deploy}"
        raise DeclarationError(Diagnostic(f"stack {stack.name}", problem, help=help, note=note))
    return automation, list(dict.fromkeys(trusted))


def _principals(automation: dict[str, set[str]], requested: Sequence[str]) -> list[str]:
    declared = sorted(set().union(*automation.values()))
    for principal in requested:
        if principal not in declared:
            problem, expected = f"no host accepts the principal {principal!r}", f"one of {', '.join(declared)}"
            help = hint(principal, declared, "Name one of these")
            raise DeclarationError(Diagnostic("--principal", problem, expected, help))
    return list(requested) or declared


def _key(stack: Stack, path: Path | None) -> tuple[Path, Path]:
    """Return the paths of the public key to sign and of its certificate."""
    if path is None:
        logins = [login for endpoint in stack.endpoints.values() for login in endpoint.logins if login.certificate]
        places = {(str(login.key), str(login.certificate)) for login in logins}
        if len(places) != 1:
            problem = f"{len(places) or 'no'} login{'s have' if places else ' has'} a key and a certificate"
            help = "Pass --key PATH" if places else "Pass --key PATH, or add `certificate` to the login"
            raise DeclarationError(
                Diagnostic(f"stack {stack.name}", problem, "one key to sign the certificate for", help)
            )
        [(private, certificate)] = places
        public, destination = Path(f"{private}.pub"), Path(certificate)
    else:
        private = str(path.expanduser()).removesuffix(".pub")
        public, destination = Path(f"{private}.pub"), Path(f"{private}-cert.pub")  # the path that ssh tries by default
    if not public.is_file():
        problem, note = f"the public key {public} does not exist", "the certificate signs this key"
        help = f"Create it with {command('ssh-keygen -t ed25519 -f {}', private)}"
        raise SetupError(Diagnostic("the automation's key", problem, help=help, note=note))
    if not destination.parent.is_dir():
        problem = f"the directory of the certificate, {destination.parent}, does not exist"
        help = f"Create it with {command('mkdir -p {}', str(destination.parent))}"
        raise SetupError(Diagnostic("the automation's key", problem, help=help))
    return public, destination


def _signing_options(stack: Stack, authority: str, trusted: list[str], directory: Path) -> list[str]:
    """Return the options of ssh-keygen that sign with *authority*, after a check that the hosts trust it."""
    if authority == AGENT:
        keys, options = _lines("ssh-add", "-L"), ["-U"]
    elif authority.startswith(PKCS11):
        library = authority.removeprefix(PKCS11)
        keys, options = _lines("ssh-keygen", "-D", library), ["-D", library]
    else:
        return ["-s", str(_authority_file(stack, Path(authority).expanduser(), trusted))]
    usable = [line for line in keys if _trusts(trusted, line)]
    if not usable:
        raise _untrusted_error(f"{authority} with {len(keys)} key{'s' * (len(keys) != 1)}")
    public = directory / "authority.pub"
    public.write_text(f"{usable[0]}\n")
    return [*options, "-s", str(public)]


def _authority_file(stack: Stack, path: Path, trusted: list[str]) -> Path:
    if not path.is_file():
        expected = f"the path of the authority's private key, {AGENT}, or {PKCS11}LIBRARY"
        raise SetupError(Diagnostic("--ca", f"{path} is not a file", expected, "Correct the path"))
    if path.resolve().is_relative_to(stack.project.resolve()):
        problem, expected = f"the authority's key {path} is in the project", "a key outside of the project"
        note = "every reader of the repository would have access to all hosts"
        raise ChangeRefused(
            Diagnostic("--ca", problem, expected, "Create a new authority outside of the project", note)
        )
    public = path.with_name(f"{path.name}.pub")
    lines = public.read_text().splitlines() if public.is_file() else _lines("ssh-keygen", "-y", "-f", str(path))
    if not any(_trusts(trusted, line) for line in lines):
        raise _untrusted_error(str(path))
    return path


def _trusts(trusted: list[str], line: str) -> bool:
    return line.split()[:2] in [key.split()[:2] for key in trusted]


def _untrusted_error(authority: str) -> ChangeRefused:
    problem, expected = f"no host trusts {authority}", "an authority in roles.access.ca_keys"
    return ChangeRefused(Diagnostic("--ca", problem, expected, "Name such an authority, or declare this one first"))


def _read(path: Path) -> Certificate:
    from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

    issued = load_ssh_public_identity(path.read_bytes())
    assert isinstance(issued, SSHCertificate), "ssh-keygen -s makes certificates"
    until = datetime.fromtimestamp(issued.valid_before, UTC)
    return Certificate(path, until, issued.serial, tuple(name.decode() for name in issued.valid_principals))


def _ssh_keygen(*arguments: str) -> None:
    _run("ssh-keygen", "-q", *arguments)


def _lines(*argv: str) -> list[str]:
    return [line for line in _run(*argv).splitlines() if line.strip()]


def _run(*argv: str) -> str:
    """Return the output of a program, which asks for a passphrase or a PIN itself on the terminal."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except FileNotFoundError:
        problem, help = f"the program {argv[0]} is missing", "Run `sudo apt-get install openssh-client`"
        raise SetupError(Diagnostic("this computer", problem, help=help, note="it signs the certificate")) from None
    if done.returncode:
        output = " / ".join((done.stderr or done.stdout).strip().splitlines()[-2:]) or f"ended with {done.returncode}"
        help = "Correct the reported error, and run the command again"
        raise StepFailed(Diagnostic(argv[0], f'it failed: "{output}"', help=help, note="no certificate was issued"))
    return done.stdout
