"""Ed25519 keys that sign the operations log: from a file or from the SSH agent, and the check of their signatures.

A signature covers the bytes of OpenSSH's format SSHSIG, so that `ssh-keygen -Y verify` checks it as well.
"""

import base64
import hashlib
import os
import struct
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rackwright.core import sshsig
from rackwright.core.sshsig import ssh_string
from rackwright.errors import ChangeRefused, Diagnostic, SetupError, command

NAMESPACE = "rackwright-log"
"""Purpose of the signatures; a signature for another purpose does not pass."""
SIGNATURE_BYTES = 64
ALGORITHM = b"ssh-ed25519"
VARIABLE = "RACKWRIGHT_LOG_KEY"
"""The environment variable with the path of the private key, or of the public key of a private one in the agent."""
_EXPECTED = "an Ed25519 key of OpenSSH"


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key."""

    blob: bytes
    """The key in OpenSSH's binary form."""

    @property
    def text(self) -> str:
        """The key as OpenSSH writes it in one line, without a comment."""
        return f"{ALGORITHM.decode()} {base64.b64encode(self.blob).decode('ascii')}"

    @property
    def fingerprint(self) -> str:
        """The fingerprint as `ssh-keygen -l` prints it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii")
        return f"SHA256:{digest.rstrip('=')}"

    @staticmethod
    def parse(text: str) -> "PublicKey":
        """Return the key in a line of OpenSSH.

        Raises:
            ValueError: The line has no Ed25519 key.
        """
        words = text.split()
        if len(words) < 2 or words[0] != ALGORITHM.decode():
            raise ValueError("no Ed25519 key")
        blob = base64.b64decode(words[1], validate=True)
        if blob[: len(ssh_string(ALGORITHM))] != ssh_string(ALGORITHM) or len(blob) != len(ssh_string(ALGORITHM)) + 36:
            raise ValueError("no Ed25519 key")
        return PublicKey(blob)

    def verifies(self, content: bytes, signature: bytes) -> bool:
        """Return whether *signature* is this key's signature of *content*."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.blob[-32:]).verify(signature, signed_bytes(content))
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer(Protocol):
    """A private key that can sign."""

    @property
    def key(self) -> PublicKey: ...

    def sign(self, content: bytes) -> bytes:
        """Return the Ed25519 signature of *content*."""
        ...


def signed_bytes(content: bytes) -> bytes:
    """Return the bytes that a signature of *content* in the log covers."""
    return sshsig.signed_bytes(content, NAMESPACE)


def armor(key: PublicKey, signature: bytes) -> str:
    """Return the text of a signature file, for `ssh-keygen -Y verify`.

    Source: OpenSSH, PROTOCOL.sshsig, section 1.
    """
    fields = (key.blob, NAMESPACE.encode(), b"", b"sha512", ssh_string(ALGORITHM) + ssh_string(signature))
    content = sshsig.MAGIC + struct.pack(">I", 1) + b"".join(map(ssh_string, fields))
    lines = textwrap.wrap(base64.b64encode(content).decode("ascii"), 70)
    return "\n".join(("-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""))


def load_signer(environment: Mapping[str, str], project: Path | None) -> Signer:
    """Return the key that RACKWRIGHT_LOG_KEY names; by default that of this account, created at the first use.

    Args:
        project: The directory of the project, in which no private key may lie.

    Raises:
        SetupError: The key cannot be used.
        ChangeRefused: The private key lies in the project.
    """
    name = environment.get(VARIABLE)
    path = Path(name).expanduser() if name else default_path(environment)
    if path.suffix == ".pub":
        return _AgentSigner(read_public_key(path))
    if project is not None and path.resolve().is_relative_to(project.resolve()):
        problem, note = f"the key {path} is in the project", "every reader of the repository could sign entries"
        help = "Move it to another directory"
        raise ChangeRefused(Diagnostic(VARIABLE, problem, "a key outside of the project", help, note))
    if not name and not path.exists():
        _create(path)
    return _FileSigner(path)


def default_path(environment: Mapping[str, str]) -> Path:
    """Return the path of this account's key."""
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "rackwright" / "log_ed25519"


def read_public_key(path: Path) -> PublicKey:
    """Return the public key in *path*.

    Raises:
        SetupError: The file cannot be read, or is no Ed25519 key.
    """
    try:
        return PublicKey.parse(path.read_text(encoding="ascii"))
    except OSError as error:
        raise _key_error(path, f"the file cannot be read: {error.strerror}") from None
    except ValueError:
        raise _key_error(path, "the file is no public Ed25519 key") from None


class _FileSigner:
    """A private key in a file."""

    def __init__(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

        try:
            if path.stat().st_mode & 0o077:
                help = f"Run {command('chmod 600 {}', path)}"
                raise _key_error(path, "other accounts may read the private key", "mode 0600", help)
            key = load_ssh_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise _key_error(path, f"the file cannot be read: {error.strerror}") from None
        except TypeError:
            help = f"Run {command('ssh-add {}', path)}, and set {VARIABLE} to the path of the public key"
            raise _key_error(
                path, "the private key has a passphrase", "a key without one, or the agent", help
            ) from None
        except ValueError:
            raise _key_error(path, "the file is no private key") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise _key_error(path, "the key is no Ed25519 key")
        self._private = key
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.key = PublicKey.parse(public.decode("ascii"))

    def sign(self, content: bytes) -> bytes:
        return self._private.sign(signed_bytes(content))


class _AgentSigner:
    """A private key in the SSH agent, which may ask before each signature or keep the key on a token."""

    def __init__(self, key: PublicKey) -> None:
        self.key = key

    def sign(self, content: bytes) -> bytes:
        import paramiko

        where, help = f"key {self.key.fingerprint}", "Add the private key with `ssh-add`"
        agent = paramiko.Agent()
        try:
            held = next((each for each in agent.get_keys() if each.asbytes() == self.key.blob), None)
            if held is None:
                raise SetupError(Diagnostic(where, "the SSH agent does not have the private key", help=help))
            answer = bytes(held.sign_ssh_data(signed_bytes(content)))
        except (paramiko.SSHException, OSError) as error:
            raise SetupError(Diagnostic(where, f"the SSH agent does not sign: {error}", help=help)) from None
        finally:
            agent.close()
        if answer[: len(ssh_string(ALGORITHM))] != ssh_string(ALGORITHM):
            raise SetupError(Diagnostic(where, "the SSH agent returned another sort of signature"))
        return answer[-SIGNATURE_BYTES:]


def _create(path: Path) -> None:
    """Create a private key at *path*; of two processes that do it at once, one wins."""
    import contextlib
    import tempfile

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # 0600, and linked when complete
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
        public = _FileSigner(path).key.text
        path.with_name(f"{path.name}.pub").write_text(f"{public}\n", encoding="ascii")
    except OSError as error:
        help = f"Set {VARIABLE} to the path of a key"
        raise _key_error(path, f"the key cannot be created: {error.strerror}", help=help) from None


def _key_error(path: Path, problem: str, expected: str = _EXPECTED, help: str = "") -> SetupError:
    create = command("ssh-keygen -t ed25519 -N '' -f FILE")
    return SetupError(
        Diagnostic(str(path), problem, expected, help or f"Name another one in {VARIABLE}, or create one with {create}")
    )
