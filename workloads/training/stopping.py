"""A training that is told to stop, by a person, by systemd, or by a provider that takes its machine away."""

import signal
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Whether the process has been asked to end. The loop asks between two steps; nothing is interrupted.

        with Stopping(grace_seconds=25) as stopping:
            for step in …:
                …
                if stopping():
                    checkpoints.save_within(stopping.seconds_left, step, state)
                    break

    A second SIGINT interrupts at once, as a person at a terminal expects.
    """

    def __init__(self, grace_seconds: float) -> None:
        """
        Args:
            grace_seconds: What is left after the first signal until the process is killed: somewhat less than systemd's
                TimeoutStopSec, or than what a provider announces before it cuts the power.
        """
        self._grace_seconds = grace_seconds
        self._asked_at: float | None = None
        self._before: Mapping[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        return self._asked_at is not None

    @property
    def seconds_left(self) -> float:
        """What is left of the grace; all of it while nobody has asked."""
        passed = 0.0 if self._asked_at is None else time.monotonic() - self._asked_at
        return max(0.0, self._grace_seconds - passed)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._asked) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
