"""Signals of programs that tests start."""

import signal


def as_in_a_terminal() -> None:
    """Give a process the usual effect of signals: a background job ignores SIGINT, and nohup SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
