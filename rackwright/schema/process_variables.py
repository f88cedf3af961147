"""The declared environment variables of the processes of a run or server."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from rackwright.schema.problem import Problem, raise_any
from workloads.process_variables import COUNT_MAX, FORMS, TEXT_MAX, Form, Value, variable_problem

HELP = "Remove it, or correct it"


def _variables(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise Problem(f"got {type(value).__name__}", "a mapping of names to values", "Write it like {NCCL_DEBUG: INFO}")
    if len(value) > COUNT_MAX:
        raise Problem(f"got {len(value)} variables", f"at most {COUNT_MAX}", "Remove some")
    checked = ((str(name), variable_problem(str(name), item)) for name, item in value.items())
    raise_any(Problem(*problem, HELP, (name,)) for name, problem in checked if problem)
    return value


def _form_schema(form: Form) -> dict[str, Any]:
    """Return the JSON schema of a value of this form."""
    text = {"type": "string", "maxLength": TEXT_MAX, "pattern": f"^({form.pattern})$"}
    if form.numbers is None:
        return text
    return {"anyOf": [{"type": "integer", "minimum": form.numbers[0], "maximum": form.numbers[1]}, text]}


ProcessVariables = Annotated[
    dict[str, Value],
    BeforeValidator(_variables),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": COUNT_MAX,
            "properties": {name: _form_schema(form) for name, form in sorted(FORMS.items())},
            "additionalProperties": False,
        }
    ),
]
"""Names and values of environment variables."""
