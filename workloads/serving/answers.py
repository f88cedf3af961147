"""HTTP errors, each with a reason, in the form of its route's protocol."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response

from workloads.serving.batcher import DeadlineExceeded, QueueFull

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


def error_response(path: str, error: HttpError) -> Response:
    """Return the response with *error* to a request for *path*."""
    content: object = {"error": error.reason}
    if path.startswith("/v1/"):
        content = openai_error(error)
    return Response(to_json(content), error.status, error.headers, "application/json")


def openai_error(error: HttpError) -> dict[str, object]:
    """Return the body of *error* in OpenAI's protocol."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    code = error.code or _CODES.get(error.status)
    return {"error": {"message": error.reason, "type": kind, "param": error.param, "code": code}}
