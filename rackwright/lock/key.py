"""Who signs the local repository of a fleet: a key of OpenPGP that is made here, kept in one file, and asks nobody.

A key is for hosts that are served without TLS, over a port where another program may listen before us: what is not
signed by it, apt does not take. Its public half stands in the lock; the private one never leaves this directory.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rackwright.errors import Refused, SetupError


def public_key(path: Path, fleet: str) -> str:
    """Return the public half of the key in the file *path*, which is made if missing."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _keyring() as gpg:
            gpg("--passphrase", "", "--quick-generate-key", f"rackwright mirror of {fleet}", "ed25519", "sign", "never")
            beside = path.with_name(f".{path.name}")
            beside.touch(mode=0o600)
            beside.write_text(gpg("--passphrase", "", "--armor", "--export-secret-keys"))
            beside.rename(path)
    with _keyring() as gpg:
        gpg("--import", str(path))
        return gpg("--armor", "--export").strip() + "\n"


def check(path: Path, fleet: str, locked: str | None) -> str:
    """Return the public half of the key in *path*, which has to be the one that is *locked*, where one is.

    Raises:
        Refused: it is not: the lock was written where another key is.
    """
    if locked is not None and not path.exists():
        fix = f"Copy {path.name} from where the lock was written, or take `key` out of the lock for a new one"
        raise Refused(str(path), "got no private key", "the lock names who signs", fix)
    found = public_key(path, fleet)
    if locked not in (None, found):
        fix = f"Copy {path.name} from where the lock was written, or take `key` out of the lock for this one"
        raise Refused(str(path), "got another key", "the lock names who signs", fix)
    return found


def signed(text: str, path: Path) -> str:
    """Return *text* with the signature of the key in the file *path*, in clear."""
    with _keyring() as gpg:
        gpg("--import", str(path))
        return gpg("--passphrase", "", "--armor", "--clear-sign", text=text)


class _Gpg:
    def __init__(self, home: str) -> None:
        self._home = home

    def __call__(self, *arguments: str, text: str | None = None) -> str:
        argv = ["gpg", "--homedir", self._home, "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback"]
        try:
            done = subprocess.run([*argv, *arguments], input=text, capture_output=True, text=True)
        except FileNotFoundError:
            fix = "Run `sudo apt-get install gpg gpg-agent`"
            raise SetupError("this computer", "gpg not found", "it signs the local repository", fix) from None
        if done.returncode:
            said = " / ".join(done.stderr.strip().splitlines()[-2:]) or "nothing"
            raise SetupError("gpg", f'it ended with {done.returncode} and said "{said}"', "it signs", "See gpg(1)")
        return done.stdout


@contextmanager
def _keyring() -> Iterator[_Gpg]:
    """Yield gpg with a keyring of its own, and end the agent that it leaves behind."""
    with tempfile.TemporaryDirectory(prefix="rackwright-gpg-", ignore_cleanup_errors=True) as home:
        try:
            yield _Gpg(home)
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], capture_output=True, check=False)
