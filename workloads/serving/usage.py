"""The tokens of one request, which its key pays as they become known: also those of work that ends after its answer."""

from collections.abc import Callable


class Usage:
    """The tokens that a request has used so far."""

    def __init__(self, pay: Callable[[int, int], None]) -> None:
        """
        Args:
            pay: Called with the tokens of the prompt and of the answer that were not paid before.
        """
        self._pay = pay
        self._prompt_tokens = self._tokens = 0

    def raise_to(self, prompt_tokens: int | None = None, tokens: int | None = None) -> None:
        """Pay what these totals are above those before; None means that a total is not known."""
        prompt_before, before = self._prompt_tokens, self._tokens
        self._prompt_tokens = max(prompt_before, prompt_tokens or 0)
        self._tokens = max(before, tokens or 0)
        if (self._prompt_tokens, self._tokens) != (prompt_before, before):
            self._pay(self._prompt_tokens - prompt_before, self._tokens - before)
