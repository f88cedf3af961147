"""Messages of libraries in the log of a server."""

import logging
from typing import Any

from workloads.serving.library_log import MOST_CHARACTERS, EventHandler


def test_a_message_and_a_traceback_are_one_event_of_bounded_size() -> None:
    events: list[dict[str, Any]] = []
    logger = logging.Logger("uvicorn.error")
    logger.addHandler(EventHandler(lambda event, **fields: events.append({"event": event, **fields})))

    logger.warning("Invalid %s", "request\n" * 1000)
    try:
        raise ValueError("wrong" * 2000)
    except ValueError:
        logger.exception("a call failed")

    assert {(event["event"], event["library"]) for event in events} == {("library", "uvicorn")}
    assert events[0]["message"] == ("Invalid " + "request\n" * 1000)[:MOST_CHARACTERS]
    assert (events[1]["level"], events[1]["message"]) == ("error", "a call failed")
    assert len(events[1]["traceback"]) == MOST_CHARACTERS and events[1]["traceback"].endswith("wrong\n")
