"""Read the catalogue of language models: published shapes, and what vLLM has for architectures."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from workloads import catalogue


def model_names() -> tuple[str, ...]:
    """Return the names of the catalogue's models."""
    return tuple(_read("models.yaml"))


def model_config(name: str) -> dict[str, Any]:
    """Return the shape of the model *name*, in the form of its config.json."""
    return dict(_read("models.yaml")[name]["config"])


def model_title(name: str) -> str:
    """Return the name of the model *name* as its publisher writes it."""
    return str(_read("models.yaml")[name]["title"])


def published_bytes(name: str) -> int | None:
    """Return the bytes of the model's published weights; None if the catalogue does not have them."""
    value = _read("models.yaml")[name].get("weight_bytes")
    return None if value is None else int(value)


def published_file_bytes(name: str) -> int | None:
    """Return the bytes of the model's published files with weights; None if the catalogue does not have them."""
    value = _read("models.yaml")[name].get("files_bytes")
    return None if value is None else int(value)


def vllm_has(architecture: str) -> bool:
    """Return whether vLLM runs *architecture* without code of the model's own."""
    return architecture in _read("vllm.yaml")["architectures"]


def serving_defaults(architecture: str) -> dict[str, int]:
    """Return the defaults of a server's settings for models of *architecture*."""
    return dict(_read("vllm.yaml")["defaults"].get(architecture, {}))


@cache
def _read(file: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((files(catalogue) / file).read_text(encoding="utf-8"))
    return content
