"""The lines that the program on a host prints, each with its type: a host under the control of others may print any."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rackwright.errors import Diagnostic, StepFailed, one_line

BYTES_MAX = 1 << 62
"""Maximum of a size in bytes, and of a time in nanoseconds."""
TEXT_LONGEST = 1000
"""Maximum characters of a message of a host."""
SECONDS_MAX = 1e9
Size = Annotated[int, Field(ge=0, le=BYTES_MAX)]
Seconds = Annotated[float, Field(gt=0, le=SECONDS_MAX, allow_inf_nan=False)]
Path = Annotated[str, Field(min_length=1, max_length=4096)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Other(_Line):
    """A path that is no file."""

    other: Path
    link: bool


class ForeignName(_Line):
    """A path whose name is not UTF-8, with escapes."""

    unnamed: Path


class Result(_Line):
    """An object that was read or written; without a digest, there is none."""

    path: Path
    bytes: Size | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None


class Part(_Line):
    """A part that was uploaded."""

    part: Annotated[int, Field(ge=1, le=10_000)]
    tag: Annotated[str, Field(max_length=TEXT_LONGEST)]


class ChangedFiles(_Line):
    """Files that have changed, so that nothing was deleted."""

    changed: list[Path]


class Usage(_Line):
    """The usage of a tier."""

    used: Size
    total: Size


class ItemLine(_Line):
    """A directory that a rule is about."""

    path: Path
    bytes: Size
    files: Size
    newest: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
    in_use: bool

    @field_validator("path")
    @classmethod
    def _is_below(cls, path: str) -> str:
        if not path.isprintable() or not all(part not in ("", ".", "..") for part in path.split("/")):
            raise ValueError("a path below the tier's mount point")
        return path


class Measurement(_Line):
    """The seconds of a write and of a read."""

    write_seconds: Seconds
    read_seconds: Seconds


class Failure(_Line):
    """The end of the program by an error."""

    error: str
    in_part: bool = False
    """Whether some files were deleted before."""


L = TypeVar("L", bound=_Line)


def read_line(kind: type[L], value: object, where: str) -> L:
    """Return *value* of a line as *kind*.

    Raises:
        StepFailed: it has another form.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        places = sorted({".".join(map(str, each["loc"][:1])) for each in error.errors(include_input=False)})
        raise line_refused(where, f"wrong values: {one_line(', '.join(places) or 'all')[:TEXT_LONGEST]}") from None


def only_line(lines: list[dict[str, Any]], key: str, where: str) -> dict[str, Any]:
    """Return the last line with *key*.

    Raises:
        StepFailed: there is none.
    """
    found = [line for line in lines if key in line]
    if not found:
        raise line_refused(where, f"no line has {key}")
    return found[-1]


def line_refused(where: str, reason: str) -> StepFailed:
    """Return the error of a host whose lines have another form than those of its program."""
    help = "Check who controls the host, and the output of its programs"
    return StepFailed(Diagnostic(where, f"a line of the host is refused: {reason}", help=help))
