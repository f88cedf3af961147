"""Quotas of a key: requests and tokens per minute, and tokens per day.

A quota holds for a minute of the clock, or for a day in UTC. A request needs a rest of each of its quotas, and pays its
tokens at its end, when their number is known: requests that run at once may exceed a quota by their own tokens. Counts
are in memory: they begin at zero when the server starts, and each server of a group counts for itself.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from workloads.serving.answers import HttpError
from workloads.serving.keys import Key

MINUTE, DAY = 60, 86_400
"""Seconds of a window."""


@dataclass(slots=True)
class Window:
    """Use of one quota by a key in the present window."""

    limit: int
    seconds: int
    """Length of a window."""
    number: int = -1
    """Windows since 1970."""
    count: int = 0

    def remaining(self, now: float) -> int:
        """Return the rest at *now*, seconds since 1970."""
        self._turn(now)
        return max(0, self.limit - self.count)

    def reset_seconds(self, now: float) -> float:
        """Return the seconds from *now* to the next window."""
        return self.seconds - now % self.seconds

    def add(self, amount: int, now: float) -> None:
        self._turn(now)
        self.count += amount

    def _turn(self, now: float) -> None:
        if (number := int(now // self.seconds)) != self.number:
            self.number, self.count = number, 0


class Quotas:
    """The quotas of all keys of a server."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._windows: dict[str, Mapping[str, Window]] = {}

    def check_request(self, key: Key) -> HttpError | None:
        """Return the 429 that answers a request of *key* if a quota is used up; count nothing."""
        now = self._clock()
        used_up = (_error(name, window, now) for name, window in self._of(key).items() if window.remaining(now) == 0)
        return next(used_up, None)

    def take_request(self, key: Key) -> HttpError | None:
        """Count a request of *key*, or return the 429 that answers it if a quota is used up."""
        error = self.check_request(key)
        if not error and (requests := self._of(key).get("requests_per_minute")):
            requests.add(1, self._clock())
        return error

    def add_tokens(self, key: Key, tokens: int) -> None:
        """Count *tokens*, of prompt and answer, that a request of *key* has used."""
        for name, window in self._of(key).items():
            if name.startswith("tokens"):
                window.add(tokens, self._clock())

    def headers(self, key: Key) -> dict[str, str]:
        """Return OpenAI's headers about the quotas per minute of *key*. Source: OpenAI's guide to rate limits."""
        return dict(self._headers(key))

    def _headers(self, key: Key) -> Iterator[tuple[str, str]]:
        now = self._clock()
        for name, window in self._of(key).items():
            if window.seconds == MINUTE:
                what = name.removesuffix("_per_minute")
                yield f"x-ratelimit-limit-{what}", str(window.limit)
                yield f"x-ratelimit-remaining-{what}", str(window.remaining(now))
                yield f"x-ratelimit-reset-{what}", f"{window.reset_seconds(now):.3f}s"

    def _of(self, key: Key) -> Mapping[str, Window]:
        if key.sha256 not in self._windows:
            limits = {
                "requests_per_minute": (key.requests_per_minute, MINUTE),
                "tokens_per_minute": (key.tokens_per_minute, MINUTE),
                "tokens_per_day": (key.tokens_per_day, DAY),
            }
            self._windows[key.sha256] = {
                name: Window(limit, seconds) for name, (limit, seconds) in limits.items() if limit is not None
            }
        return self._windows[key.sha256]


def _error(name: str, window: Window, now: float) -> HttpError:
    seconds = math.ceil(window.reset_seconds(now))
    reason = f"this key has used its {window.limit} {name.replace('_', ' ')}; come back in {seconds} s"
    headers = {"retry-after": str(seconds)}
    if window.seconds == MINUTE:
        return HttpError(429, reason, headers)
    # OpenAI's clients repeat a 429 unless this header tells them not to
    return HttpError(429, reason, {**headers, "x-should-retry": "false"}, code="insufficient_quota")
