"""The parts of a model that its config.json leaves to transformers: defaults, and towers beside the language model.

Nothing has memory for weights here, and no code of the model's own runs.
"""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from workloads.errors import Diagnostic, UserError
from workloads.foreign import excerpt

DIRECTORY = "Give the directory with its safetensors"
INSTALL = "Run it with the Python that `rackwright toolchain workloads` prints, which has transformers"
DEPTH_MAX, SIZE_MAX = 1000, 1 << 30
"""The largest number of layers, and the largest other number, of a model that transformers may build here."""
_REMOTE = ("auto_map", "quantization_config")
"""Keys that would load code of the model's own, or a library of quantisation."""


_NESTED = ("text_config", "vision_config", "audio_config")
"""Keys of a multimodal model."""


def is_here() -> bool:
    return find_spec("transformers") is not None


def defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the language model that *config* declares, with those that its class has by default.

    Empty if transformers is not here, or does not know the type of the model or its values.
    """
    if not is_here():
        return {}
    try:
        values = _configuration(config).get_text_config().to_dict()
    except Exception:  # the values are foreign, and its classes raise many types
        return {}
    return {name: value for name, value in values.items() if value is not None}


def tower_values(config: Mapping[str, Any]) -> int:
    """Return the number of weights beside the language model of *config*: towers of vision and audio, projectors.

    Raises:
        UserError: They are not known: transformers is not here, or it does not know the model.
    """
    if not any(isinstance(config.get(name), Mapping) for name in _NESTED):
        return 0
    if not is_here():
        raise _cannot_compute(config, "this Python has no transformers", f"{INSTALL}, or g{DIRECTORY[1:]}")
    try:
        return sum(_values_beside(_configuration(config)))
    except UserError:
        raise
    except Exception as error:  # the values are foreign, and its classes raise many types
        reason = excerpt(f"{type(error).__name__}: {error}".splitlines()[0])
        raise _cannot_compute(config, f"transformers: {reason}", DIRECTORY) from error


def _cannot_compute(config: Mapping[str, Any], reason: str, help: str) -> UserError:
    kind = excerpt(repr(config.get("model_type")))
    problem = f"the weights of {kind} beside its language model cannot be computed from its config.json ({reason})"
    return UserError(Diagnostic("config.json, model_type", problem, "a multimodal model of transformers", help))


def _configuration(config: Mapping[str, Any]) -> Any:
    """Return the configuration of transformers for *config*."""
    from transformers import CONFIG_MAPPING

    values = {name: value for name, value in config.items() if name not in _REMOTE}
    _check_numbers(values)
    return CONFIG_MAPPING[str(config.get("model_type"))].from_dict(values)


def _check_numbers(config: Mapping[str, Any]) -> None:
    """Refuse numbers for which transformers would build modules for hours."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            _check_numbers(value)
            continue
        number = len(value) if isinstance(value, list) else value
        most = DEPTH_MAX if isinstance(value, list) or _is_depth(name) else SIZE_MAX
        if isinstance(number, int) and number > most:
            problem = f"{excerpt(number)} is more than a model is built with"
            raise UserError(Diagnostic(f"config.json, {excerpt(name)}", problem, f"at most {most}", DIRECTORY))


def _is_depth(name: str) -> bool:
    """Whether *name* counts layers, unlike `vocab_size_per_layer_input` of Gemma and `depthwise_…` of Phi."""
    return ("layer" in name and "per_layer" not in name) or ("depth" in name and "depthwise" not in name)


def _values_beside(settings: Any) -> Iterator[int]:
    """Yield the sizes of the weights of the model of *settings* that are neither of its decoder nor of its head."""
    import torch
    from transformers import AutoModelForMultimodalLM

    with torch.device("meta"):
        model = AutoModelForMultimodalLM.from_config(settings)
    parts = [part for part in (model.get_decoder(), model.get_output_embeddings()) if part is not None]
    inside = {id(weight) for part in parts for weight in part.parameters()}
    yield from (weight.numel() for weight in model.parameters() if id(weight) not in inside)
