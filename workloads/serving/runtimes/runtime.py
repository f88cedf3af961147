"""The interface between the server and a runtime."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from workloads.errors import UserError
from workloads.serving.batcher import Arrays
from workloads.serving.model import Model


class LoadedModel(Protocol):
    """A loaded model."""

    @property
    def model(self) -> Model:
        """The metadata of the model, with names, types and shapes of its inputs."""

    @property
    def description(self) -> str:
        """The library that runs the model, with its version and device, for a person."""


class Runtime(LoadedModel, Protocol):
    """A model with arrays as inputs and outputs. The server calls it from one thread at a time."""

    def infer(self, inputs: Arrays) -> Arrays:
        """Return every output; *inputs* have the names, types and shapes of the model's metadata."""


Reason = Literal["stop", "length", "tool_calls"]
"""stop: the model or a stop sequence ended the text; length: there was no room for more; tool_calls: with calls."""


@dataclass(frozen=True, slots=True)
class TextEnd:
    """How a text ended."""

    reason: Reason
    prompt_tokens: int | None
    """Tokens of the prompt; None if the text was cut before the runtime counted them."""
    tokens: int
    """Tokens of the text."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text, sent as soon as it is generated."""

    text: str
    end: TextEnd | None = None
    """The end of the text, in the last piece alone."""
    logprobs: tuple[Mapping[str, Any], ...] = ()
    """Log-probabilities of the tokens of the text, if the request asked for them, in the form of OpenAI's chats."""
    calls: tuple[Mapping[str, Any], ...] = ()
    """Parts of calls of tools, in the form of OpenAI's streams."""
    thought: str = ""
    """A part of the thought before the text, which the model's chat template sets apart."""
    prompt_tokens: int | None = None
    """Tokens of the prompt, in pieces without text that come while the runtime computes the prompt."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The vectors of several texts."""

    vectors: Sequence[Sequence[float]]
    tokens: int
    """Tokens of all texts."""


class InvalidPrompt(Exception):
    """A prompt that the model cannot continue; the message goes to its sender."""

    def __init__(self, reason: str, code: str | None = None) -> None:
        """
        Args:
            code: The error code for OpenAI's clients, if there is one.
        """
        super().__init__(reason)
        self.code = code


class RuntimeFailure(RuntimeError):
    """A failure of a runtime. The text has no part of a request, and goes into the log."""


class UnreadableOutput(Exception):
    """An output of the model in which the runtime finds no text and no calls; another seed may give another one."""


@runtime_checkable
class LanguageRuntime(LoadedModel, Protocol):
    """A language model. Several threads may use it at once."""

    def generate(self, request: Mapping[str, Any], on_piece: Callable[[Piece], bool]) -> None:
        """Pass each piece of the text to *on_piece*, until the text ends or *on_piece* returns False.

        A piece with the tokens of the prompt comes before the first one with text, and before the prompt is computed.

        Args:
            request: `messages` or `prompt`, and the options of sampling, by OpenAI's names.

        Raises:
            InvalidPrompt: nothing was generated.
            UnreadableOutput: no piece of what was generated can be read.
        """


@runtime_checkable
class ToolRuntime(LanguageRuntime, Protocol):
    """A language model that may know tools."""

    writes_tools: bool
    """Whether the model's chat template writes the tools of a request into the prompt."""


@runtime_checkable
class EmbeddingRuntime(LoadedModel, Protocol):
    """A model that returns a vector for a text. Several threads may use it at once."""

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Return the vectors of *texts*.

        Raises:
            InvalidPrompt: a text is too long.
        """


@runtime_checkable
class ScoringRuntime(LanguageRuntime, Protocol):
    """A language model that returns the scores of tokens."""

    def next_token_log_probabilities(self, prompt: str, count: int) -> list[float]:
        """Return the natural logarithms of the probabilities of the *count* likeliest next tokens, largest first."""


@runtime_checkable
class ForwardedRuntime(LoadedModel, Protocol):
    """A language model behind an HTTP server of its own, to which requests are forwarded."""

    @property
    def socket_path(self) -> Path:
        """The Unix socket of the HTTP server."""

    @property
    def key(self) -> str:
        """The API key of the HTTP server."""


class RuntimeProcessEnded(UserError):
    """The process of the runtime ended by itself; a restart may help."""

    exit_status = 4


@runtime_checkable
class RuntimeProcess(Protocol):
    """A model that runs in a process of its own, which may end by itself."""

    def exit_reason(self) -> str | None:
        """Return why the process ended, or None while it runs."""

    def close(self) -> None:
        """Stop the process."""


class LoadableAdapters(Protocol):
    """The adapters of a model, which may change while it is served."""

    def directories(self) -> dict[str, str]:
        """Return the directory of each loaded adapter, by name."""

    def load(self) -> None:
        """Load the present adapters.

        Raises:
            UserError: an adapter is invalid.
        """


@runtime_checkable
class AdapterRuntime(Protocol):
    """A model with adapters."""

    adapters: LoadableAdapters
