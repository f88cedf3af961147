"""The LoRA adapters of a server, as the fleet and the directories on this computer have them."""

import os
from collections.abc import Mapping
from hashlib import file_digest
from pathlib import Path
from typing import Any

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.foreign import open_regular, parse_object, read_bounded
from rackwright.kinds.model_server.spec import AdapterPart
from rackwright.schema.server import Server
from rackwright.schema.vllm import LoraAdapter
from rackwright.stack.stack import Stack
from workloads.serving.adapters import WEIGHTS
from workloads.serving.model import Model, ModelFile, version_of

RANK_MAX = 1 << 20
CONFIG = "adapter_config.json"
"""The configuration of an adapter. Source: PEFT, save_pretrained."""
CONFIG_BYTES = 1 << 20
"""Longest configuration of an adapter in bytes."""


def adapters(stack: Stack, name: str, server: Server) -> dict[str, AdapterPart]:
    """Return the adapters of *server*, by the name that clients ask for.

    Raises:
        DeclarationError: a directory is incomplete, or has other weights or another rank than declared.
    """
    found: dict[str, AdapterPart] = {}
    wrong: list[Diagnostic] = []
    for adapter_name, adapter in (server.vllm.adapters if server.vllm else {}).items():
        try:
            found[adapter_name] = _read(stack, f"servers.{name}.vllm.adapters.{adapter_name}", adapter_name, adapter)
        except DeclarationError as errors:
            wrong += errors.diagnostics
    if wrong:
        raise DeclarationError(*wrong)
    return dict(sorted(found.items()))


def _read(stack: Stack, place: str, name: str, adapter: LoraAdapter) -> AdapterPart:
    if adapter.path is None:
        return AdapterPart(directory=adapter.directory, sha256=adapter.sha256, rank=adapter.rank)
    directory = (stack.project / adapter.path).resolve()
    try:
        files = {file: _file(directory / file) for file in (CONFIG, WEIGHTS)}
        with open_regular(directory / CONFIG) as file:
            config = parse_object(read_bounded(file, CONFIG_BYTES), lenient=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"adapter_config.json: {error}"
        expected = f"a directory with {CONFIG} and {WEIGHTS}, as PEFT saves them"
        problem, help = f"got {adapter.path}: {reason}", "Correct the path, or export the adapter again"
        raise DeclarationError(Diagnostic(f"{place}.path", problem, expected, help)) from None
    if files[WEIGHTS].sha256 != adapter.sha256:
        problem, help = f"got {adapter.sha256[:12]}…", "Write the sha256 of the file, or restore the file"
        expected = f"{adapter.path}/{WEIGHTS} has {files[WEIGHTS].sha256}"
        raise DeclarationError(Diagnostic(f"{place}.sha256", problem, expected, help))
    rank = _rank(config)
    if "rank" in adapter.model_fields_set and rank != adapter.rank:
        expected, help = f"{CONFIG} has r {rank}", "Remove rank, or correct it"
        raise DeclarationError(Diagnostic(f"{place}.rank", f"got {adapter.rank}", expected, help))
    manifest = Model(name=name, version=version_of(files), runtime="vllm", files=files)
    return AdapterPart(
        sha256=adapter.sha256,
        rank=rank or adapter.rank,
        version=manifest.version,
        source=str(directory),
        manifest=manifest.model_dump_json(indent=1) + "\n",
        files={file: entry.sha256 for file, entry in files.items()},
    )


def _file(path: Path) -> ModelFile:
    with open_regular(path) as file:
        return ModelFile(sha256=file_digest(file, "sha256").hexdigest(), bytes=os.fstat(file.fileno()).st_size)


def _rank(config: Mapping[str, Any]) -> int | None:
    """Return the rank in an adapter's configuration; None if it has none."""
    rank = config.get("r")
    return rank if isinstance(rank, int) and not isinstance(rank, bool) and 0 < rank <= RANK_MAX else None
