"""The transcript of a site: the requests that it received and the digests of its updates, signed by its own SSH key."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workloads.config_schema import ConfigSchema
from workloads.errors import Diagnostic, UserError
from workloads.federation import signatures
from workloads.federation.config import REPEATS_MAX, ROUNDS_MAX, Digest, Name
from workloads.federation.messages import BYTES_MAX, RoundRequest, Statement, parse, read_content, read_message
from workloads.files import write_atomic

NAMESPACE = "rackwright-federation"
"""Purpose of the signatures; a signature for another purpose does not pass."""

TERMS_MAX = 4
"""Most different terms in a transcript. A site answers those that it has declared alone; others are contradictions."""


class Entry(ConfigSchema):
    """One round as a site saw it."""

    request: RoundRequest
    """The request of the coordinator, as the site received it."""
    update: Digest
    """Digest of the update that the site sent."""


class Transcript(ConfigSchema):
    """All rounds in which a site took part, in their order; a round that was repeated stands there twice."""

    format: Literal[1] = 1
    site: Name
    entries: Annotated[tuple[Entry, ...], Field(max_length=REPEATS_MAX * ROUNDS_MAX)] = ()
    conclusion: Statement | None = None
    """The statement of the coordinator about the last round."""

    @model_validator(mode="after")
    def _check_entries(self) -> Self:
        rounds = Counter(entry.request.round for entry in self.entries)
        if rounds and max(rounds.values()) > REPEATS_MAX:
            raise ValueError(f"a site answers a round {REPEATS_MAX} times at most")
        if len({entry.request.terms for entry in self.entries}) > TERMS_MAX:
            raise ValueError(f"the requests have more than {TERMS_MAX} different terms")
        return self


def signature_path(path: Path) -> Path:
    """Return the file with the signature of the transcript in *path*."""
    return path.with_name(f"{path.name}.sig")


def write(transcript: Transcript, path: Path, key: Path) -> None:
    """Write *transcript* to *path*, and its signature by the private *key* beside it.

    Raises:
        UserError: ssh-keygen does not sign with the key.
    """
    content = transcript.model_dump_json(indent=1).encode() + b"\n"
    signature = signatures.sign(content, key, NAMESPACE)
    write_atomic(path, content)
    write_atomic(signature_path(path), signature)


def read(path: Path) -> Transcript:
    """Return the transcript in *path*, without a check of its signature.

    Raises:
        UserError: The file cannot be read, or is no transcript.
    """
    return read_message(path, Transcript)


def read_verified(path: Path, signers: Path) -> Transcript:
    """Return the transcript in *path* after a check of its signature by the key of its site in *signers*.

    Args:
        signers: Names of sites with their public keys, in the form of allowed signers of ssh-keygen.

    Raises:
        UserError: The file is no transcript, or *signers* has no key of its site that has signed it.
    """
    content = read_content(path, BYTES_MAX)
    transcript = parse(content, path, Transcript)
    signature = read_content(signature_path(path), signatures.BYTES_MAX)
    if not signatures.is_signed(content, signature, transcript.site, signers, NAMESPACE):
        problem = f"the signature is not that of {transcript.site}"
        expected = f"a signature of these bytes by the key of {transcript.site} in {signers}"
        raise UserError(Diagnostic(str(path), problem, expected, "Ask the site for its files again"))
    return transcript
