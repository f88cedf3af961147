"""The messages between coordinator and site: data and never code, with digests of the arrays beside them."""

import hashlib
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from workloads.config_schema import ConfigSchema, NotNegative
from workloads.errors import Diagnostic, UserError
from workloads.federation.config import ROUNDS_MAX, SITES_MAX, Digest, Name, Terms
from workloads.federation.shared_folders import SharedPath
from workloads.foreign import InvalidData, parse_json, read_file

M = TypeVar("M", bound=ConfigSchema)
BYTES_MAX = 64 << 20
"""Most bytes of a message or a transcript; a round of 64 sites takes about 20 KB."""
Text = Annotated[str, Field(max_length=200)]
LOSS_MAX = 1e6
Round = Annotated[int, Field(ge=1, le=ROUNDS_MAX)]


class Statement(ConfigSchema):
    """The statement of the coordinator about a round, the same for all sites."""

    round: Round
    updates: Annotated[dict[Name, Digest], Field(max_length=SITES_MAX)]
    """Digest of the update that each site sent, as the coordinator received it."""
    excluded: Annotated[dict[Name, Text], Field(max_length=SITES_MAX)]
    """Reason for each member whose update did not count; sites without an answer are among them."""
    model: Digest
    """Digest of the model after the round."""


class RoundRequest(ConfigSchema):
    """The request to a site to train one round; the model comes beside it."""

    round: Round
    terms: Terms
    model: Digest
    """Digest of the model to start from."""
    statement: Statement | None = None
    """The statement about the round before; None in the first one."""

    @property
    def digest(self) -> str:
        """Digest of the request, by which an answer names it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class RoundReply(ConfigSchema):
    """The answer of a site; its update comes beside it."""

    site: Name
    round: Round
    request: Digest
    """Digest of the request that it answers."""
    update: Digest
    loss: NotNegative
    """Mean loss of the received model on the held-out rows of the site; 0 without such rows; 1e6 at most."""
    accuracy: Annotated[float, Field(ge=0, le=1)]


def parse(content: bytes, path: Path | SharedPath, kind: type[M]) -> M:
    """Return the message or transcript of *kind* in *content* of the file *path*.

    Raises:
        UserError: The content is none.
    """
    try:
        parse_json(content, BYTES_MAX)
        return kind.model_validate_json(content)
    except InvalidData as error:
        problem = f"{error}"
    except ValidationError as error:
        problem = f"{'.'.join(map(str, error.errors()[0]['loc'])) or 'the whole'} has another form"
    raise _unreadable(path, problem)


def read_content(path: Path | SharedPath, limit: int) -> bytes:
    """Return the bytes of *path*, at most *limit*.

    Raises:
        UserError: The file is missing or longer.
    """
    try:
        return path.read(limit) if isinstance(path, SharedPath) else read_file(path, limit)
    except OSError as error:
        problem = f"the file cannot be read: {error.strerror}"
    except InvalidData as error:
        problem = f"{error}"
    raise _unreadable(path, problem)


def read_message(path: Path | SharedPath, kind: type[M]) -> M:
    """Return the message or transcript of *kind* in *path*.

    Raises:
        UserError: The file cannot be read, or has none.
    """
    return parse(read_content(path, BYTES_MAX), path, kind)


def _unreadable(path: Path | SharedPath, problem: str) -> UserError:
    expected = "a file of this release, as another party has written it"
    return UserError(Diagnostic(str(path), problem, expected, "Ask that party for the file again"))
