"""Signatures of SSH keys over messages, which ssh-keygen makes and checks."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from workloads.errors import Diagnostic, UserError
from workloads.foreign import InvalidData, read_file

BYTES_MAX = 16 << 10
"""Most bytes of a signature."""
SIGNERS_BYTES_MAX = 1 << 20


def sign(content: bytes, key: Path, namespace: str) -> bytes:
    """Return the signature of *content* by the private *key*.

    Args:
        namespace: Purpose of the signature; one for another purpose does not pass.

    Raises:
        UserError: ssh-keygen does not sign with the key.
    """
    argv = ("ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key))
    done = subprocess.run(argv, input=content, capture_output=True, check=False)
    if done.returncode:
        problem = f"ssh-keygen does not sign with it: {done.stderr.decode(errors='replace').strip()[:200]}"
        raise UserError(Diagnostic(str(key), problem, "a private key without a passphrase", "Name another key"))
    return done.stdout


def is_signed(content: bytes, signature: bytes, signer: str, signers: Path, namespace: str) -> bool:
    """Return whether *signature* of *content* is that of *signer*, whose public key is in *signers*.

    Args:
        signature: At most `BYTES_MAX` bytes.
        signers: Names with their public keys, in the form of allowed signers of ssh-keygen.
    """
    # a pipe, which holds more than BYTES_MAX: the bytes that were read, and not a file that may change
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(signature)
        options = ("-f", str(signers), "-I", signer, "-n", namespace, "-s", f"/dev/fd/{reading}")
        argv = ("ssh-keygen", "-q", "-Y", "verify", *options)
        done = subprocess.run(argv, input=content, capture_output=True, check=False, pass_fds=(reading,))
    finally:
        os.close(reading)
    return done.returncode == 0


def check_signers(signers: Path, names: Iterable[str]) -> None:
    """Check that *signers* has a line for each of *names*.

    Raises:
        UserError: The file cannot be read, or a name is not there.
    """
    try:
        lines = read_file(signers, SIGNERS_BYTES_MAX).decode(errors="replace").splitlines()
    except (OSError, InvalidData) as error:
        problem = f"the file cannot be read: {error}"
        raise UserError(Diagnostic(str(signers), problem, "names of sites with their public keys")) from None
    known = {name for line in lines if line.split() for name in line.split()[0].split(",")}
    if missing := [name for name in names if name not in known]:
        problem, expected = (
            f"no key of {', '.join(missing)}",
            "a line SITE KEY for each member, such as a ssh-ed25519 …",
        )
        raise UserError(Diagnostic(str(signers), problem, expected, "Ask these sites for their public keys"))
