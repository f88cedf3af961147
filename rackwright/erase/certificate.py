"""The erasure certificate: a JSON document, signed by `ssh-keygen -Y sign` with a key of the operator."""

import subprocess
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, ValidationError, model_validator

from rackwright.erase.plan import METHODS
from rackwright.errors import Diagnostic, SetupError, StepFailed, UserError, command
from rackwright.files import write_atomic
from rackwright.schema.base import DescribedModel

NAMESPACE = "rackwright-erasure"
"""Purpose of the signature; ssh-keygen rejects a signature that was made for another purpose."""
SCHEMA: Literal[1] = 1
SIGNING_KEY = "a private key, or a public key whose private one is in the agent"
"""The keys with which ssh-keygen can sign, for messages."""
_UNSIGNED, _SIGNATURE = ".unsigned", ".sig"


class CertificateInvalid(UserError):
    """A file is no valid certificate: changed, signed by an unknown key, or of another form."""

    exit_status = 1


class _Schema(DescribedModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _check_method(word: str) -> str:
    if word not in METHODS:
        raise ValueError(f"methods are {', '.join(METHODS)}")
    return word


class Verification(_Schema):
    """The result of a read of the whole drive, past the page cache."""

    bytes_read: int
    """Number of bytes that were read."""
    block_bytes: int
    """Size of a block."""
    blocks_with_content: Literal[0]
    """Number of blocks that are not zeros."""
    ended_at: AwareDatetime
    """End of the read."""


class Nist(_Schema):
    """NIST's term for the method, valid for a drive that executes its commands correctly."""

    document: str
    """The document that defines the term."""
    term: Literal["purge", "clear", "none"]
    """Term for the method."""


class ErasedDrive(_Schema):
    """An erased drive, with the method and its result."""

    serial: str
    """Serial number."""
    model: str
    """Model of the drive."""
    bus: str
    """Bus of the drive."""
    size_bytes: int = Field(gt=0)
    """Size of the drive."""
    held: str
    """Content before the erasure, in the words of the consent."""
    method: Annotated[str, AfterValidator(_check_method)]
    """The method, as `rackwright drive erase` names it."""
    nist: Nist
    """NIST's term for the method."""
    command: str
    """The command that erased the drive."""
    tool: str
    """The tool of that command, with its version."""
    kernel: str
    """Version of the kernel of the host."""
    started_at: AwareDatetime
    """Start of the erasure."""
    ended_at: AwareDatetime
    """End of the erasure."""
    verification: Verification
    """The read of the whole drive after the erasure."""

    @model_validator(mode="after")
    def _was_read_whole(self) -> Self:
        if self.verification.bytes_read != self.size_bytes:
            raise ValueError(f"{self.verification.bytes_read} of {self.size_bytes} bytes were read back")
        return self


class ErasureCertificate(_Schema):
    """The certificate of all drives that one run of `rackwright drive erase` erased and verified."""

    schema_version: Literal[1] = SCHEMA
    """Version of the form of certificates."""
    rackwright: str
    """Version of rackwright."""
    fleet: str
    """Name of the fleet."""
    stack: str
    """Name of the stack."""
    host: str
    """Name of the host."""
    identity: dict[str, str]
    """Kind and value of the identity by which rackwright recognised the machine."""
    by: str
    """User and computer that ran the command, as that computer reports them."""
    drives: tuple[ErasedDrive, ...] = Field(min_length=1)
    """The erased drives."""


# --- writing ----------------------------------------------------------------------------------------------------------


def write(certificate: ErasureCertificate, path: Path, key: Path) -> Path:
    """Write *certificate* to *path* and its signature beside it, and return the path of the signature.

    Raises:
        StepFailed: the certificate could not be signed; names the path of the unsigned one.
    """
    unsigned, signature = path.with_name(path.name + _UNSIGNED), signature_path(path)
    write_atomic(unsigned, certificate.model_dump_json(indent=2).encode() + b"\n")
    try:
        write_atomic(signature, sign(unsigned.read_bytes(), key))
    except (UserError, OSError) as error:
        text = f"ssh-keygen -Y sign -n {NAMESPACE} -f {{}} < {{}} > {{}} && mv {{}} {{}}"
        help = f"Correct the cause, and run {command(text, key, unsigned, signature, unsigned, path)}"
        causes = error.diagnostics if isinstance(error, UserError) else (Diagnostic(str(signature), str(error)),)
        without_signature = Diagnostic(
            str(unsigned), "the certificate has no signature", help=help, note="the drives are erased"
        )
        raise StepFailed(*causes, without_signature) from None
    unsigned.rename(path)
    return signature


def signature_path(path: Path) -> Path:
    return path.with_name(path.name + _SIGNATURE)


def sign(content: bytes, key: Path) -> bytes:
    """Return the signature of *content*; for a public *key*, the SSH agent must have the private one.

    Raises:
        SetupError: ssh-keygen is not installed, or cannot sign with *key*.
    """
    result = _ssh_keygen("-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key), stdin=content)
    if result.returncode or not result.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        problem = f'ssh-keygen cannot sign with it: "{_last_line(result)}"'
        raise SetupError(Diagnostic(f"key {key}", problem, SIGNING_KEY, "Name such a key"))
    return result.stdout


# --- reading ----------------------------------------------------------------------------------------------------------


def verify(path: Path, allowed_signers: Path) -> tuple[ErasureCertificate, str]:
    """Return the certificate in *path* and its signer.

    Raises:
        SetupError: a file does not exist, or ssh-keygen is not installed.
        CertificateInvalid: the file has no valid signature of a signer in *allowed_signers*, or is no certificate.
    """
    signature = signature_path(path)
    content = _read(path, "the certificate")
    _read(signature, "the signature beside the certificate")
    _read(allowed_signers, "a list of allowed signers (ssh-keygen(1), ALLOWED SIGNERS)")
    signer = _signer(path, content, signature, allowed_signers)
    try:
        return ErasureCertificate.model_validate_json(content), signer
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        problem = f"{signer} signed a document that is not a certificate: {place or 'document'}: {first['msg']}"
        help = "Ask the signer for the certificate"
        raise CertificateInvalid(Diagnostic(str(path), problem, f"schema {SCHEMA}", help)) from None


def _signer(path: Path, content: bytes, signature: Path, allowed_signers: Path) -> str:
    """Return the verified signer of *content*.

    Raises:
        CertificateInvalid: *signature* is not valid, or of no allowed signer.
    """
    files = ("-f", str(allowed_signers), "-s", str(signature))
    result = _ssh_keygen("-Y", "find-principals", *files)
    output = result.stdout.decode(errors="replace").replace("\n", ",") if result.returncode == 0 else ""
    principals = [principal.strip() for principal in output.split(",") if principal.strip()]
    for principal in principals:
        verified = _ssh_keygen("-Y", "verify", *files, "-I", principal, "-n", NAMESPACE, stdin=content)
        if verified.returncode == 0:
            return principal
    if principals:
        problem = f"the signature of {', '.join(principals)} for {NAMESPACE} does not match the file"
        expected = "an unchanged file that was signed for this purpose"
        raise CertificateInvalid(
            Diagnostic(str(path), problem, expected, "Copy the file and its signature again from their archive")
        )
    problem = f'no signer in {allowed_signers} has signed the file: "{_last_line(result)}"'
    help = "Check the key of the signer, and copy the signature again"
    raise CertificateInvalid(Diagnostic(str(path), problem, help=help))


def _read(path: Path, description: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError(
            Diagnostic(str(path), f"the file cannot be read: {error.strerror}", description, "Correct the path")
        ) from None


def _ssh_keygen(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=stdin, capture_output=True, check=False)
    except FileNotFoundError:
        problem, expected = "the program ssh-keygen is missing", "OpenSSH 8.2 or later"
        help = "Run `sudo apt-get install openssh-client`"
        raise SetupError(Diagnostic("this computer", problem, expected, help, "it signs certificates")) from None


def _last_line(result: subprocess.CompletedProcess[bytes]) -> str:
    lines = [
        line.strip() for text in (result.stdout, result.stderr) for line in text.decode(errors="replace").splitlines()
    ]
    return next((line for line in reversed(lines) if line), "nothing")
