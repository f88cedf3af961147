"""Answers that refuse, each with a reason, in the form that the protocol of its route has."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response

from workloads.serving.batcher import Full, Late

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


class Refused(Exception):
    """A request that gets no answer, with the status and reason it gets instead."""

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
            param: The field that is wrong, where the protocol tells it.
            code: What programs may tell it by, where the protocol has such.
        """
        super().__init__(reason)
        self.status, self.reason, self.headers, self.param, self.code = status, reason, headers, param, code


class Error(BaseModel):
    """What KServe's protocol answers where something is wrong."""

    error: str


@contextmanager
def in_turn(seconds: float) -> Iterator[None]:
    """Refuse what has no room to wait, or no answer within *seconds*.

    Raises:
        Refused: 429 or 504.
    """
    try:
        yield
    except Full as full:
        raise Refused(429, str(full), {"retry-after": str(full.retry_after)}) from None
    except Late:
        raise Refused(504, f"no answer within {seconds:g} s") from None


def refusal(path: str, refused: Refused) -> Response:
    """Return the answer to a request for *path* that is *refused*."""
    told: object = {"error": refused.reason}
    if path.startswith("/v1/"):
        told = openai_error(refused)
    return Response(to_json(told), refused.status, refused.headers, "application/json")


def openai_error(refused: Refused) -> dict[str, object]:
    """Return what OpenAI's clients read of a request that is *refused*."""
    kind = _TYPES.get(refused.status, "invalid_request_error" if refused.status < 500 else "server_error")
    code = refused.code or _CODES.get(refused.status)
    return {"error": {"message": refused.reason, "type": kind, "param": refused.param, "code": code}}
