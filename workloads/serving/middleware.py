"""The middleware before every route: it checks the key, counts and logs each request. It never logs a payload."""

import asyncio
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import nullcontext
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
from workloads.serving.shares import REASON, Share, Shares
from workloads.serving.usage import Usage

EventLog = Callable[..., None]
OPEN_PATHS = ("/health", "/ready", "/v2/health/live", "/v2/health/ready")
"""Paths that need no key: a load balancer has none."""
REFUSALS = ("no key", "scope", "quota", REASON)
"""Reasons for which a request is refused before it reaches the model."""
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
    """An ASGI application around the application with the routes.

    A front that reads messages itself sets two keys of a scope's state: `share`, in which it has counted the request,
    and `error`, the HttpError that answers it.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        shares: Shares,
        quotas: Quotas,
        metrics: Metrics,
        draining: Callable[[], bool],
        log_event: EventLog,
    ) -> None:
        self._app, self._keys, self._shares, self._quotas, self._metrics = app, keys, shares, quotas, metrics
        self._draining, self._log_event = draining, log_event

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, headers = time.perf_counter(), Headers(scope=scope)
        request_id = headers.get("x-request-id", "")[:128] or uuid.uuid4().hex
        log_fields: dict[str, Any] = {}
        status, sent = 0, 0
        state: dict[str, Any] = scope.get("state", {})
        held: Share | None = state.get("share")  # gRPC holds it since before it read the message
        key, error = self._check_key(
            scope["method"], scope["path"], headers, log_fields, self._quotas.take_request, held
        )
        if front_error := state.get("error"):
            error = front_error
            log_fields["reason"] = REASON if error.status == 429 else error.reason
        share = held or (self._shares.of(key) if key and not error else None)
        is_logged = False

        def pay(prompt_tokens: int, tokens: int) -> None:
            self._pay(key, prompt_tokens, tokens)
            if is_logged:
                paid = {"prompt_tokens": prompt_tokens, "tokens": tokens}
                self._log_event("late_tokens", request=request_id, **({"key": key.name} if key else {}), **paid)

        usage = Usage(pay)
        scope["state"] = {
            **state, "log_fields": log_fields, "body_ended": began, "share": share, "usage": usage, "key": key
        }  # fmt: skip

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
            with share.hold_request() if share and not held else nullcontext():
                if error:
                    await error_response(scope["path"], error)(scope, receive, counting_send)
                else:
                    await self._app(scope, receive, counting_send)
        except (ClientDisconnect, asyncio.CancelledError) as ended:
            status = CLOSED_BY_CLIENT
            if isinstance(ended, asyncio.CancelledError):
                raise
        except Exception:
            status = status or 500
            raise
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.record_response(route, status, seconds)
            usage.raise_to(log_fields.get("prompt_tokens"), log_fields.get("tokens"))
            self._record_text(key, log_fields, seconds)
            self._record_refusal(key, log_fields)
            self._log_event(
                "request", request=request_id, client=(scope["client"] or ("",))[0], method=scope["method"],
                path=scope["path"], status=status, seconds=round(seconds, 6), bytes_sent=sent, **log_fields,
            )  # fmt: skip
            is_logged = True

    def find_share(self, method: str, path: str, headers: Headers) -> Share | None:
        """Return the share of the key in *headers*, or None without keys; use none of its quotas.

        Raises:
            HttpError: The application refuses the request.
        """
        key, error = self._check_key(method, path, headers, {}, self._quotas.check_request)
        if error:
            raise error
        return self._shares.of(key) if key else None

    def _check_key(
        self,
        method: str,
        path: str,
        headers: Headers,
        log_fields: dict[str, object],
        take: Callable[[Key], HttpError | None],
        held: Share | None = None,
    ) -> tuple[Key | None, HttpError | None]:
        """Return the key of a request, and the error that answers it if the key is wrong, or has used what it may.

        Args:
            held: The share that already counts the request.
        """
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
        if not held and (error := self._shares.of(key).error()):
            log_fields["reason"] = REASON
            return key, error
        error = take(key) if scope_needed == "infer" else None
        if error:
            log_fields["reason"] = "quota" if error.status == 429 else f"quota_counts: {self._quotas.write_error}"
        return key, error

    def _record_refusal(self, key: Key | None, log_fields: Mapping[str, Any]) -> None:
        """Count a refusal for what a key may do or hold."""
        if (reason := log_fields.get("reason")) in REFUSALS:
            self._metrics.record_refusal(str(reason), key.name if key else "")

    def _record_text(self, key: Key | None, log_fields: Mapping[str, Any], seconds: float) -> None:
        """Record the speed of a text, if the request has used tokens."""
        text = Text(
            log_fields.get("prompt_tokens", 0), log_fields.get("tokens", 0), log_fields.get("first_token_seconds")
        )
        if text.prompt_tokens or text.tokens:
            self._metrics.record_text(text, key.name if key else "", seconds)

    def _pay(self, key: Key | None, prompt_tokens: int, tokens: int) -> None:
        """Count tokens of a request with *key*."""
        self._metrics.record_tokens(prompt_tokens, tokens, key.name if key else "")
        if key:
            self._quotas.add_tokens(key, prompt_tokens + tokens)
