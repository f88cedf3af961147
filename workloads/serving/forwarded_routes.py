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


ROUTES = (
    Route("/v1/chat/completions", "Complete a chat", has_usage_option=True),
    Route("/v1/completions", "Complete a text", has_usage_option=True),
    Route("/v1/chat/completions/batch", "Complete several chats"),
    Route("/v1/responses", "Answer, in OpenAI's later protocol", first_token=b'.delta"'),
    Route("/v1/messages", "Answer, in Anthropic's protocol", first_token=b"content_block_delta"),
    Route("/v1/messages/count_tokens", "Count the tokens of a message", computes=False),
    Route("/v1/embeddings", "Embed texts"),
    Route("/v1/score", "Score pairs of texts"),
    Route("/v1/rerank", "Sort documents by a query"),
    Route("/v2/rerank", "Sort documents by a query, in Cohere's protocol"),
    Route("/score", "Score pairs of texts"),
    Route("/rerank", "Sort documents by a query"),
    Route("/classify", "Classify texts"),
    Route("/pooling", "Return pooled hidden states"),
    Route("/v1/audio/transcriptions", "Transcribe speech"),
    Route("/v1/audio/translations", "Translate speech"),
    Route("/tokenize", "Return the tokens of a text", computes=False),
    Route("/detokenize", "Return the text of tokens", computes=False),
)
OPENAI_PATHS = ("/v1/", *(route.path for route in ROUTES))
"""Beginnings of the paths whose errors have the form of OpenAI's protocol."""
