"""The served model that is evaluated, and the check that its server can be asked."""

import json
import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request

from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_object, read_bounded
from workloads.http_client import HttpClient, redirect_target

ANSWER_BYTES = 4 << 20
"""Maximum size of the answer to the first question."""
CHECK_SECONDS = 120.0
"""Seconds for the first answer, which may wait in a queue."""
LONGEST_REASON = 300
"""Characters of a server's own message that an error shows."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model at a server of OpenAI's protocol."""

    url: str
    """URL of the server, without /v1."""
    name: str
    tokenizer: Path
    """Directory with the model's tokenizer."""
    key: str = ""
    authorities: str = ""
    """File of the certificates that sign the server's; empty for those of this system."""
    parallel: int = 8
    """Requests at once."""
    context_tokens: int = 4096

    @property
    def completions(self) -> str:
        """The URL of the route that is asked."""
        return f"{self.url.rstrip('/')}/v1/completions"


class UnansweredError(UserError):
    """The server did not answer, or refused."""

    exit_status = 3


def check(model: ServedModel) -> None:
    """Ask the server for one log-probability of a prompt.

    Raises:
        UnansweredError: The server does not answer, refuses, or gives none.
        UserError: The file of authorities cannot be read.
    """
    try:
        trusted = ssl.create_default_context(cafile=model.authorities or None)
    except (OSError, ssl.SSLError) as error:
        problem = f"{model.authorities} cannot be read: {error.strerror or error}"
        raise UserError(Diagnostic("--authorities", problem, "certificates, PEM", "Correct the path")) from error
    body = {"model": model.name, "prompt": "a b", "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    headers = {"content-type": "application/json", "authorization": f"Bearer {model.key}"}
    help = "Correct the key or the name, or evaluate a model that vLLM serves"
    try:
        # HttpClient opens http and https alone
        request = Request(model.completions, json.dumps(body).encode(), headers)  # noqa: S310 - HTTP only
        client = HttpClient(urlsplit(model.url).hostname or "", trusted)
        with client.send(request, CHECK_SECONDS) as answer:
            choices = parse_object(read_bounded(answer, ANSWER_BYTES, time.monotonic() + CHECK_SECONDS), lenient=True)[
                "choices"
            ]
            if choices[0]["logprobs"]["token_logprobs"]:
                return
            reason = "its answer has no log-probabilities"
    except HTTPError as error:
        target = redirect_target(error)
        message = target or error.read(LONGEST_REASON).decode(errors="replace")
        reason = f"status {error.code}: {message}"
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            help = "Look into the server's log, start the server again if it has ended, and evaluate again"
    except (OSError, ValueError) as error:
        raise request_error(model, error) from error
    except (KeyError, IndexError, TypeError):
        reason = "its answer has no log-probabilities"
    raise UnansweredError(Diagnostic(model.url, f"the server gives no log-probabilities: {reason}", help=help))


def request_error(model: ServedModel, error: Exception) -> UnansweredError:
    """Return the error for a failed request, without its headers, which have the key."""
    status = getattr(error, "status", None)
    reason = f"status {status}" if status else f"{type(error).__name__}: {error}"
    problem = f"a request failed: {reason}"
    return UnansweredError(Diagnostic(model.url, problem, help="Correct the address, or look into the server's log"))
