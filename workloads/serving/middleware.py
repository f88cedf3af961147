"""What stands before every route: who may ask, what is counted, and what the log says. No payload is ever logged."""

import asyncio
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from pydantic_core import to_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workloads.serving.answers import Refused, refusal
from workloads.serving.keys import Keys
from workloads.serving.metrics import Metrics

Say = Callable[..., None]
OPEN = ("/health", "/ready", "/v2/health/live", "/v2/health/ready")
"""Those that need no key: a balancer has none."""
CLOSED_BY_CLIENT = 499
"""As nginx has it: the client went before its answer. It is in the log and the figures, and sent to nobody."""


def say(event: str, **told: object) -> None:
    """Write one line of JSON to stdout."""
    line = to_json({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **told})
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def scope_for(method: str, path: str) -> str | None:
    """Return what a key has to allow for a request; a route that nobody thought of is not open."""
    if path in OPEN:
        return None
    if path == "/metrics":
        return "metrics"
    return "read" if method in ("GET", "HEAD") else "infer"


class Edge:
    """An ASGI application around the one that has the routes."""

    def __init__(self, app: ASGIApp, keys: Keys, metrics: Metrics, draining: Callable[[], bool], say: Say) -> None:
        self._app, self._keys, self._metrics, self._draining, self._say = app, keys, metrics, draining, say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, headers = time.perf_counter(), Headers(scope=scope)
        request_id = headers.get("x-request-id", "")[:128] or uuid.uuid4().hex
        told: dict[str, object] = {}
        scope["state"] = {**scope.get("state", {}), "told": told, "body_ended": began}
        status, sent = 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["x-request-id"] = request_id
                if self._draining():  # its client opens a new one, with somebody who stays
                    answer["connection"] = "close"
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            if refused := self._refused(scope, headers, told):
                await refusal(scope["path"], refused)(scope, receive, counted)
            else:
                await self._app(scope, receive, counted)
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
            self._metrics.answered(route, status, seconds)
            self._say(
                "request", request=request_id, client=(scope["client"] or ("",))[0], method=scope["method"],
                path=scope["path"], status=status, seconds=round(seconds, 6), bytes_sent=sent, **told,
            )  # fmt: skip

    def _refused(self, scope: Scope, headers: Headers, told: dict[str, object]) -> Refused | None:
        wanted = scope_for(scope["method"], scope["path"])
        if wanted is None or not self._keys.wanted:
            return None
        key = self._keys.of(headers.get("authorization", ""))
        if key is None:
            told["reason"] = "no key"
            reason = "no key that is known here; send the header Authorization: Bearer KEY"
            return Refused(401, reason, {"www-authenticate": "Bearer"})
        told["key"] = key.name
        if wanted not in key.scopes:
            told["reason"] = "scope"
            return Refused(403, f"this key does not allow {wanted}; it allows {', '.join(key.scopes)}")
        return None
