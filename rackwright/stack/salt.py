"""The key of the digests of a fleet's files."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from rackwright.errors import DeclarationError, Diagnostic, command
from rackwright.locations import relative_path

SALT_BYTES_MIN = 8
"""A shorter salt can be guessed; a full disk leaves an empty one."""


def salt(fleet: str, project: Path) -> bytes:
    """Return the fleet's salt, created at the first call; ``RACKWRIGHT_SALT_FILE`` names another file."""
    other_file = os.environ.get("RACKWRIGHT_SALT_FILE")
    path = Path(other_file) if other_file else project / ".rackwright" / "salts" / fleet
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # the file has the mode 0600, and is linked when it is complete: two may run at once
        with tempfile.NamedTemporaryFile(dir=path.parent) as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    content = path.read_bytes()
    if len(content) < SALT_BYTES_MIN:
        problem = f"got {len(content)} bytes"
        expected = f"a salt has {SALT_BYTES_MIN} or more: it keys the digests of secrets"
        remove = command("rm {}", str(path))
        help = f"Restore it from another computer or a backup; or run {remove}, and the next run makes another"
        help = f"{help}, with which each digest in the state differs once"
        raise DeclarationError(Diagnostic(str(relative_path(path)), problem, expected, help))
    return content
