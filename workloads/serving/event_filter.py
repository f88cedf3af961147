"""A stream of events on its way from vLLM to the client: its usage is read, and nothing else of it is changed.

A stream of completions has its usage only if the request asks for that. The server always asks, and takes the event
with the usage out again if the client has not asked.
"""

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json

USAGE, FINISH, FINGERPRINT = b'"usage":{', b'"finish_reason":"', "system_fingerprint"
"""Texts that mark events, as vLLM writes them: a text of the model has its quotation marks escaped."""
END = b"\n\n"
CLOSING_EVENTS = 2
"""The most events without a token after the last count: the end of a block, of the message or of the stream."""


class EventFilter:
    """The events of one stream."""

    def __init__(self, hides_usage: bool) -> None:
        """
        Args:
            hides_usage: Whether the client has not asked for the event with the usage.
        """
        self._hides_usage = hides_usage
        self._rest = b""
        self._last: list[bytes] = []
        """Last events of choices, which wait for the fingerprint that is in the event with the usage."""
        self._uncounted = 0
        """Events since vLLM's last count of the tokens."""
        self._usage: dict[str, int] = {}
        """Tokens of prompt and answer, as vLLM has counted them last."""
        self.finish: str | None = None
        """The reason why the text ended."""
        self.is_cut = False
        """Whether the text was ended at its time limit."""

    def feed(self, part: bytes) -> bytes:
        """Return what goes to the client once *part* has come: whole events alone."""
        whole, separator, self._rest = (self._rest + part).rpartition(END)
        if not separator:
            return b""
        if USAGE not in whole and FINISH not in whole:
            self._uncounted += whole.count(b"data:")
            return whole + END
        return b"".join(map(self._pass, whole.split(END)))

    def end(self) -> bytes:
        """Return what is left at the end of the stream."""
        rest = b"".join(self._last) + self._rest
        self._last, self._rest = [], b""
        return rest

    @property
    def total(self) -> dict[str, int]:
        """Tokens of prompt and answer: those that vLLM has counted, and one for each event after them.

        A protocol may count the prompt at the begin and the answer at the end, which a stream that is left has not.
        """
        more = max(0, self._uncounted - CLOSING_EVENTS) if self._usage else self._uncounted
        return {**self._usage, "tokens": self._usage.get("tokens", 0) + more}

    def _pass(self, event: bytes) -> bytes:
        """Return the bytes that go to the client for *event*."""
        self._uncounted += event.count(b"data:")
        if self.is_cut:
            event = as_length(event)
        if USAGE not in event and FINISH not in event:
            return event + END
        data = _parse(event)
        if counted := usage_of(data):
            self._usage |= counted
            self._uncounted = 0
        choices = data.get("choices")
        for choice in choices or []:
            self.finish = choice.get("finish_reason") or self.finish
        if not self._hides_usage or choices is None:
            return event + END
        if choices:
            self._last.append(event + END)
            return b""
        return self._release(data.get(FINGERPRINT))

    def _release(self, fingerprint: object) -> bytes:
        """Return the events that have waited, with the *fingerprint* that vLLM otherwise writes into them."""
        stamp = b"," + to_json({FINGERPRINT: fingerprint})[1:] + END if fingerprint is not None else b""
        events = [event.removesuffix(b"}" + END) + stamp if stamp else event for event in self._last]
        self._last = []
        return b"".join(events)


def as_length(content: bytes) -> bytes:
    """Return *content* with the reason that OpenAI's protocol has for a text that the server has ended."""
    return content.replace(b'"finish_reason":"abort"', b'"finish_reason":"length"')


def usage_of(data: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens of prompt and answer in *data*, an answer or an event of OpenAI's or Anthropic's protocol."""
    inner = data.get("response") or data.get("message") or {}
    usage = data.get("usage") or (inner.get("usage") if isinstance(inner, Mapping) else None)
    if not isinstance(usage, Mapping):
        return {}
    names = {"prompt_tokens": ("prompt_tokens", "input_tokens"), "tokens": ("completion_tokens", "output_tokens")}
    found = {name: next((usage[each] for each in own if each in usage), None) for name, own in names.items()}
    return {name: value for name, value in found.items() if isinstance(value, int)}


def _parse(event: bytes) -> dict[str, Any]:
    """Return the data of *event*; empty if they are no object."""
    for line in event.splitlines():
        if line.startswith(b"data:"):
            try:
                data = from_json(line.removeprefix(b"data:"))
            except ValueError:
                return {}
            return data if isinstance(data, dict) else {}
    return {}
