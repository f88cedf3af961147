"""The body of a request of OpenAI's protocol: what all kinds of it share, and how one is read.

Source: OpenAI's API reference. The package has the part that a text-only model can serve.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_json

from workloads.serving.answers import HttpError
from workloads.serving.model import Model
from workloads.serving.offload import check_json


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Texts = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_list)]
"""A list of texts; a single text may stand without the list."""


NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "tools": ([],), "tool_choice": ("none", "auto"), "parallel_tool_calls": (True, False), "functions": ([],),
    "function_call": ("none", "auto"), "response_format": ({"type": "text"},), "logprobs": (False, 0),
    "top_logprobs": (0,), "logit_bias": ({},), "store": (False,), "service_tier": ("auto", "default"),
    "modalities": (["text"],), "verbosity": ("medium",), "best_of": (1,), "echo": (False,), "suffix": ("",),
    "seed": (-1,), "tool_calls": ([],),
}  # fmt: skip
"""Fields that ask for nothing with these values, which clients send unasked; with others the field is refused."""
IGNORED = (
    "metadata", "name", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "safety_identifier", "user",
)  # fmt: skip
"""Fields that say something about the request, or its speed, and nothing about its answer."""


class StrictBody(BaseModel):
    """A body whose unknown fields are refused: a client that asks for tools gets an error. Null means absent."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    always_read: ClassVar[tuple[str, ...]] = ()
    """Fields that mean something with each of their values."""
    of_answers: ClassVar[tuple[str, ...]] = ()
    """Fields of answers that clients send back, and that say nothing to the model."""

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        kept = (key for key, value in values.items() if not _is_neutral(key, value) or key in cls.always_read)
        return {key: values[key] for key in kept if values[key] is not None and key not in cls.of_answers}


def _is_neutral(name: str, value: object) -> bool:
    # 0 equals False, and 1 equals True: the types have to be the same, too
    neutral = any(value == each and type(value) is type(each) for each in NEUTRAL.get(name, ()))
    return value is None or neutral or name in IGNORED


class ModelRequest(StrictBody):
    """A request to a model."""

    tagged: ClassVar[tuple[str, ...]] = ()
    """Fields that have one of several forms."""
    model: str


R = TypeVar("R", bound=ModelRequest)


def read(body: bytes, kind: type[R], model: Model) -> R:
    """Return the request in *body* to *model*.

    Raises:
        HttpError: 400 if malformed, 404 for another model.
    """
    if too_much := check_json(body):
        raise HttpError(400, f"the body: {too_much}")
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        problems = _causes(error.errors(include_url=False, include_input=False))[:8]
        param = str(problems[0]["loc"][0])[:200] if problems[0]["loc"] else None
        raise HttpError(400, "; ".join(_format_problem(problem, kind) for problem in problems), param=param) from None
    check_model(request.model, model)
    return request


def check_model(name: str, model: Model) -> None:
    """Check that *name* is the name of *model*.

    Raises:
        HttpError: 404 if it is another.
    """
    if name != model.name:
        reason = f"no model {name[:64]} here; this server has {model.name}"
        raise HttpError(404, reason, param="model", code="model_not_found")


def _causes(problems: Sequence[Any]) -> list[Any]:
    """Return *problems* without those that follow from others: a part of an unknown `type` has other fields."""
    causes = [
        problem for problem in problems if problem["loc"][-1:] == ("type",) and problem["type"] == "literal_error"
    ]
    parts = {problem["loc"][:-1] for problem in causes}
    return [
        problem
        for problem in problems
        if problem in causes or not any(problem["loc"][: len(part)] == part for part in parts)
    ]


def _format_problem(problem: Any, kind: type[ModelRequest]) -> str:
    names = list(problem["loc"])
    if names and names[0] in kind.tagged:
        del names[1:2]  # pydantic's tag of the form, which no client has sent
    where = ".".join(map(str, names))[:200] or "the body"
    if problem["type"] == "extra_forbidden":
        name = problem["loc"][-1]
        if name in NEUTRAL:
            values = " or ".join(to_json(each).decode() for each in NEUTRAL[name])
            return f"{where}: llama.cpp has no such option here; leave it out, or send {values}"
        fields = f"; the fields are {', '.join(kind.model_fields)}" if len(problem["loc"]) == 1 else ""
        return f"{where}: unknown field{fields}"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
