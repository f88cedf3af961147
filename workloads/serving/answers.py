"""HTTP errors, each with a reason, in the form of its route's protocol."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response

from workloads.serving.batcher import DeadlineExceeded, QueueFull
from workloads.serving.forwarded_routes import OPENAI_PATHS

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


class HttpError(Exception):
    """The error that answers a request: its status and its reason."""

    def __init__(
        self,
        status: int,
        reason: str,
        headers: Mapping[str, str] | None = None,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        """
        Args:
            param: The field that is wrong, if the protocol names it.
            code: The machine-readable code of the error, if the protocol has one.
        """
        super().__init__(reason)
        self.status, self.reason, self.headers, self.param, self.code = status, reason, headers, param, code


class Error(BaseModel):
    """The body of an error in KServe's protocol."""

    error: str


@contextmanager
def as_http_errors(seconds: float) -> Iterator[None]:
    """Turn a full queue, or a missed deadline of *seconds*, into an HTTP error.

    Raises:
        HttpError: 429 if the queue is full, 504 after the deadline.
    """
    try:
        yield
    except QueueFull as full:
        raise HttpError(429, str(full), {"retry-after": str(full.retry_after)}) from None
    except DeadlineExceeded:
        raise HttpError(504, f"no answer within {seconds:g} s") from None


@contextmanager
def as_text_errors(seconds: float, is_shared: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn a full queue, or a first token that did not come within *seconds*, into an HTTP error.

    A late token of a text that ran alone is no 5xx: OpenAI's clients repeat those, and the same prompt would take as
    long again.

    Args:
        is_shared: Whether other texts ran beside this one, and may have delayed it.

    Raises:
        HttpError: 429 if there was no slot; after the deadline 503 if other texts ran as well, and else 400.
    """
    with as_http_errors(seconds):
        try:
            yield
        except DeadlineExceeded:
            if is_shared():
                reason = f"no first token within {seconds:g} s, beside other texts; try again, or send a shorter prompt"
                raise HttpError(503, reason, {"retry-after": "1"}, code="deadline_exceeded") from None
            reason = f"no first token within {seconds:g} s; send a shorter prompt, or set a larger deadline_seconds"
            raise HttpError(400, reason, code="deadline_exceeded") from None


def error_response(path: str, error: HttpError) -> Response:
    """Return the response with *error* to a request for *path*."""
    return Response(to_json(error_body(path, error)), error.status, error.headers, "application/json")


def error_body(path: str, error: HttpError) -> dict[str, object]:
    """Return the body of *error* in the protocol of *path*."""
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": _type_of(error), "message": error.reason}}
    return openai_error(error) if path.startswith(OPENAI_PATHS) else {"error": error.reason}


def openai_error(error: HttpError) -> dict[str, object]:
    """Return the body of *error* in OpenAI's protocol."""
    code = error.code or _CODES.get(error.status)
    return {"error": {"message": error.reason, "type": _type_of(error), "param": error.param, "code": code}}


def _type_of(error: HttpError) -> str:
    return _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
