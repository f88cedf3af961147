"""The routes of vLLM that clients may use; vLLM has others, which administer it, and they are not reachable."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Route:
    """A route that vLLM answers."""

    path: str
    summary: str
    computes: bool = True
    """Whether the model computes the answer, so that a request needs a slot."""
    has_usage_option: bool = False
    """Whether a stream has its usage only if the request asks for that, as completions do."""
    first_token: bytes = b"data:"
    """Text that the event with the first token has, and no earlier event."""
    id_format: str = ""
    """How vLLM makes the id of each prompt from the id of a request, and the number of the prompt; empty: it is not
    known, and a text ends with its connection alone.

    Source: the serving classes of vLLM 0.32, and their `_base_request_id`.
    """
    id_field: str = ""
    """Field of the body that has the id, for a route that does not read it from the header."""
    takes_forms: bool = False
    """Whether the body is a form with a recording."""

    @property
    def writes_text(self) -> bool:
        """Whether the model writes a text, whose tokens count."""
        return bool(self.id_format) or self.takes_forms

    def ids(self, request_id: str, prompts: int) -> tuple[str, ...]:
        """Return vLLM's ids of the *prompts* texts of a request."""
        if not self.id_format:
            return ()
        # several prompts may have the same id
        return tuple(dict.fromkeys(self.id_format.format(id=request_id, number=number) for number in range(prompts)))


ROUTES = (
    Route("/v1/chat/completions", "Complete a chat", has_usage_option=True, id_format="chatcmpl-{id}"),
    Route("/v1/completions", "Complete a text", has_usage_option=True, id_format="cmpl-{id}-{number}"),
    Route("/v1/chat/completions/batch", "Complete several chats", id_format="chatcmpl-{id}_{number}"),
    Route(
        "/v1/responses",
        "Answer, in OpenAI's later protocol",
        first_token=b'.delta"',
        id_format="{id}_{number}",
        id_field="request_id",
    ),
    Route(
        "/v1/messages",
        "Answer, in Anthropic's protocol",
        first_token=b"content_block_delta",
        id_format="chatcmpl-{id}",
    ),
    Route("/v1/messages/count_tokens", "Count the tokens of a message", computes=False),
    Route("/v1/embeddings", "Embed texts"),
    Route("/v1/score", "Score pairs of texts"),
    Route("/v1/rerank", "Sort documents by a query"),
    Route("/v2/rerank", "Sort documents by a query, in Cohere's protocol"),
    Route("/score", "Score pairs of texts"),
    Route("/rerank", "Sort documents by a query"),
    Route("/classify", "Classify texts"),
    Route("/pooling", "Return pooled hidden states"),
    Route("/v1/audio/transcriptions", "Transcribe speech", takes_forms=True),
    Route("/v1/audio/translations", "Translate speech", takes_forms=True),
    Route("/tokenize", "Return the tokens of a text", computes=False),
    Route("/detokenize", "Return the text of tokens", computes=False),
)
OPENAI_PATHS = ("/v1/", *(route.path for route in ROUTES))
"""Beginnings of the paths whose errors have the form of OpenAI's protocol."""
