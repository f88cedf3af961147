"""Quotas of a key: requests and tokens per minute, and tokens per day.

A quota holds for a minute of the clock, or for a day in UTC. A request needs a rest of each of its quotas, and pays its
tokens once their number is known, also after its client has left: requests that run at once may exceed a quota by their
own tokens. Counts are in memory, and with a file they hold over restarts. Each server counts for itself.
"""

import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workloads.serving.answers import HttpError
from workloads.serving.keys import QUOTAS, Key
from workloads.serving.quota_counts import Count, QuotaCounts

MINUTE, DAY = 60, 86_400
"""Seconds of a window."""
AHEAD = 64
"""The part of a day's quota that is written ahead is the quota by this number: a crash costs a key so much at most."""
RETRY_SECONDS = 10
"""Seconds after which a client may ask again if the drive took no count."""


@dataclass(slots=True)
class Window:
    """Use of one quota by a key in the present window."""

    limit: int
    seconds: int
    """Length of a window."""
    number: int = -1
    """Windows since 1970."""
    count: int = 0
    written: int = 0
    """The count in the file; a count beyond it is not on the drive."""

    def remaining(self, now: float) -> int:
        """Return the rest at *now*, seconds since 1970."""
        self._turn(now)
        return max(0, self.limit - self.count)

    def reset_seconds(self, now: float) -> float:
        """Return the seconds from *now* to the next window."""
        self._turn(now)
        return (self.number + 1) * self.seconds - now

    def add(self, amount: int, now: float) -> None:
        self._turn(now)
        self.count += amount

    @property
    def ahead(self) -> int:
        """The count to write before a further request."""
        return self.count + math.ceil(self.limit / AHEAD)

    def _turn(self, now: float) -> None:
        # a clock that is set back does not begin a window again
        if (number := int(now // self.seconds)) > self.number:
            self.number, self.count, self.written = number, 0, 0


class Quotas:
    """The quotas of all keys of a server."""

    def __init__(self, clock: Callable[[], float] = time.time, path: Path | None = None) -> None:
        """
        Args:
            path: The file of the counts; None: they are in memory alone.

        Raises:
            UserError: the file cannot be used.
        """
        self._clock = clock
        self._windows: dict[str, Mapping[str, Window]] = {}
        self._counts = QuotaCounts(path) if path else None
        found = self._counts.found if self._counts else ()
        self._found = {(each.key, each.quota): each for each in found}
        self._unknown_minute: int | None = None
        """The minute in which the server started after a crash, and whose counts are unknown."""
        self.warnings: list[str] = []
        """Facts about the counts of the file for an operator."""
        self.write_error = ""
        """Why the last count could not be written."""
        if self._counts and self._counts.was_running:
            self._unknown_minute = int(clock() // MINUTE)
            self.warnings.append("the server before ended without a stop; the use of quotas is rounded up")
        if any(_begins(each) > clock() + DAY for each in found):
            problem = "the use of quotas is of a day that has not begun, and holds until that day ends"
            self.warnings.append(f"{problem}; set the clock of this computer, or remove {path} while the server is off")

    def check_request(self, key: Key) -> HttpError | None:
        """Return the 429 that answers a request of *key* if a quota is used up; count nothing."""
        now = self._clock()
        used_up = (_error(name, window, now) for name, window in self._of(key).items() if window.remaining(now) == 0)
        return next(used_up, None)

    def take_request(self, key: Key) -> HttpError | None:
        """Count a request of *key*, or return the error that answers it: a used quota, or a count that is not kept."""
        if error := self.check_request(key):
            return error
        if not self._write_ahead(key):
            reason = "the server cannot note what this key uses of its quotas; its log has the reason"
            return HttpError(503, reason, {"retry-after": str(RETRY_SECONDS)})
        if requests := self._of(key).get("requests_per_minute"):
            requests.add(1, self._clock())
        return None

    def add_tokens(self, key: Key, tokens: int) -> None:
        """Count *tokens*, of prompt and answer, that a request of *key* has used."""
        for name, window in self._of(key).items():
            if name.startswith("tokens"):
                window.add(tokens, self._clock())
        self._write_ahead(key)  # without room for it, the next request of this key tries again

    def close(self) -> None:
        """Write all counts into the file, if there is one; nothing is counted after that.

        A drive without room leaves the file as after a crash, which the next start does not take for less use.
        """
        if self._counts is None:
            return
        windows = {(key, name): each for key, own in self._windows.items() for name, each in own.items()}
        present = {place: Count(*place, each.number, each.count) for place, each in windows.items()}
        now, counts = self._clock(), {**self._found, **present}
        with suppress(sqlite3.Error):
            self._counts.close(each for each in counts.values() if _begins(each) + _SECONDS[each.quota] > now)
        self._counts = None

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

    def _write_ahead(self, key: Key) -> bool:
        """Write the day's counts of *key* ahead where they have used what is written; return whether that worked."""
        used = {
            name: each for name, each in self._of(key).items() if each.seconds == DAY and each.count >= each.written
        }
        if self._counts is None or not used:
            return True
        try:
            self._counts.write(Count(key.sha256, name, each.number, each.ahead) for name, each in used.items())
        except sqlite3.Error as error:
            self.write_error = str(error)
            return False
        for each in used.values():
            each.written = each.ahead
        return True

    def _of(self, key: Key) -> Mapping[str, Window]:
        if key.sha256 not in self._windows:
            limits = {name: getattr(key, name) for name in _SECONDS}
            self._windows[key.sha256] = {
                name: self._window(key, name, limit) for name, limit in limits.items() if limit is not None
            }
        return self._windows[key.sha256]

    def _window(self, key: Key, name: str, limit: int) -> Window:
        seconds = _SECONDS[name]
        if seconds == MINUTE and self._unknown_minute is not None:
            return Window(limit, seconds, self._unknown_minute, limit)
        found = self._found.get((key.sha256, name))
        return Window(limit, seconds, found.number, found.used, found.used) if found else Window(limit, seconds)


_SECONDS = {name: DAY if name.endswith("_day") else MINUTE for name in QUOTAS}
"""The seconds of a window, by the name of the quota."""


def _begins(count: Count) -> int:
    """Return the begin of the window of *count*, in seconds since 1970."""
    return count.number * _SECONDS[count.quota]


def _error(name: str, window: Window, now: float) -> HttpError:
    seconds = math.ceil(window.reset_seconds(now))
    quota = f"{window.limit} {name.replace('_', ' ')}"
    reason = f"this key has used its {quota} at this server; come back in {seconds} s"
    headers = {"retry-after": str(seconds)}
    if window.seconds == MINUTE:
        return HttpError(429, reason, headers)
    # OpenAI's clients repeat a 429 unless this header tells them not to
    return HttpError(429, reason, {**headers, "x-should-retry": "false"}, code="insufficient_quota")
