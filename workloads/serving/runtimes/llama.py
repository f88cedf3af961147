"""llama.cpp: a language model in a GGUF file, on the CPU."""

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import xllamacpp

from workloads.errors import WorkloadError
from workloads.serving import gguf_header
from workloads.serving.model import Model
from workloads.serving.runtimes.events import Events
from workloads.serving.runtimes.runtime import Piece, Unfit
from workloads.serving.settings import Settings


class LlamaRuntime:
    """A language model that llama.cpp goes on with a text by."""

    def __init__(self, directory: Path, model: Model, settings: Settings) -> None:
        [name] = [name for name in model.files if name.endswith(".gguf")]
        self.model = model
        self.told = f"llama.cpp of xllamacpp {xllamacpp.__version__} on CPU"
        self._server = loaded(directory / name, settings)

    def generate(self, asked: Mapping[str, Any], heard: Callable[[Piece], bool]) -> None:
        handle = self._server.handle_chat_completions if "messages" in asked else self._server.handle_completions
        listener = _Listener(heard)
        try:
            handle({**asked, "stream": True, "stream_options": {"include_usage": True}}, listener)
        except ValueError as error:  # C++ calls it an invalid argument, such as two last words of the assistant
            raise Unfit(str(error)) from None
        if listener.failure is not None:
            raise listener.failure


class _Listener:
    """What llama.cpp calls with each event; what it raised would be lost there, so it is kept."""

    def __init__(self, heard: Callable[[Piece], bool]) -> None:
        self._events = Events(heard, _failure)
        self.failure: Exception | None = None

    def __call__(self, event: dict[str, Any]) -> bool:
        """Return whether it is to stop."""
        try:
            return not self._events.tell(event)
        except Exception as error:
            self.failure = error
            return True


def _failure(error: Mapping[str, Any]) -> Exception:
    if error.get("type") == "exceed_context_size_error":
        has, room = error["n_prompt_tokens"], error["n_ctx"]
        reason = f"got a prompt of {has} tokens; with its answer it has {room} at most"
        return Unfit(reason, "context_length_exceeded")
    if error.get("code") == 400:
        return Unfit(str(error.get("message")))
    return RuntimeError(f"llama.cpp: {error.get('type')} {error.get('code')}")  # its message may have the prompt


def loaded(path: Path, settings: Settings) -> Any:
    """Return llama.cpp's server for the file *path*, which has written a first token.

    Raises:
        WorkloadError: its header is wrong, or the library cannot load it.
    """
    gguf_header.check(path)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel, params.n_ctx = settings.parallel, settings.parallel * settings.context_tokens
    # with all cores taken nobody would read the next request
    threads = settings.threads or max(1, (os.cpu_count() or 1) - 1)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = 0
    params.verbosity = 0  # its log would have prompts
    params.cache_ram_mib = 0
    try:
        with TemporaryDirectory() as closed:
            # it insists on a door of its own, past our keys: one that nobody finds, and with a key that nobody has
            params.hostnames, params.api_keys = [f"{closed}/door.sock"], [secrets.token_hex(32)]
            params.ui = params.endpoint_slots = False
            server = xllamacpp.Server(params)
        # one that ends before its loop has begun waits for ever: xllamacpp 2026.10, Server::~Server
        server.handle_completions({"prompt": "a", "max_tokens": 1})
    except Exception as error:
        got, want = f"got {error}", f"llama.cpp of xllamacpp {xllamacpp.__version__} loads it"
        fix = "Take a GGUF file that this version knows, and see that there is memory for it"
        raise WorkloadError(str(path), got, want, fix) from None
    return server
