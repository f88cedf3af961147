"""Short-lived certificates for the automation's key, signed by an authority whose key this program never reads."""

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
from rackwright.errors import DeclarationError, Refused, SetupError, StepFailed, command
from rackwright.schema.problem import hint
from rackwright.stack import Stack

AGENT, PKCS11 = "agent", "pkcs11:"
EARLIER = "-1m"
"""From when on it holds: clocks may differ."""


@dataclass(frozen=True)
class Certificate:
    """What was issued."""

    path: Path
    until: datetime
    serial: int
    principals: tuple[str, ...]


def issue(
    stack: Stack, key: Path | None, authority: str, principals: Sequence[str], minutes: int, sources: Sequence[str]
) -> Certificate:
    """Sign the automation's public key for some minutes, and put the certificate where its login looks for it.

    Args:
        key: Of the automation, private or public; None: that of the login which has a certificate.
        authority: Path of its private key, ``agent`` for ssh-agent, or ``pkcs11:LIBRARY`` for a token.
        principals: Some of those declared; none: all of them.
        sources: Addresses, as IP or IP/prefix length, from which alone it will do; none: from anywhere.

    Raises:
        DeclarationError: *stack* declares no automation, or not these principals.
        Refused: the authority is none that its hosts trust, or its key lies in the repository.
        SetupError: a key is not there.
        StepFailed: ssh-keygen would not sign.
    """
    automation, trusted = _declared(stack)
    principals = _principals(automation, principals)
    public, destination = _key(stack, key)
    with tempfile.TemporaryDirectory(prefix=".rackwright-", dir=destination.parent) as name:
        directory = Path(name)
        signing = _signing(stack, authority, trusted, directory)
        (directory / "key.pub").write_bytes(public.read_bytes())
        options = ["-O", "clear"] + (["-O", f"source-address={','.join(sources)}"] if sources else [])
        # by the clock, so that of two certificates it shows which is the newer
        told = ["-I", f"{stack.name}:{getuser()}@{gethostname()}", "-z", str(time.time_ns())]
        limits = ["-n", ",".join(principals), "-V", f"{EARLIER}:+{minutes}m"]
        _ssh_keygen(*signing, *told, *limits, *options, str(directory / "key.pub"))
        (directory / "key-cert.pub").replace(destination)
    return _read(destination)


def _declared(stack: Stack) -> tuple[dict[str, set[str]], list[str]]:
    """Return the principals of each automation account, and the public keys of all trusted authorities."""
    automation: dict[str, set[str]] = {}
    trusted: list[str] = []
    for variables in access(stack).values():
        told: dict[str, Any] | None = variables["access_automation"]
        if told:
            automation.setdefault(told["user"], set()).update(told.get("principals") or [told["user"]])
            trusted += variables["access_ca_keys"]
    if not automation:
        want, fix = "a certificate is for it", "Declare roles.access.automation: {user: deploy}"
        raise DeclarationError(f"stack {stack.name}", "got no automation on any host", want, fix)
    return automation, list(dict.fromkeys(trusted))


def _principals(automation: dict[str, set[str]], given: Sequence[str]) -> list[str]:
    known = sorted(set().union(*automation.values()))
    for principal in given:
        if principal not in known:
            fix = hint(principal, known, "Take one of these")
            raise DeclarationError("--principal", f"got {principal!r}", f"principals here: {', '.join(known)}", fix)
    return list(given) or known


def _key(stack: Stack, given: Path | None) -> tuple[Path, Path]:
    """Return the public key that is to be signed, and where the certificate goes."""
    if given is None:
        logins = [login for endpoint in stack.endpoints.values() for login in endpoint.logins if login.certificate]
        places = {(str(login.key), str(login.certificate)) for login in logins}
        if len(places) != 1:
            got = (
                f"got {len(places)} logins with a key and a certificate" if places else "got no login with certificate"
            )
            want = "the certificate is for one key"
            raise DeclarationError(f"stack {stack.name}", got, want, "Say --key PATH, or add certificate: to the login")
        [(private, certificate)] = places
        public, destination = Path(f"{private}.pub"), Path(certificate)
    else:
        private = str(given.expanduser()).removesuffix(".pub")
        public, destination = Path(f"{private}.pub"), Path(f"{private}-cert.pub")  # where ssh looks for it
    if not public.is_file():
        got, fix = f"got no file {public}", f"Make it with {command('ssh-keygen -t ed25519 -f {}', private)}"
        raise SetupError("the automation's key", got, "its public key is signed", fix)
    if not destination.parent.is_dir():
        got, want = f"got no directory {destination.parent}", "the certificate goes there"
        raise SetupError("the automation's key", got, want, "Make it")
    return public, destination


def _signing(stack: Stack, authority: str, trusted: list[str], directory: Path) -> list[str]:
    """Return how ssh-keygen is told to sign with *authority*, having looked that hosts trust it."""
    if authority == AGENT:
        listed, how = _lines("ssh-add", "-L"), ["-U"]
    elif authority.startswith(PKCS11):
        library = authority.removeprefix(PKCS11)
        listed, how = _lines("ssh-keygen", "-D", library), ["-D", library]
    else:
        return ["-s", str(_authority_file(stack, Path(authority).expanduser(), trusted))]
    held = [line for line in listed if _trusts(trusted, line)]
    if not held:
        raise _not_trusted(f"{authority} with {len(listed)} key{'s' * (len(listed) != 1)}")
    public = directory / "authority.pub"
    public.write_text(f"{held[0]}\n")
    return [*how, "-s", str(public)]


def _authority_file(stack: Stack, path: Path, trusted: list[str]) -> Path:
    if not path.is_file():
        want = f"an authority is the path of its private key, {AGENT}, or {PKCS11}LIBRARY"
        raise SetupError("--ca", f"got no file {path}", want, "Correct it")
    if path.resolve().is_relative_to(stack.project.resolve()):
        want = "whoever has the repository would be let in everywhere"
        raise Refused("--ca", f"got {path}, which lies in the project", want, "Move it away, and make a new one")
    beside = path.with_name(f"{path.name}.pub")
    lines = beside.read_text().splitlines() if beside.is_file() else _lines("ssh-keygen", "-y", "-f", str(path))
    if not any(_trusts(trusted, line) for line in lines):
        raise _not_trusted(str(path))
    return path


def _trusts(trusted: list[str], line: str) -> bool:
    return line.split()[:2] in [key.split()[:2] for key in trusted]


def _not_trusted(which: str) -> Refused:
    want, fix = "hosts trust the authorities under roles.access.ca_keys", "Take one of those, or declare this one first"
    return Refused("--ca", f"got {which}", want, fix)


def _read(path: Path) -> Certificate:
    from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

    found = load_ssh_public_identity(path.read_bytes())
    assert isinstance(found, SSHCertificate), "ssh-keygen -s makes certificates"
    until = datetime.fromtimestamp(found.valid_before, UTC)
    return Certificate(path, until, found.serial, tuple(name.decode() for name in found.valid_principals))


def _ssh_keygen(*arguments: str) -> None:
    _run("ssh-keygen", "-q", *arguments)


def _lines(*argv: str) -> list[str]:
    return [line for line in _run(*argv).splitlines() if line.strip()]


def _run(*argv: str) -> str:
    """Return what a program prints; it asks for a passphrase or a PIN by itself, on the terminal."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except FileNotFoundError:
        want = "OpenSSH signs the certificate"
        raise SetupError("this computer", f"got no {argv[0]}", want, "Install openssh-client") from None
    if done.returncode:
        said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-2:]) or f"ended with {done.returncode}"
        raise StepFailed(argv[0], f'it said "{said}"', "no certificate was issued", "Mend that, then run it again")
    return done.stdout
