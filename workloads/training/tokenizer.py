"""The tokenizer of a Hugging Face model in a local directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_json, read_file

TOKENIZER_FILES = (
    "chat_template.jinja", "chat_template.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
)  # fmt: skip
"""Files that make tokens of texts and conversations; none of them is code."""
FILE = "tokenizer.json"
"""The file by which the model was trained, and which vLLM, llama.cpp and the tokenizers package read."""

FILE_BYTES, FILE_VALUES = 256 << 20, 8_000_000
"""Maximum size and number of values of that file; those of large models have 40 MiB and 2 million."""
_CONTRACTIONS, _REST = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_DEEPSEEK = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
)
PRE_TOKENIZERS = {
    (): "gpt-2",
    (rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}",): "llama-bpe",
    (rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}",): "qwen2",
    _DEEPSEEK: "deepseek-v3",
}
"""llama.cpp's names of the splits of a text into words, by their regular expressions in order; none are GPT-2's."""
TEXTS = (
    "Rack 7 is in row 134.", " 2023  650841823\n\n\tdef f(x):\n    return x", "Don't, I'LL, we've: O'Neil's 3x2",
    "Größe, naïveté, 東京 デルタ, العربية, हिन्दी", "https://example.org/a_b?c=d&e=%20#f", "  <b>…—</b>  \r\n\n  end ",
)  # fmt: skip
"""Texts that tokenizers with different splits into words divide differently."""


def read_tokenizer(path: Path) -> Any:
    """Return the content of a tokenizer.json.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, or too large.
    """
    return parse_json(read_file(path, FILE_BYTES), FILE_BYTES, max_items=FILE_VALUES, lenient=True)


def llama_split(values: Mapping[str, Any]) -> str | None:
    """Return llama.cpp's name of the split into words in *values*, the content of a tokenizer.json; None if unknown."""
    outer = values.get("pre_tokenizer") or {}
    parts = outer.get("pretokenizers", [outer])
    splits = [part["pattern"].get("Regex") for part in parts if part.get("type") == "Split"]
    if {part.get("type") for part in parts} - {"Split", "ByteLevel"}:
        return None
    return PRE_TOKENIZERS.get(tuple(splits))


def other_tokens(directory: str) -> tuple[str, str] | None:
    """Return a text that transformers divides otherwise than the tokenizer.json in *directory* says, after the class
    that it chooses for the model there; None if there is none. vLLM chooses as transformers does.
    """
    from transformers import AutoTokenizer

    own = load_tokenizer(directory)
    chosen = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    differing = (text for text in TEXTS if own(text)["input_ids"] != chosen(text)["input_ids"])
    return next(((type(chosen).__name__, text) for text in differing), None)


def export_warning(directory: str) -> str:
    """Return why no model with the tokenizer in *directory* can be exported, or that this is unknown; else nothing."""
    if not Path(directory, FILE).is_file() or not Path(directory, "config.json").is_file():
        return ""
    try:
        other = None if llama_split(read_tokenizer(Path(directory, FILE))) else other_tokens(directory)
    except Exception as error:  # of libraries, which have many; a warning ends no run
        return f"it is not known whether the trained model can be exported ({type(error).__name__})"
    if other is None:
        return ""
    return (
        f"the trained model cannot be exported: transformers and vLLM choose {other[0]} for its type, which divides "
        f"{other[1]!r} otherwise than tokenizer.json, and llama.cpp does not know the split into words of that file"
    )


def check_directory(path: str, where: str) -> None:
    """Check that there is a directory at *path*: transformers takes others for names on the internet.

    Raises:
        UserError: There is none.
    """
    if not Path(path).is_dir():
        help = "Correct the path, or fetch the model with `hf download NAME --local-dir DIR`, and write DIR"
        raise UserError(Diagnostic(where, f"{path} is no directory", "a directory of this computer", help))


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

    check_directory(directory, where)
    kind = PreTrainedTokenizerFast if Path(directory, FILE).is_file() else AutoTokenizer
    try:
        return kind.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        problem = f"the tokenizer in {directory} cannot be loaded: {str(error).splitlines()[0]}"
        help = "Name a directory that save_pretrained wrote"
        raise UserError(Diagnostic(where, problem, help=help)) from error
