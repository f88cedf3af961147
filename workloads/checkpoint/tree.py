"""Conversion of a training state into JSON and named tensors, and back, without pickle."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_json

STATE_BYTES, STATE_DEPTH, STATE_VALUES = 1 << 30, 400, 20_000_000
"""Maximum size, levels and number of values of the text of a state; a node of the tree has three levels."""
_PLAIN = (str, int, float, bool, type(None))


class BadState(UserError):
    """A state that a checkpoint cannot hold."""


def flatten_state(state: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return *state* as JSON with names in place of its tensors, and the tensors by name.

    Mappings with strings and whole numbers as keys, lists, tuples, strings, numbers, booleans and None are restored
    with their types. A tensor in several places, such as tied weights, is stored once.

    Raises:
        BadState: The state contains a value of another type.
    """
    tensors: dict[str, Any] = {}
    names: dict[object, str] = {}

    def encode(value: Any, path: str) -> Any:
        if type(value) in _PLAIN:
            return value
        if isinstance(value, Mapping):
            bad = [key for key in value if type(key) not in (str, int)]
            if bad:
                raise BadState(
                    Diagnostic(
                        f"state{path}",
                        f"{bad[0]!r} cannot be a key",
                        "a string or a whole number",
                        "Use such a key",
                    )
                )
            return {"map": [[key, encode(item, f"{path}/{key}")] for key, item in value.items()]}
        if type(value) in (list, tuple):
            items = [encode(item, f"{path}/{number}") for number, item in enumerate(value)]
            return {type(value).__name__: items}
        if hasattr(value, "data_ptr"):
            return {"tensor": name_of(value, path[1:])}
        problem = f"a checkpoint cannot store a {type(value).__name__}"
        expected = "tensors, mappings, lists, tuples, strings, numbers, booleans or None"
        raise BadState(Diagnostic(f"state{path}", problem, expected, "Convert it to one of these"))

    def name_of(tensor: Any, path: str) -> str:
        if str(tensor.layout) != "torch.strided":
            problem = f"a checkpoint cannot store a tensor of {tensor.layout}"
            raise BadState(Diagnostic(f"state/{path}", problem, "a dense tensor", "Convert the tensor with to_dense()"))
        identity = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if identity in names and tensor.numel():
            return names[identity]
        name = path
        while name in tensors:  # {"a/b": …} and {"a": {"b": …}}
            name += "'"
        names[identity] = name
        tensors[name] = tensor
        return name

    return json.dumps(encode(state, "")), tensors


def restore_state(text: str | bytes, tensors: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the state that `flatten_state` converted.

    Args:
        tensors: Function that loads the tensors by name; called at most once, and not at all if there are none.
    """
    cached_tensors = cache(tensors)

    def decode(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        [(kind, content)] = node.items()
        if kind == "map":
            return {key: decode(item) for key, item in content}
        if kind == "tensor":
            return cached_tensors()[content]
        return _SEQUENCES[kind](decode(item) for item in content)

    state: dict[str, Any] = decode(parse_json(text, STATE_BYTES, STATE_DEPTH, STATE_VALUES, lenient=True))
    return state


_SEQUENCES: dict[str, Callable[[Iterable[Any]], Any]] = {"list": list, "tuple": tuple}
