"""The data of an evaluation: questions with choices, and texts, in JSON Lines."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_json, read_whole

SHOWN_PROBLEMS = 5
Kind = Literal["choices", "texts"]
EXAMPLES = {
    "choices": '{"question": "…", "choices": ["…", "…"], "answer": 0}, where answer is the number of the right choice',
    "texts": '{"text": "…"}',
}


@dataclass(frozen=True, slots=True)
class EvaluationData:
    kind: Kind
    path: Path
    sha256: str
    rows: int


def read(kind: Kind, path: Path) -> EvaluationData:
    """Return the checked data in the file *path*.

    Raises:
        UserError: The file cannot be read, or has malformed rows; the error lists the first ones.
    """
    where = f"--{kind}"
    try:
        content = read_whole(path)
        lines = [line for line in content.decode().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        problem = f"{path} cannot be read: {reason}"
        raise UserError(Diagnostic(where, problem, "a file of JSON Lines", "Correct the path")) from error
    problems = list(_problems(kind, lines))
    if not lines:
        problems = ["the file is empty"]
    if problems:
        raise UserError(
            *(Diagnostic(f"{path}", each, EXAMPLES[kind], "Correct the row") for each in problems[:SHOWN_PROBLEMS])
        )
    return EvaluationData(kind, path, sha256(content).hexdigest(), len(lines))


def read_files(choices: Iterable[Path], texts: Iterable[Path]) -> tuple[list[EvaluationData], list[Diagnostic]]:
    """Return the checked data of all files, and the errors of all wrong ones."""
    data: list[EvaluationData] = []
    problems: list[Diagnostic] = []
    kinds: tuple[tuple[Kind, Iterable[Path]], ...] = (("choices", choices), ("texts", texts))
    for kind, paths in kinds:
        for path in paths:
            try:
                data.append(read(kind, path))
            except UserError as error:
                problems += error.diagnostics
    return data, problems


def _problems(kind: Kind, lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line, lenient=True)
        except ValueError as error:
            yield f"row {number} is no JSON: {error}"
            continue
        if not isinstance(row, dict) or not (_is_question(row) if kind == "choices" else _is_text(row)):
            yield f"row {number} has not this form"


def _is_question(row: dict[str, Any]) -> bool:
    question, choices, answer = (row.get(name) for name in ("question", "choices", "answer"))
    return (
        bool(question) and isinstance(question, str)
        and isinstance(choices, list) and len(choices) > 1
        and all(isinstance(choice, str) and choice for choice in choices)
        and type(answer) is int and 0 <= answer < len(choices)
    )  # fmt: skip


def _is_text(row: dict[str, Any]) -> bool:
    return bool(row.get("text")) and isinstance(row["text"], str)
