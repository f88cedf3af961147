"""A published model: a directory with the model's files, and model.json, which has their digests and lineage.

digits-int8/
    model.json          the metadata; its presence means that all files are complete
    model.onnx          a file of the model, with its size and sha256 in model.json
    weights.bin         the weights of a large model, which servers map into memory
.digits-int8.partial/   incomplete
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from workloads.checkpoint import disk
from workloads.errors import Diagnostic, UserError
from workloads.foreign import InvalidData, open_regular, parse_json
from workloads.output_directory import OutputDirectory, OutputKind

NAME = "model.json"
MANIFEST_BYTES = 4 << 20
"""The largest model.json, in bytes: its lineage holds reports, and no weights."""
WEIGHTS = "weights.bin"
"""A file of plain weights: no content of it can harm its reader."""
AHEAD_BYTES = 4 << 30
AHEAD_STEP = 128 << 10
"""Bytes of one read-ahead: Linux reads at most a drive's readahead, this by default, at once: mm/readahead.c."""
LANGUAGE = ("llama.cpp", "vllm")
"""Runtimes of language models."""
NO_REPORT = "null, because a language model has no report of its accuracy by `python -m workloads.quantize`"
WAIVE = "Write `gate: {accuracy_kept: null}`; `rackwright server iterate --at-least` has a floor for each new model"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
"""Types by their names in KServe's protocol. BF16 has no type in NumPy."""


class StrictModel(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Tensor(StrictModel):
    """An input or output of a model."""

    name: str = Field(min_length=1)
    datatype: Datatype
    shape: tuple[int, ...]
    """The sizes; -1 means any size, and a first -1 is the batch."""


class ModelFile(StrictModel):
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def _file_name(name: str) -> str:
    if "/" in name or not name.isprintable() or name in ("", ".", "..", NAME):
        raise ValueError(f"{name!r} names no file beside {NAME}")
    return name


class Model(StrictModel):
    """The metadata of a published model."""

    format: Literal["rackwright model 1"] = "rackwright model 1"
    name: str = Field(pattern=NAME_PATTERN)
    version: str = Field(pattern=NAME_PATTERN)
    runtime: Literal["onnx", "torch", "llama.cpp", "tensorrt", "vllm"]
    files: Mapping[Annotated[str, AfterValidator(_file_name)], ModelFile]
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    lineage: Mapping[str, Any] = {}
    """The model's sources and settings, and the result of its gate."""

    @property
    def batches(self) -> bool:
        """Whether one batch can hold rows of several requests."""
        tensors = (*self.inputs, *self.outputs)
        return bool(tensors) and all(tensor.shape[:1] == (-1,) for tensor in tensors)


class DamagedModel(UserError):
    """A model whose files differ from what was published."""

    exit_status = 1


def read(directory: Path) -> Model:
    """Return the metadata of the model in *directory*; its files are not read.

    Raises:
        UserError: *directory* has no valid model.json.
    """
    path = directory / NAME
    try:
        with open_regular(path) as file:
            content = file.read(MANIFEST_BYTES + 1)
    except OSError as error:
        help = (
            "Publish a model with `python -m workloads.quantize`, `workloads.serving.gguf` or `workloads.serving.vllm`"
        )
        problem = f"the file cannot be read: {error.strerror}"
        raise UserError(Diagnostic(str(path), problem, "the model.json of a published model", help)) from error
    return parse(content, path)


def parse(content: bytes, path: Path) -> Model:
    """Return the metadata in *content*, the text of a model.json.

    Args:
        path: The file of *content*, for messages.

    Raises:
        UserError: *content* is too long or invalid.
    """
    help = "Publish the model again, with --replace"
    if len(content) > MANIFEST_BYTES:
        problem, expected = "the file is too large for a model.json", f"at most {MANIFEST_BYTES} bytes"
        raise UserError(Diagnostic(str(path), problem, expected, help))
    try:
        parse_json(content, MANIFEST_BYTES)  # the bounds; strict types accept a list as a tuple in text alone
        return Model.model_validate_json(content)
    except (ValidationError, InvalidData) as error:
        wrong = str(error)
        if isinstance(error, ValidationError):
            problems = error.errors(include_url=False, include_input=False)[:8]
            wrong = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
        problem, expected = f"the file is not a model.json: {wrong}", 'the format "rackwright model 1"'
        raise UserError(Diagnostic(str(path), problem, expected, help)) from None


def check_files(directory: Path, model: Model) -> None:
    """Check that all files of *model* are regular files in *directory*, of the right size; their content is not read.

    Raises:
        DamagedModel: the files differ; the message names each of them.
    """
    _raise_flaws(directory, [_size_flaw(directory / name, file) for name, file in sorted(model.files.items())])


def fetch_ahead(directory: Path, model: Model) -> None:
    """Ask the kernel to read all files of *model* now: a process that maps a file waits for one page at a time.

    A file that cannot be opened is skipped: its reader reports that. Nothing is read ahead of a model that is too large
    to stay in memory.
    """
    if sum(file.bytes for file in model.files.values()) > AHEAD_BYTES:
        return
    for name, entry in model.files.items():
        with contextlib.suppress(OSError), open_regular(directory / name) as file:
            for first in range(0, entry.bytes, AHEAD_STEP):
                os.posix_fadvise(file.fileno(), first, AHEAD_STEP, os.POSIX_FADV_WILLNEED)


def verify(directory: Path, model: Model, names: Collection[str] | None = None) -> None:
    """Check the size and sha256 of all files of *model*, or of those in *names*; of all files also the version.

    Raises:
        DamagedModel: files differ, or are those of another version; the message names each of them.
    """
    if names is None and (version := version_of(model.files)) != model.version:
        _raise_flaws(directory, [f"{NAME} has the files of version {version}, and says {model.version}"])
    files = {name: file for name, file in sorted(model.files.items()) if names is None or name in names}
    _raise_flaws(directory, [_flaw(directory / name, file) for name, file in files.items()])


def _raise_flaws(directory: Path, texts: Collection[str]) -> None:
    if flaws := [text for text in texts if text]:
        expected, help = "files as they were published", "Publish the model again with --replace, or use another copy"
        raise DamagedModel(Diagnostic(str(directory), ", ".join(flaws), expected, help))


def _size_flaw(path: Path, expected: ModelFile) -> str:
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return "" if size == expected.bytes else f"{path.name} has {size} bytes, not {expected.bytes}"


def _flaw(path: Path, expected: ModelFile) -> str:
    if flaw := _size_flaw(path, expected):
        return flaw
    try:
        digest = disk.sha256(path)
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return (
        "" if digest == expected.sha256 else f"{path.name} has the sha256 {digest[:12]}…, not {expected.sha256[:12]}…"
    )


def check_accuracy(model: Model, accuracy_kept: float | None) -> None:
    """Check that the report in the lineage of *model* states at least this accuracy.

    Args:
        accuracy_kept: The least share of the original's accuracy; None: no check.

    Raises:
        UserError: the accuracy is lower, or there is no report.
    """
    if accuracy_kept is None:
        return
    report = model.lineage.get("gate")
    accuracy = report.get("found", {}).get("accuracy_kept") if isinstance(report, Mapping) else None
    if accuracy is None and model.runtime in LANGUAGE:
        problem = f"the gate asks a language model for {accuracy_kept:.2%} of its accuracy"
        raise UserError(Diagnostic(f"{model.name} {model.version}", problem, NO_REPORT, WAIVE))
    if accuracy is None or not accuracy >= accuracy_kept:
        kept = f"the model kept {accuracy:.4%} of its accuracy" if accuracy is not None else ""
        problem = kept or "the model has no report of its accuracy"
        help = "Publish a better model with `python -m workloads.quantize`"
        raise UserError(Diagnostic(f"{model.name} {model.version}", problem, f"at least {accuracy_kept:.2%}", help))


def check_name(name: str) -> None:
    """Check that *name* is a valid name of a model.

    Raises:
        UserError: it is not.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        problem, expected = f"{name!r} is not a name", "letters, digits and . _ -, with a letter or digit first"
        raise UserError(Diagnostic("--name", problem, expected, "Choose another name"))


def publish(
    directory: Path,
    files: Mapping[str, Path],
    name: str,
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    lineage: Mapping[str, Any],
    extra: Mapping[str, bytes] | None = None,
    runtime: Literal["onnx", "llama.cpp", "tensorrt", "vllm"] = "onnx",
    replace: bool = False,
) -> Model:
    """Publish a model, whole or not at all; its version is the beginning of the digest of its files.

    Args:
        directory: The target.
        files: The files to copy, by the name that they get.
        extra: Further files beside the model, such as reports, that do not count for its version.
        replace: Whether the model replaces another one in *directory*.

    Raises:
        UserError: *directory* exists, and holds no model or must not be replaced.
    """
    output = OutputDirectory(directory, MODEL, replace)
    output.check()
    with output.write() as partial:
        entries: dict[str, ModelFile] = {}
        for target, source in files.items():
            with open_regular(source, follow=True) as content:
                digest = disk.copy(content, partial / target)
            entries[target] = ModelFile(bytes=(partial / target).stat().st_size, sha256=digest)
        for target, text in (extra or {}).items():
            disk.write(partial / target, text)
        model = Model(
            name=name, version=version_of(entries), runtime=runtime, files=entries, inputs=inputs, outputs=outputs,
            lineage=lineage,
        )  # fmt: skip
        disk.write(partial / NAME, model.model_dump_json(indent=1).encode() + b"\n")
        output.publish(partial)
    return model


def version_of(files: Mapping[str, ModelFile]) -> str:
    """Return the beginning of the digest over all *files*; it is the same on every computer."""
    digests = json.dumps({name: file.sha256 for name, file in sorted(files.items())})
    return hashlib.sha256(digests.encode()).hexdigest()[:12]


def describe(directory: Path) -> str:
    """Return the published model in *directory* in words; empty if it has none."""
    if not (directory / NAME).is_file():
        return ""
    try:
        model = read(directory)
    except UserError:
        return f"a published model, whose {NAME} cannot be read"
    return f"the model {model.name}, version {model.version}"


MODEL = OutputKind("a published model", describe)
"""Output of `python -m workloads.quantize` and of the publications."""
