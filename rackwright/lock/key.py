"""Sign the local repository of a fleet with an OpenPGP key that rackwright makes and keeps in one file.

Hosts use the local repository without TLS, over a port where another program could listen first. apt on hosts
therefore rejects anything that this key did not sign. The lock has the public key. The private key stays in its
directory and has no passphrase.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rackwright import scratch
from rackwright.errors import ChangeRefused, Diagnostic, SetupError
from rackwright.files import write_atomic


def public_key(path: Path, fleet: str) -> str:
    """Return the public key of the key file *path*, and make the file if it is missing."""
    if not path.exists():
        with keyring() as gpg:
            gpg("--passphrase", "", "--quick-generate-key", f"rackwright mirror of {fleet}", "ed25519", "sign", "never")
            write_atomic(path, gpg("--passphrase", "", "--armor", "--export-secret-keys"), 0o600)
    with keyring() as gpg:
        gpg("--import", str(path))
        return gpg("--armor", "--export").strip() + "\n"


def check(path: Path, fleet: str, locked: str | None) -> str:
    """Return the public key of the key file *path*, after a check that it equals the *locked* key, if there is one.

    Raises:
        ChangeRefused: the file is missing or has another key: the lock was written on another computer.
    """
    expected = "the private key of `key` in the lock, which signs the local repository"
    copy = f"Copy {path.name} from the computer that wrote the lock"
    if locked is not None and not path.exists():
        help = f"{copy}, or remove `key` from the lock for a new key"
        raise ChangeRefused(
            Diagnostic(str(path), "the private key is missing", expected, help, id="signing-key-missing")
        )
    public = public_key(path, fleet)
    if locked not in (None, public):
        help = f"{copy}, or remove `key` from the lock to use this key"
        raise ChangeRefused(
            Diagnostic(str(path), "the file has another private key", expected, help, id="signing-key-missing")
        )
    return public


def sign(text: str, path: Path) -> str:
    """Return *text* with a clear-text signature of the key in the file *path*."""
    with keyring() as gpg:
        gpg("--import", str(path))
        return gpg("--passphrase", "", "--armor", "--clear-sign", text=text)


class GpgFailed(SetupError):
    """gpg ended with another status than 0."""


class Gpg:
    """gpg with a keyring of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __call__(self, *arguments: str, text: str | None = None) -> str:
        argv = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback"]
        try:
            done = subprocess.run([*argv, *arguments], input=text, capture_output=True, text=True)
        except FileNotFoundError:
            problem, help = "the program gpg is missing", "Run `sudo apt-get install gpg gpg-agent`"
            note = "it signs the local repository"
            raise SetupError(Diagnostic("this computer", problem, help=help, note=note)) from None
        if done.returncode:
            output = " / ".join(done.stderr.strip().splitlines()[-2:]) or "nothing"
            problem = f'it failed with status {done.returncode}, and printed "{output}"'
            note, help = "it signs the local repository", "Correct the reported error, and run the command again"
            raise GpgFailed(Diagnostic("gpg", problem, help=help, note=note, source="gpg(1)"))
        return done.stdout


@contextmanager
def keyring() -> Iterator[Gpg]:
    """Yield gpg with a temporary keyring, and end the agent that gpg starts."""
    with scratch.directory() as home:
        try:
            yield Gpg(home)
        finally:
            subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], capture_output=True, check=False)
