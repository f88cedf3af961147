"""Messages of libraries in the log of a server."""

import logging
from typing import Any

from workloads.serving.library_log import MOST_CHARACTERS, EventHandler
from workloads.serving.runtimes.runtime import RuntimeFailure


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
    assert events[1]["traceback"].endswith("\nbuiltins.ValueError\n") and __file__ in events[1]["traceback"]


def describe(error: Exception, cause: Exception | None = None) -> str:
    events: list[str] = []
    logger = logging.Logger("uvicorn.error")
    logger.addHandler(EventHandler(lambda event, **fields: events.append(fields["traceback"])))
    try:
        try:
            raise cause or error
        except Exception:
            if cause:
                raise error from cause
            raise
    except Exception:
        logger.exception("a request failed")
    return events[0]


def test_no_text_of_a_request_gets_into_the_log_with_an_exception() -> None:
    """
    Before, the message of llama.cpp about an earlier call, with what a person had told the model, was in the log.
    """
    failed = RuntimeError("Failed to parse tool call arguments as JSON: last read: 'Patient Erika Meier'")
    text = describe(RuntimeFailure("llama.cpp failed before the first token"), failed)
    assert "Erika" not in text and "Erika" not in describe(failed)
    assert "builtins.RuntimeError\n" in text
    assert text.endswith("workloads.serving.runtimes.runtime.RuntimeFailure: llama.cpp failed before the first token\n")


def test_a_long_traceback_is_cut_at_its_beginning() -> None:
    text = describe(RuntimeFailure("wrong" * 2000))
    assert len(text) == MOST_CHARACTERS and text.endswith("wrong\n")
