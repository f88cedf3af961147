"""The reader of masking policies, which reports all errors of a file at once."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet.problems import format_value, problems_of
from rackwright.fleet.source import Source, read
from rackwright.schema.base import Schema
from rackwright.schema.masking import MaskedColumn, MaskingPolicy, QuasiIdentifiers, TextRules
from rackwright.schema.problem import Problem

Part = TypeVar("Part", bound=Schema)

UNKNOWN_KEY_HELP = "Remove it, or take a key that `rackwright schema --policy` lists under {}"


def load_policy(path: Path) -> MaskingPolicy:
    """Return the masking policy that the YAML file *path* declares.

    Raises:
        DeclarationError: all errors of the file, in the order of its lines.
    """
    source = read(path)
    errors = list(source.mistakes)
    try:
        policy = MaskingPolicy.model_validate(source.data)
    except ValidationError as error:
        details: Any = error.errors(include_url=False)
        found = [*problems_of(MaskingPolicy, details, format_value, UNKNOWN_KEY_HELP)]
        if all(keys for _, keys in found):  # pydantic has not come to the checks of the whole
            found += [(problem, ()) for problem in _valid_parts(source.data).problems()]
        errors += [_locate(source, problem, keys) for problem, keys in found]
    if errors:
        raise DeclarationError(*(diagnostic for _, diagnostic in sorted(errors, key=lambda each: each[0])))
    return policy


def _valid_parts(data: Mapping[str, Any]) -> MaskingPolicy:
    """Return the policy *data* with placeholders for its wrong parts, for the checks across its parts."""
    columns = data.get("columns")
    named = columns.items() if isinstance(columns, dict) else ()
    placeholder = MaskedColumn.model_construct(rule="keep")
    return MaskingPolicy.model_construct(
        columns={name: _valid(MaskedColumn, column) or placeholder for name, column in named},
        text=_valid(TextRules, data.get("text")) or TextRules(countries=()),
        quasi_identifiers=_valid(QuasiIdentifiers, data.get("quasi_identifiers")),
    )


def _valid(model: type[Part], data: Any) -> Part | None:
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def digest(policy: MaskingPolicy) -> str:
    """Return the SHA-256 digest of *policy*, which its comments and its order do not change."""
    content = json.dumps(policy.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a masking policy, for editors."""
    schema = MaskingPolicy.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Masking policy"}


def _locate(source: Source, problem: Problem, keys: tuple[str | int, ...]) -> tuple[int, Diagnostic]:
    whole = (*keys, *problem.path)
    return source.line(whole), source.error(problem, whole)
