"""Metadata of a model, and things that are none of its files."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from workloads.serving.model import NAME

DIGEST = "0" * 64


def write_metadata(place: Path, file: str) -> None:
    files = {file: {"bytes": 3, "sha256": DIGEST}}
    metadata = {"name": "digits", "version": "1", "runtime": "onnx", "files": files}
    (place / NAME).write_text(json.dumps(metadata))


OTHERS: dict[str, Callable[[Path], None]] = {
    "a link out of the directory": lambda path: path.symlink_to("/etc/hostname"),
    "a link to a file beside it": lambda path: path.symlink_to(NAME),
    "a link to a device that never ends": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("missing"),
    "a FIFO without a writer": os.mkfifo,
    "a directory": lambda path: path.mkdir(),
    "a file of another size": lambda path: path.write_bytes(b"abcd") and None,
}
