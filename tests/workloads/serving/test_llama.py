"""The reading of llama.cpp's events, with recorded ones."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support.model_servers import Writer, ask, here
from workloads.serving.runtimes.llama import LlamaRuntime
from workloads.serving.runtimes.runtime import Piece, TextEnd, UnreadableOutput

MESSAGE = "The model produced output that does not match the expected peg-native format"
UNREADABLE = {"error": {"code": 500, "message": MESSAGE, "type": "server_error"}}
CHAT = {"messages": [{"role": "user", "content": "a"}]}


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"finish_reason": None, "index": 0, "delta": delta}]}


class Recorded:
    """llama.cpp with the events of a model whose output does not have the form of its template."""

    def __init__(self, *chunks: dict[str, Any]) -> None:
        self._chunks = chunks
        self.is_generating = False

    def handle_chat_completions(
        self, request: Mapping[str, Any], on_event: Callable[[dict[str, Any]], bool] | None = None
    ) -> None:
        if on_event is None:
            raise RuntimeError(MESSAGE)
        total = 7 + 90 * len(request.get("tools", ()))
        progress = {"total": total, "cache": 0, "processed": total, "time_ms": 1}
        events = ({**chunk(role="assistant", content=None), "prompt_progress": progress}, *self._chunks, UNREADABLE)
        for event in events:
            if on_event(event):
                return
        self.is_generating = True


def test_a_model_whose_output_cannot_be_read_is_loaded() -> None:
    """
    Before, the server ended with a traceback when it found out whether the template writes tools.
    """
    server = Recorded()
    assert LlamaRuntime(server, Writer().model, "").writes_tools
    assert not server.is_generating


def test_an_output_of_which_nothing_can_be_read_is_no_failure_of_the_server() -> None:
    with pytest.raises(UnreadableOutput):
        LlamaRuntime(Recorded(), Writer().model, "").generate(CHAT, lambda piece: True)


def test_an_output_that_cannot_be_read_to_its_end_has_its_beginning() -> None:
    pieces: list[Piece] = []
    runtime = LlamaRuntime(Recorded(chunk(content="Row"), chunk(content=" 1")), Writer().model, "")
    runtime.generate(CHAT, lambda piece: pieces.append(piece) is None)
    assert "".join(piece.text for piece in pieces) == "Row 1"
    assert pieces[-1].end == TextEnd("length", 7, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_no_client_repeats_a_request_whose_output_cannot_be_read(stream: bool) -> None:
    class Unreadable(Writer):
        def generate(self, asked: Mapping[str, Any], on_piece: Callable[[Piece], bool]) -> None:
            raise UnreadableOutput("the output has no form")

    with here(Unreadable(free=True)) as server:
        answer = ask(server.address, "/v1/chat/completions", f'{{"model": "held", "stream": {str(stream).lower()}, '
                     '"messages": [{"role": "user", "content": "a"}]}'.encode())  # fmt: skip
    assert (answer.status, answer.json["error"]["code"]) == (400, "unreadable_output")
    assert answer.json["error"]["message"] == "the output has no form; send another seed, or other messages"
