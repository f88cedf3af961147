"""A directory that can be served: a model's files, and model.json, which says what they are and where they come from.

digits-int8/
    model.json          what the model is; its presence says that all files are there
    model.onnx          a file of it, by size and sha256
    weights.bin         the numbers of a large one, which are mapped into memory as they lie there
.digits-int8.partial/   being written
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workloads.checkpoint import disk
from workloads.errors import WorkloadError

NAME = "model.json"
MANIFEST_BYTES = 4 << 20
"""The most that a model.json may have: its lineage has reports, and no numbers of the model."""
WEIGHTS = "weights.bin"
"""Numbers alone: whatever is in it, to read it harms nobody."""
AHEAD_BYTES = 4 << 30
AHEAD_STEP = 128 << 10
"""Linux reads no more at once than a drive's readahead, this by default, or its largest request: mm/readahead.c."""
NAMED = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
"""As KServe's protocol calls them. BF16 has no type in NumPy."""


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Tensor(Strict):
    """An input or output."""

    name: str = Field(min_length=1)
    datatype: Datatype
    shape: tuple[int, ...]
    """-1 where any number will do; a first one of -1 is the batch."""


class File(Strict):
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Model(Strict):
    """What is served, and where it comes from."""

    format: Literal["rackwright model 1"] = "rackwright model 1"
    name: str = Field(pattern=NAMED)
    version: str = Field(pattern=NAMED)
    runtime: Literal["onnx", "torch", "llama.cpp", "tensorrt", "vllm"]
    files: Mapping[str, File]
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    lineage: Mapping[str, Any] = {}
    """What it was made from and how, down to the gate it passed."""

    @property
    def batches(self) -> bool:
        """Whether rows of several requests can be computed together."""
        tensors = (*self.inputs, *self.outputs)
        return bool(tensors) and all(tensor.shape[:1] == (-1,) for tensor in tensors)


class DamagedModel(WorkloadError):
    """A model whose files are not as they were written."""

    exit_status = 1


def read(directory: Path) -> Model:
    """Return what *directory* says it holds, its files not yet looked at.

    Raises:
        WorkloadError: it has no model.json, or one that is none.
    """
    path = directory / NAME
    try:
        with path.open("rb") as file:
            content = file.read(MANIFEST_BYTES + 1)
    except OSError as error:
        fix = "Let `python -m workloads.quantize`, or of workloads.serving `gguf` or `vllm`, write one"
        raise WorkloadError(str(path), f"got {error.strerror}", "a model has it", fix) from error
    return parse(content, path)


def parse(content: bytes, path: Path) -> Model:
    """Return the model that *content* describes, the text of a model.json.

    Args:
        path: The file that it was read from, for the message.

    Raises:
        WorkloadError: it is too long, or describes no model.
    """
    fix = "Publish the model again"
    if len(content) > MANIFEST_BYTES:
        raise WorkloadError(str(path), f"got more than {MANIFEST_BYTES} bytes", "it has at most so many", fix)
    try:
        return Model.model_validate_json(content)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)[:8]
        wrong = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
        raise WorkloadError(str(path), f"got {wrong}", 'it is as "rackwright model 1" is', fix) from None


def fetch_ahead(directory: Path, model: Model) -> None:
    """Ask the kernel to read all files of *model* now: whoever maps them waits for one page at a time.

    What cannot be opened is told of by whoever reads it; what is too large to stay in memory is left to them as well.
    """
    if sum(file.bytes for file in model.files.values()) > AHEAD_BYTES:
        return
    for name, told in model.files.items():
        with contextlib.suppress(OSError), (directory / name).open("rb") as file:
            for first in range(0, told.bytes, AHEAD_STEP):
                os.posix_fadvise(file.fileno(), first, AHEAD_STEP, os.POSIX_FADV_WILLNEED)


def prove(directory: Path, model: Model, names: Collection[str] | None = None) -> None:
    """Return if all files of *model*, or those of *names*, are as they were written.

    Raises:
        DamagedModel: one is not; names each of those.
    """
    files = {name: file for name, file in sorted(model.files.items()) if names is None or name in names}
    flaws = [flaw for name, file in files.items() if (flaw := _flaw(directory / name, file))]
    if flaws:
        want = "every file has to be as it was written"
        raise DamagedModel(str(directory), ", ".join(flaws), want, "Publish the model anew, or take another copy")


def _flaw(path: Path, wanted: File) -> str:
    try:
        if (size := path.stat().st_size) != wanted.bytes:
            return f"{path.name} has {size} bytes, not {wanted.bytes}"
        digest = disk.sha256(path)
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return "" if digest == wanted.sha256 else f"{path.name} has the sha256 {digest[:12]}…, not {wanted.sha256[:12]}…"


def judge(model: Model, accuracy_kept: float | None) -> None:
    """Return if the report in the lineage of *model* says that it keeps so much of its original's accuracy.

    Args:
        accuracy_kept: None asks for nothing.

    Raises:
        WorkloadError: it keeps less, or there is no such report.
    """
    if accuracy_kept is None:
        return
    report = model.lineage.get("gate")
    found = report.get("found", {}).get("accuracy_kept") if isinstance(report, Mapping) else None
    if found is None or not found >= accuracy_kept:
        got = "got no report of its accuracy" if found is None else f"got {found:.4%} of its accuracy kept"
        want, fix = f"{accuracy_kept:.2%} are asked for", "Publish a better one with `python -m workloads.quantize`"
        raise WorkloadError(f"{model.name} {model.version}", got, want, fix)


def check_name(name: str) -> None:
    """Return if a model can be called *name*.

    Raises:
        WorkloadError: it cannot.
    """
    if not re.fullmatch(NAMED, name):
        want = "a name has letters, digits and . _ -, and begins with one of the first two"
        raise WorkloadError("--name", f"got {name!r}", want, "Take another")


def publish(
    directory: Path,
    files: Mapping[str, Path],
    name: str,
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    lineage: Mapping[str, Any],
    extra: Mapping[str, bytes] | None = None,
    runtime: Literal["onnx", "llama.cpp", "tensorrt", "vllm"] = "onnx",
) -> Model:
    """Write a directory that can be served, whole or not at all; its version is the beginning of its files' digest.

    Args:
        directory: Not there yet, or a model's, which the new one takes the place of.
        files: By the name they get, copied from where they are.
        extra: Further files that lie beside the model and are no part of its version, such as reports.

    Raises:
        WorkloadError: *directory* is there and is no model's.
    """
    if directory.exists() and not (directory / NAME).is_file():
        want = "a model is written where nothing is, or over a model"
        raise WorkloadError(str(directory), "it is there and has no model.json", want, "Name another directory")
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    told: dict[str, File] = {}
    for target, source in files.items():
        with source.open("rb") as content:
            digest = disk.copy(content, partial / target)
        told[target] = File(bytes=(partial / target).stat().st_size, sha256=digest)
    for target, text in (extra or {}).items():
        disk.write(partial / target, text)
    model = Model(
        name=name, version=version_of(told), runtime=runtime, files=told, inputs=inputs, outputs=outputs,
        lineage=lineage,
    )  # fmt: skip
    disk.write(partial / NAME, model.model_dump_json(indent=1).encode() + b"\n")
    replace(partial, directory)
    return model


def version_of(files: Mapping[str, File]) -> str:
    """Return the beginning of the digest over all *files*: the same model has the same version, wherever it is made."""
    told = json.dumps({name: file.sha256 for name, file in sorted(files.items())})
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def replace(partial: Path, directory: Path) -> None:
    """Put *partial* in the place of *directory*; a crash between the two renames leaves both, under their own names."""
    old = directory.with_name(f".{directory.name}.replaced")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    partial.rename(directory)
    handle = os.open(directory.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    shutil.rmtree(old, ignore_errors=True)
