"""The tokenizer of a Hugging Face model in a local directory."""

from typing import Any

from workloads.errors import Diagnostic, UserError


def load_tokenizer(directory: str, where: str = "data.tokenizer") -> Any:
    """Return the tokenizer in *directory*, without any code from there.

    Args:
        where: Option or field that names the directory, for the error.

    Raises:
        UserError: The directory has no tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        problem = f"the tokenizer in {directory} cannot be loaded: {str(error).splitlines()[0]}"
        help = "Name a directory that save_pretrained wrote"
        raise UserError(Diagnostic(where, problem, help=help)) from error
