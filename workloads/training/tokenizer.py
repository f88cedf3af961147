"""The tokenizer of a Hugging Face model in a local directory."""

from pathlib import Path
from typing import Any

from workloads.errors import Diagnostic, UserError

FILE = "tokenizer.json"
"""The file by which the model was trained, and which vLLM, llama.cpp and the tokenizers package read."""

TEXTS = (
    "Rack 7 is in row 134.", " 2023  650841823\n\n\tdef f(x):\n    return x", "Don't, I'LL, we've: O'Neil's 3x2",
    "Größe, naïveté, 東京 デルタ, العربية, हिन्दी", "https://example.org/a_b?c=d&e=%20#f", "  <b>…—</b>  \r\n\n  end ",
)  # fmt: skip
"""Texts that tokenizers with different splits into words divide differently."""


def load_tokenizer(directory: str, where: str = "data.tokenizer") -> Any:
    """Return the tokenizer in *directory*, without any code from there.

    A tokenizer.json is read as it is. transformers 5 chooses a class by the model's type, and some of them put a split
    into words of their own in the place of that of the file: the same text then has other tokens than in a server.
    Source: huggingface/transformers, issues 45488 and 45920.

    Args:
        where: Option or field that names the directory, for the error.

    Raises:
        UserError: The directory has no tokenizer.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind = PreTrainedTokenizerFast if Path(directory, FILE).is_file() else AutoTokenizer
    try:
        return kind.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        problem = f"the tokenizer in {directory} cannot be loaded: {str(error).splitlines()[0]}"
        help = "Name a directory that save_pretrained wrote"
        raise UserError(Diagnostic(where, problem, help=help)) from error
