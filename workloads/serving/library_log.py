"""Messages of libraries in the log of a server, in the form of its events."""

import logging
import traceback

from workloads.serving.middleware import EventLog

MOST_CHARACTERS = 4000
"""The longest message, and the longest traceback: texts of a client may be part of both."""


class EventHandler(logging.Handler):
    """Writes each message of a library, such as uvicorn, as an event `library`."""

    def __init__(self, log_event: EventLog) -> None:
        super().__init__()
        self._log_event = log_event

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"library": record.name.partition(".")[0], "level": record.levelname.lower()}
        if record.exc_info and record.exc_info[1]:
            fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))[-MOST_CHARACTERS:]
        self._log_event("library", message=record.getMessage()[:MOST_CHARACTERS], **fields)


def log_libraries(log_event: EventLog) -> None:
    """Send the warnings and errors of all libraries of this process to *log_event*, in place of plain lines.

    A program that has set up its log itself keeps it.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[EventHandler(log_event)])
