"""The identity of a private run, which its first start fixes: rows, promise, ledger, and the weights it starts from."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workloads.config_schema import ConfigSchema
from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_object, read_file
from workloads.privacy_settings import Privacy
from workloads.training import lineage
from workloads.training.config import HuggingFace, MaskedBy, TrainingConfig
from workloads.training.privacy.charges import Digest, Text, describe

RUN_FILE = "privacy.json"
"""File in the directory of a run: its random name, and its identity."""


class _Data(BaseModel):
    """The part of the data that a receipt names."""

    model_config = ConfigDict(strict=True, extra="allow")
    masked_by: MaskedBy | None = None


class Identity(ConfigSchema):
    """Everything on which the promise of a run depends."""

    data: _Data
    model: dict[str, Any]
    base: dict[Annotated[str, Field(max_length=255)], Digest] | None
    seed: int
    privacy: Privacy


class _RunFile(ConfigSchema):
    run: Text
    identity: Identity


def of(config: TrainingConfig) -> dict[str, Any]:
    """Return everything in *config* on which the promise depends, as JSON has it."""
    assert config.privacy
    model = config.model
    return {
        "data": config.data.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "base": lineage.base_files(model.path) if isinstance(model, HuggingFace) else None,
        "seed": config.seed,
        "privacy": config.privacy.model_dump(mode="json", exclude_none=True),
    }


def digest(identity: dict[str, Any]) -> str:
    """Return the SHA-256 digest of *identity*."""
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def open_run(out: Path, identity: dict[str, Any]) -> str:
    """Return the name of the run in *out*, which gets a random one at its first start.

    Raises:
        UserError: The run has begun with another identity.
    """
    file = out / RUN_FILE
    if not file.exists():
        _write_once(file, {"run": uuid4().hex, "identity": identity})
    run, known = read(file)
    if different := sorted(key for key in identity if known.get(key) != identity[key]):
        problem = f"the run has begun with another value of {', '.join(different)}"
        expected = "the same rows, promise, ledger and initial weights at each start"
        raise UserError(Diagnostic(str(file), problem, expected, "Use another directory for another run"))
    return run


def read(file: Path) -> tuple[str, dict[str, Any]]:
    """Return the name of a run, and its identity.

    Raises:
        UserError: The file is missing, or no run has written it.
    """
    try:
        known = parse_object(read_file(file))
        _RunFile.model_validate(known)
        run, identity = known["run"], known["identity"]  # as the digest of the identity has them
    except (OSError, ValueError) as error:
        reason = describe(error) if isinstance(error, ValidationError) else error
        problem = f"the identity of the run cannot be read: {reason}"
        raise UserError(Diagnostic(str(file), problem, help="Restore the file, or use another directory")) from error
    return run, identity


def _write_once(file: Path, values: dict[str, Any]) -> None:
    """Write *file* whole unless it exists: of two processes that start in one directory, the first one writes it."""
    new = file.with_name(f".{file.name}.{uuid4().hex}")
    try:
        with new.open("x") as opened:
            opened.write(json.dumps(values) + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        os.link(new, file)
    except FileExistsError:
        pass
    finally:
        new.unlink(missing_ok=True)
