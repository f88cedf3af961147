"""Answers that refuse, each with a reason, in the form that the protocol of its route has."""

from collections.abc import Mapping

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response


class Refused(Exception):
    """A request that gets no answer, with the status and reason it gets instead."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


class Error(BaseModel):
    """What KServe's protocol answers where something is wrong."""

    error: str


def refusal(path: str, refused: Refused) -> Response:
    """Return the answer to a request for *path* that is *refused*."""
    told: object = {"error": refused.reason}
    if path.startswith("/v1/"):  # as OpenAI's clients read it
        kind = "invalid_request_error" if refused.status < 500 else "server_error"
        told = {"error": {"message": refused.reason, "type": kind, "param": None, "code": None}}
    return Response(to_json(told), refused.status, refused.headers, "application/json")
