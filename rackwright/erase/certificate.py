"""The certificate of what was erased: a JSON document, signed by `ssh-keygen -Y sign` with a key of the operator's."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from rackwright.erase.plan import METHODS
from rackwright.errors import RackwrightError, SetupError, StepFailed

NAMESPACE = "rackwright-erasure"
"""What the signature is for: one made for anything else does not count here."""
SCHEMA: Literal[1] = 1
_UNSIGNED, _SIGNATURE = ".unsigned", ".sig"


class NotProved(RackwrightError):
    """A certificate that shows nothing: changed, signed by somebody else, or none at all."""

    exit_status = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _method(word: str) -> str:
    if word not in METHODS:
        raise ValueError(f"methods are {', '.join(METHODS)}")
    return word


class Verification(_Model):
    """What was found when all of a drive was read back, past the page cache."""

    bytes_read: int
    block_bytes: int
    blocks_with_content: Literal[0]
    ended_at: AwareDatetime


class Nist(_Model):
    """The term of NIST for the method, if the drive does what it is told."""

    document: str
    term: Literal["purge", "clear", "none"]


class ErasedDrive(_Model):
    """One drive, and how it was erased."""

    serial: str
    model: str
    bus: str
    size_bytes: int = Field(gt=0)
    held: str
    """What was remembered of its content, in the words of the consent."""
    method: Annotated[str, AfterValidator(_method)]
    nist: Nist
    command: str
    tool: str
    kernel: str
    started_at: AwareDatetime
    ended_at: AwareDatetime
    verification: Verification

    @model_validator(mode="after")
    def _was_read_whole(self) -> Self:
        if self.verification.bytes_read != self.size_bytes:
            raise ValueError(f"{self.verification.bytes_read} of {self.size_bytes} bytes were read back")
        return self


class Certificate(_Model):
    """What one run of `rackwright drive erase` has erased and read back."""

    schema_version: Literal[1] = SCHEMA
    rackwright: str
    fleet: str
    stack: str
    host: str
    identity: dict[str, str]
    """By which the machine was known: its sort and value."""
    by: str
    """Who ran it, and on which computer; by that computer's own word."""
    drives: tuple[ErasedDrive, ...] = Field(min_length=1)


# --- writing ----------------------------------------------------------------------------------------------------------


def write(certificate: Certificate, path: Path, key: Path) -> Path:
    """Write *certificate* to *path* and its signature beside it, and return where that is.

    Raises:
        StepFailed: It could not be signed; it is kept unsigned, and says where.
    """
    unsigned, signature = path.with_name(path.name + _UNSIGNED), signature_path(path)
    _write(unsigned, certificate.model_dump_json(indent=2).encode() + b"\n")
    try:
        _write(signature, sign(unsigned.read_bytes(), key))
    except (RackwrightError, OSError) as error:
        command = f"ssh-keygen -Y sign -n {NAMESPACE} -f KEY < {unsigned} > {signature}"
        fix = f"The drives are erased. Mend that, run `{command}`, and rename {unsigned} to {path}"
        raise StepFailed(str(unsigned), str(error), "a certificate is signed", fix) from None
    unsigned.rename(path)
    return signature


def signature_path(path: Path) -> Path:
    return path.with_name(path.name + _SIGNATURE)


def sign(content: bytes, key: Path) -> bytes:
    """Return the signature of *content*; of a public key, the agent has the private one.

    Raises:
        SetupError: ssh-keygen is not there, or cannot sign with it.
    """
    done = _ssh_keygen("-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key), stdin=content)
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        want, fix = "ssh-keygen signs with it", "Name a private key, or a public one whose private key the agent has"
        raise SetupError(f"key {key}", f'ssh-keygen says "{_said(done)}"', want, fix)
    return done.stdout


def _write(path: Path, content: bytes) -> None:
    """Write all of *content* to *path* or nothing, and have it on the disk."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            Path(file.name).rename(path)
        except BaseException:
            Path(file.name).unlink()
            raise


# --- reading ----------------------------------------------------------------------------------------------------------


def prove(path: Path, allowed_signers: Path) -> tuple[Certificate, str]:
    """Return the certificate in *path* and who has signed it.

    Raises:
        SetupError: A file is not there, or ssh-keygen is not.
        NotProved: It is not as somebody in *allowed_signers* has signed it, or is no certificate of this sort.
    """
    signature = signature_path(path)
    content = _read(path, "the certificate")
    _read(signature, "its signature, beside it")
    _read(allowed_signers, "who may sign: lines of ssh-keygen(1), ALLOWED SIGNERS")
    signer = _signer(path, content, signature, allowed_signers)
    try:
        return Certificate.model_validate_json(content), signer
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        got = f"it is signed by {signer}, and is no certificate: {place or 'it'}: {first['msg']}"
        raise NotProved(str(path), got, f"one of schema {SCHEMA} is", "Ask who signed it") from None


def _signer(path: Path, content: bytes, signature: Path, allowed_signers: Path) -> str:
    """Return who has signed *content*, having proved it."""
    files = ("-f", str(allowed_signers), "-s", str(signature))
    asked = _ssh_keygen("-Y", "find-principals", *files)
    told = asked.stdout.decode(errors="replace").replace("\n", ",") if asked.returncode == 0 else ""
    principals = [principal.strip() for principal in told.split(",") if principal.strip()]
    for principal in principals:
        proved = _ssh_keygen("-Y", "verify", *files, "-I", principal, "-n", NAMESPACE, stdin=content)
        if proved.returncode == 0:
            return principal
    if principals:
        got = f"it is not what {', '.join(principals)} has signed for {NAMESPACE}"
        fix = "It or its signature was changed, or signed for something else: get both anew from where they are kept"
        raise NotProved(str(path), got, "not a byte of a certificate changes", fix)
    got, want = f'nobody in {allowed_signers} has signed it: "{_said(asked)}"', "a known signer has"
    raise NotProved(str(path), got, want, "Look whose key it is, or whether its signature was changed")


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError(str(path), f"got {error.strerror}", f"it is {what}", "Correct the path") from None


def _ssh_keygen(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=stdin, capture_output=True, check=False)
    except FileNotFoundError:
        fix = "Install OpenSSH's client (openssh-client), 8.2 or later"
        raise SetupError(
            "ssh-keygen", "got no such program", "certificates are signed and proved with it", fix
        ) from None


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = [line.strip() for text in (done.stdout, done.stderr) for line in text.decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "nothing")
