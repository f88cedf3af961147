"""Messages of libraries in the log of a server, in the form of its events."""

import logging
import traceback

from workloads.errors import UserError
from workloads.serving.middleware import EventLog
from workloads.serving.runtimes.runtime import RuntimeFailure

MOST_CHARACTERS = 4000
"""The longest message, and the longest traceback: a part of a message may have been chosen by a client."""


class EventHandler(logging.Handler):
    """Writes each message of a library, such as uvicorn, as an event `library`."""

    def __init__(self, log_event: EventLog) -> None:
        super().__init__()
        self._log_event = log_event

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"library": record.name.partition(".")[0], "level": record.levelname.lower()}
        if record.exc_info and record.exc_info[1]:
            fields["traceback"] = _describe(record.exc_info[1])[-MOST_CHARACTERS:]
        self._log_event("library", message=record.getMessage()[:MOST_CHARACTERS], **fields)


def _describe(error: BaseException) -> str:
    """Return the places that *error* and its causes passed, and their types.

    The text of an exception may quote a request, as that of llama.cpp for an earlier call. It is kept for the classes
    whose texts never do.
    """
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    kind = type(error)
    text = f": {error}" if isinstance(error, RuntimeFailure | UserError) else ""
    places = "".join(traceback.format_tb(error.__traceback__))
    return f"{_describe(cause) if cause else ''}{places}{kind.__module__}.{kind.__qualname__}{text}\n"


def log_libraries(log_event: EventLog) -> None:
    """Send the warnings and errors of all libraries of this process to *log_event*, in place of plain lines.

    A program that has set up its log itself keeps it.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[EventHandler(log_event)])
