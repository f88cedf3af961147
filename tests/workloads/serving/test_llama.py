"""The reading of llama.cpp's events, with recorded ones."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import xllamacpp

from tests.support.model_servers import Writer, ask, here
from workloads.errors import UserError
from workloads.serving.runtimes import llama
from workloads.serving.runtimes.llama import LlamaRuntime
from workloads.serving.runtimes.runtime import InvalidPrompt, Piece, RuntimeFailure, TextEnd, UnreadableOutput
from workloads.serving.settings import ServingSettings

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


class Refusing:
    """llama.cpp with a request that it refuses before the first event."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def handle_chat_completions(self, request: object, on_event: object = None) -> None:
        raise self._error


REFUSAL = (
    "Unable to generate parser for this template. Automatic parser generation failed: \n------------\n"
    "While executing CallExpression at line 1, column 129 in source:\n...{{- raise_exception('Roles...\n    ^\n"
    "Error: Jinja Exception: Roles must alternate"
)


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ValueError(REFUSAL), InvalidPrompt, "the model's chat template refuses them: Roles must alternate"),
        (ValueError("Cannot have 2 or more"), InvalidPrompt, "Cannot have 2 or more"),
        (ValueError(REFUSAL.partition("\n")[0] + "JSON schema error"), InvalidPrompt, "JSON schema error"),
        (RuntimeError("last read: 'Erika"), RuntimeFailure, "llama.cpp failed before the first token"),
    ],
)
def test_a_request_that_llama_cpp_refuses_has_a_plain_reason(
    error: Exception, kind: type[Exception], reason: str
) -> None:
    runtime = LlamaRuntime(Recorded(), Writer().model, "")
    runtime._server = Refusing(error)
    with pytest.raises(kind, match=f"^{re.escape(reason)}$"):
        runtime.generate(CHAT, lambda piece: True)


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


KINDS = xllamacpp.ggml_backend_dev_type
PROCESSOR = {"type": KINDS.GGML_BACKEND_DEVICE_TYPE_CPU, "description": "A processor"}
GPU = {"type": KINDS.GGML_BACKEND_DEVICE_TYPE_GPU, "description": "A GPU"}


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the devices of this computer, as llama.cpp lists them: a processor, and those that a test adds."""
    found = [PROCESSOR]
    monkeypatch.setattr(xllamacpp, "get_device_info", lambda: found)
    return found


def test_layers_for_gpus_reach_llama_cpp(devices: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []

    class Server:
        def __init__(self, params: xllamacpp.CommonParams) -> None:
            given.append(params.n_gpu_layers)

        def handle_completions(self, request: Mapping[str, Any]) -> None:
            pass

    monkeypatch.setattr(xllamacpp, "Server", Server)
    monkeypatch.setattr(llama.gguf_header, "check", lambda path: None)
    devices.append(GPU)
    for layers in (0, 7, 999):
        llama.start_server(Path("model.gguf"), ServingSettings(gpu_layers=layers))
    assert given == [0, 7, 999]
    assert llama.gpus() == ["A GPU"]


def test_more_tokens_than_the_model_has_are_refused_and_never_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    llama.cpp itself would cut each text to those of the model without a word.
    """
    given: list[int] = []

    class Server:
        def __init__(self, params: xllamacpp.CommonParams) -> None:
            given.append(params.n_ctx)

        def handle_completions(self, request: Mapping[str, Any]) -> None:
            pass

    monkeypatch.setattr(xllamacpp, "Server", Server)
    monkeypatch.setattr(llama.gguf_header, "check", lambda path: 2048)
    with pytest.raises(UserError, match=r"^context_tokens: got 4096; at most 2048, the context of the model") as error:
        llama.start_server(Path("model.gguf"), ServingSettings(context_tokens=4096))
    assert "Set context_tokens to 2048" in str(error.value)
    for settings in (ServingSettings(parallel=2), ServingSettings(parallel=2, context_tokens=2048)):
        llama.start_server(Path("model.gguf"), settings)
    llama.start_server(Path("model.gguf"), ServingSettings(parallel=2, context_tokens=100))
    assert given == [4096, 4096, 200]


def test_layers_for_gpus_without_a_gpu_are_refused(devices: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match=r"^gpu_layers: got 7; llama\.cpp of xllamacpp .* finds no GPU") as refused:
        llama.start_server(Path("model.gguf"), ServingSettings(gpu_layers=7))
    assert "Set gpu_layers to 0" in str(refused.value)
