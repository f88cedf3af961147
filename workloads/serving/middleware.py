"""The middleware before every route: it checks the key, counts and logs each request. It never logs a payload."""

import asyncio
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workloads.serving.answers import HttpError, error_response
from workloads.serving.keys import Key, Keys
from workloads.serving.metrics import Metrics, Text
from workloads.serving.quotas import Quotas

EventLog = Callable[..., None]
OPEN_PATHS = ("/health", "/ready", "/v2/health/live", "/v2/health/ready")
"""Paths that need no key: a load balancer has none."""
CLOSED_BY_CLIENT = 499
"""nginx's status for a client that disconnected before its answer. It goes into log and metrics, and to no client."""


def log_event(event: str, **log_fields: object) -> None:
    """Write one line of JSON to stdout."""
    line = to_json({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **log_fields})
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def scope_for(method: str, path: str) -> str | None:
    """Return the scope that a request needs; an unlisted route always needs one."""
    if path in OPEN_PATHS:
        return None
    if path == "/metrics":
        return "metrics"
    return "read" if method in ("GET", "HEAD") else "infer"


class Middleware:
    """An ASGI application around the application with the routes."""

    def __init__(
        self, app: ASGIApp, keys: Keys, metrics: Metrics, draining: Callable[[], bool], log_event: EventLog
    ) -> None:
        self._app, self._keys, self._metrics, self._draining, self._log_event = app, keys, metrics, draining, log_event
        self._quotas = Quotas()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, headers = time.perf_counter(), Headers(scope=scope)
        request_id = headers.get("x-request-id", "")[:128] or uuid.uuid4().hex
        log_fields: dict[str, object] = {}
        scope["state"] = {**scope.get("state", {}), "log_fields": log_fields, "body_ended": began}
        status, sent = 0, 0
        key, key_error = self._check_key(scope["method"], scope["path"], headers, log_fields, self._quotas.take_request)

        async def counting_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["x-request-id"] = request_id
                if key:
                    answer.update(self._quotas.headers(key))
                if self._draining():  # the client then opens a new connection, to another server
                    answer["connection"] = "close"
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            if key_error:
                await error_response(scope["path"], key_error)(scope, receive, counting_send)
            else:
                await self._app(scope, receive, counting_send)
        except (ClientDisconnect, asyncio.CancelledError) as error:
            status = CLOSED_BY_CLIENT
            if isinstance(error, asyncio.CancelledError):
                raise
        except Exception:
            status = status or 500
            raise
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.record_response(route, status, seconds)
            self._record_text(key, log_fields, seconds)
            self._log_event(
                "request", request=request_id, client=(scope["client"] or ("",))[0], method=scope["method"],
                path=scope["path"], status=status, seconds=round(seconds, 6), bytes_sent=sent, **log_fields,
            )  # fmt: skip

    def admits(self, method: str, path: str, headers: Headers) -> bool:
        """Return whether the key in *headers* allows a request, and has a rest of its quotas; use none of it."""
        _, error = self._check_key(method, path, headers, {}, self._quotas.check_request)
        return error is None

    def _check_key(
        self,
        method: str,
        path: str,
        headers: Headers,
        log_fields: dict[str, object],
        take: Callable[[Key], HttpError | None],
    ) -> tuple[Key | None, HttpError | None]:
        """Return the key of a request, and the error that answers it if the key is wrong or has used its quotas."""
        scope_needed = scope_for(method, path)
        if scope_needed is None or not self._keys.are_required:
            return None, None
        key = self._keys.find(headers.get("authorization", ""), headers.get("x-api-key", ""))
        if key is None:
            log_fields["reason"] = "no key"
            reason = "the API key is missing or unknown; send the header Authorization: Bearer KEY"
            return None, HttpError(401, reason, {"www-authenticate": "Bearer"})
        log_fields["key"] = key.name
        if scope_needed not in key.scopes:
            log_fields["reason"] = "scope"
            return key, HttpError(403, f"this key does not allow {scope_needed}; it allows {', '.join(key.scopes)}")
        error = take(key) if scope_needed == "infer" else None
        if error:
            log_fields["reason"] = "quota"
        return key, error

    def _record_text(self, key: Key | None, log_fields: Mapping[str, Any], seconds: float) -> None:
        """Count the tokens that a request has used, if it has used some."""
        text = Text(
            log_fields.get("prompt_tokens", 0), log_fields.get("tokens", 0), log_fields.get("first_token_seconds")
        )
        if text.prompt_tokens or text.tokens:
            self._metrics.record_text(text, key.name if key else "", seconds)
            if key:
                self._quotas.add_tokens(key, text.prompt_tokens + text.tokens)
