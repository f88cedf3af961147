"""llama.cpp: a language model or an embedding model in a GGUF file, on processors or on GPUs."""

import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import xllamacpp

from workloads.errors import Diagnostic, UserError
from workloads.serving import gguf_header
from workloads.serving.model import Model
from workloads.serving.runtimes.events import EventReader
from workloads.serving.runtimes.runtime import (
    Embeddings,
    InvalidPrompt,
    Piece,
    RuntimeFailure,
    TextEnd,
    UnreadableOutput,
)
from workloads.serving.settings import ServingSettings

MOST_TEXTS = 256
"""The most texts at once. Source: LLAMA_MAX_SEQ of llama.cpp."""


NEXT_TOKEN = {"max_tokens": 1, "temperature": 0, "cache_prompt": False, "grammar": "root ::= [ -~]+"}
"""Options for the log-probabilities of the next token.

Tokens of the cache were computed in other batches, which round in another way. llama.cpp gives no log-probabilities
with a token that is a part of a character; the grammar changes the token, and not the log-probabilities.
"""
_EVENTS = {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
_UNREADABLE = re.compile("The model produced output that does not match|Failed to parse input")
"""Messages of llama.cpp about an output without the form that the chat template gives it. Source: common/chat.cpp."""
_REFUSAL = re.compile(r"\nError: Jinja Exception: (.*)", re.DOTALL)
_AUTOMATIC = "Unable to generate parser for this template. Automatic parser generation failed: "
_PROBE = [{"role": "user", "content": "a"}]
_PROBE_TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def load(directory: Path, model: Model, settings: ServingSettings) -> "LlamaRuntime | LlamaEmbeddings":
    """Return the runtime of the GGUF file of *model*: it writes texts, or makes vectors of them.

    Raises:
        UserError: llama.cpp cannot load the file with these settings.
    """
    [name] = [name for name in model.files if name.endswith(".gguf")]
    server = start_server(directory / name, settings)
    device = f"{settings.gpu_layers} layers on {', '.join(gpus())}" if settings.gpu_layers else "CPU"
    description = f"llama.cpp of xllamacpp {xllamacpp.__version__} on {device}"
    return (LlamaEmbeddings if settings.embeddings else LlamaRuntime)(server, model, description)


class LlamaEmbeddings:
    """An embedding model that llama.cpp runs."""

    def __init__(self, server: Any, model: Model, description: str) -> None:
        self._server, self.model, self.description = server, model, description

    def embed(self, texts: Sequence[str]) -> Embeddings:
        return _embed(self._server, texts)


class LlamaRuntime:
    """A language model that llama.cpp runs."""

    def __init__(self, server: Any, model: Model, description: str) -> None:
        self._server, self.model, self.description = server, model, description
        self.writes_tools = prompt_tokens(server, _PROBE, tools=[_PROBE_TOOL]) > prompt_tokens(server, _PROBE)

    def generate(self, request: Mapping[str, Any], on_piece: Callable[[Piece], bool]) -> None:
        handle = self._server.handle_chat_completions if "messages" in request else self._server.handle_completions
        listener = _EventListener(on_piece)
        try:
            handle({**request, **_EVENTS}, listener)
        except ValueError as error:  # C++'s invalid argument, such as two last messages of the assistant
            raise InvalidPrompt(_reason(str(error))) from None
        except RuntimeError:
            raise RuntimeFailure("llama.cpp failed before the first token") from None  # its message may have the prompt
        if listener.failure is not None:
            raise listener.failure

    def next_token_log_probabilities(self, prompt: str, count: int) -> list[float]:
        answer = self._server.handle_completions({"prompt": prompt, "logprobs": count, **NEXT_TOKEN})
        [token] = answer["choices"][0]["logprobs"]["content"]
        return sorted((float(each["logprob"]) for each in token["top_logprobs"]), reverse=True)


def prompt_tokens(server: Any, messages: Sequence[Mapping[str, str]], **more: Any) -> int:
    """Return the tokens of a chat's prompt in *server*; 0 if the model's template does not take it.

    Args:
        more: Further keys of the request.
    """
    tokens = 0

    def stop_at_prompt(event: Mapping[str, Any]) -> bool:
        nonlocal tokens
        tokens = event.get("prompt_progress", {}).get("total", tokens)
        return bool(tokens)  # before llama.cpp reads the output, which may not have the template's form

    try:
        server.handle_chat_completions({"messages": messages, "max_tokens": 1, **_EVENTS, **more}, stop_at_prompt)
    except ValueError:
        return 0
    return tokens


class _EventListener:
    """The callback for llama.cpp's events; it keeps an exception, because llama.cpp would lose a raised one."""

    def __init__(self, on_piece: Callable[[Piece], bool]) -> None:
        self._events = EventReader(self._count, _failure)
        self._on_piece = on_piece
        self._prompt_tokens: int | None = None
        self._tokens = 0
        self.failure: Exception | None = None

    def _count(self, piece: Piece) -> bool:
        self._prompt_tokens = piece.prompt_tokens or self._prompt_tokens
        self._tokens += bool(piece.text or piece.calls or piece.thought)
        return self._on_piece(piece)

    def __call__(self, event: dict[str, Any]) -> bool:
        """Return whether llama.cpp should stop."""
        try:
            return not self._events.feed(event)
        except UnreadableOutput as error:
            if self._tokens:  # the text so far is all that the client can get
                self._on_piece(Piece("", TextEnd("length", self._prompt_tokens, self._tokens)))
            else:
                self.failure = error
            return True
        except Exception as error:
            self.failure = error
            return True


def _embed(server: Any, texts: Sequence[str]) -> Embeddings:
    """Return the vectors that llama.cpp makes of *texts*.

    Raises:
        InvalidPrompt: a text is too long, or llama.cpp refuses it.
    """
    answer = server.handle_embeddings({"input": list(texts)})
    if error := answer.get("error"):
        message = str(error.get("message"))
        if "is too large to process" in message:
            raise InvalidPrompt("a text has more tokens than context_tokens", "context_length_exceeded")
        raise _failure(error)
    rows = sorted(answer["data"], key=lambda row: int(row["index"]))
    return Embeddings([row["embedding"] for row in rows], int(answer["usage"]["prompt_tokens"]))


def gpus() -> list[str]:
    """Return the GPUs that this build of llama.cpp can use."""
    kinds = xllamacpp.ggml_backend_dev_type
    on = (kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU)
    return [str(each["description"]) for each in xllamacpp.get_device_info() if each["type"] in on]


def _failure(error: Mapping[str, Any]) -> Exception:
    if error.get("type") == "exceed_context_size_error":
        has, room = error["n_prompt_tokens"], error["n_ctx"]
        reason = f"got a prompt of {has} tokens; a prompt and its answer have at most {room}"
        return InvalidPrompt(reason, "context_length_exceeded")
    if error.get("code") == 400:
        return InvalidPrompt(str(error.get("message")))
    if _UNREADABLE.match(str(error.get("message"))):
        return UnreadableOutput("the output does not have the form that the model's chat template gives it")
    return RuntimeFailure(f"llama.cpp: {error.get('type')} {error.get('code')}")  # its message may have the prompt


def _reason(message: str) -> str:
    """Return the part of a *message* of llama.cpp that is about the request, without that about its template."""
    refusal = _REFUSAL.search(message)
    return f"the model's chat template refuses them: {refusal[1]}" if refusal else message.removeprefix(_AUTOMATIC)


def start_server(path: Path, settings: ServingSettings) -> Any:
    """Return llama.cpp's server for the file *path*, after it has generated a first token or a first vector.

    Without `context_tokens` among the settings, texts are no longer than those of the model.

    Raises:
        UserError: the header is wrong, `context_tokens` is more than the model has, or the library cannot load the
            file.
    """
    if settings.parallel > MOST_TEXTS:
        problem, expected = f"got parallel {settings.parallel}", f"at most {MOST_TEXTS} texts at once with llama.cpp"
        raise UserError(Diagnostic("parallel", problem, expected, f"Set parallel to {MOST_TEXTS}"))
    if settings.gpu_layers and not gpus():
        problem = f"got {settings.gpu_layers}; llama.cpp of xllamacpp {xllamacpp.__version__} finds no GPU"
        help = "Set gpu_layers to 0, or install a build of xllamacpp for the GPUs of this computer"
        raise UserError(Diagnostic("gpu_layers", problem, "a GPU, and a build of llama.cpp that uses it", help))
    context_tokens = _context_tokens(settings, gguf_header.check(path))
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel, params.n_ctx = settings.parallel, settings.parallel * context_tokens
    # one core stays free for the event loop, which reads the next requests
    threads = settings.threads or max(1, (os.cpu_count() or 1) - 1)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = settings.gpu_layers
    if settings.embeddings:
        params.embedding = True
        # a text is computed at once: tokens of an embedding model look at those after them
        params.n_batch = params.n_ubatch = context_tokens
        if settings.embeddings != "model":
            pooling = f"LLAMA_POOLING_TYPE_{settings.embeddings.upper()}"
            params.pooling_type = getattr(xllamacpp.llama_pooling_type, pooling)
    params.verbosity = 0  # its log would contain prompts
    params.cache_ram_mib = 0
    try:
        with TemporaryDirectory() as directory:
            # the library always opens an HTTP server, which bypasses our keys: no client finds a deleted socket, and
            # no client has the key
            params.hostnames, params.api_keys = [f"{directory}/door.sock"], [secrets.token_hex(32)]
            params.ui = params.endpoint_slots = False
            server = xllamacpp.Server(params)
        # a server that ends before its loop has started hangs: xllamacpp 2026.10, Server::~Server
        if settings.embeddings:
            _embed(server, ["a"])
        else:
            server.handle_completions({"prompt": "a", "max_tokens": 1})
    except Exception as error:
        problem = f"llama.cpp of xllamacpp {xllamacpp.__version__} cannot load the model: {error}"
        help = "Use a GGUF file for this version, and check that there is memory for it"
        raise UserError(Diagnostic(str(path), problem, help=help)) from None
    return server


def _context_tokens(settings: ServingSettings, most: int | None) -> int:
    """Return the tokens of a text: those of *settings*, or those of the model if none are set and it has fewer.

    Args:
        most: Tokens of the model; llama.cpp would cut longer texts to them without a word.

    Raises:
        UserError: more are set than the model has.
    """
    if most is None or settings.context_tokens <= most:
        return settings.context_tokens
    if "context_tokens" not in settings.model_fields_set:
        return most
    problem, expected = f"got {settings.context_tokens}", f"at most {most}, the context of the model"
    raise UserError(Diagnostic("context_tokens", problem, expected, f"Set context_tokens to {most}"))
