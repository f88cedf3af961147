"""Stop requests to a training, from an operator, systemd, a terminal that closes, or a provider that is about to remove
the machine."""

import signal
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
    """Records SIGTERM, SIGINT and SIGHUP. The loop checks for a request between two steps; no step is interrupted.

        with StopRequest(grace_seconds=25) as stopping:
            for step in …:
                …
                if stopping():
                    checkpoints.save_within(stopping.seconds_left, step, state)
                    break

    A second SIGINT interrupts at once, as an operator at a terminal expects.
    """

    def __init__(self, grace_seconds: float) -> None:
        """
        Args:
            grace_seconds: Time from the first signal until the process is killed. Use a little less than systemd's
                TimeoutStopSec, or than the provider's notice before it cuts the power.
        """
        self._grace_seconds = grace_seconds
        self._requested_at: float | None = None
        self._before: Mapping[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        return self._requested_at is not None

    @property
    def seconds_left(self) -> float:
        """Rest of the grace period; the whole period if there is no stop request."""
        passed = 0.0 if self._requested_at is None else time.monotonic() - self._requested_at
        return max(0.0, self._grace_seconds - passed)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._requested_at is None:
            self._requested_at = time.monotonic()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        ignored = {number for number in SIGNALS if signal.getsignal(number) == signal.SIG_IGN}  # below nohup
        self._before = {number: signal.signal(number, self._on_signal) for number in SIGNALS if number not in ignored}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
