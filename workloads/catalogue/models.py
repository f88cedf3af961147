"""Read the catalogue of language models: published shapes, and what vLLM has for architectures."""

from typing import Any

from workloads.catalogue.read import read_catalogue


def model_names() -> tuple[str, ...]:
    """Return the names of the catalogue's models."""
    return tuple(read_catalogue("models.yaml"))


def model_config(name: str) -> dict[str, Any]:
    """Return the shape of the model *name*, in the form of its config.json."""
    return dict(read_catalogue("models.yaml")[name]["config"])


def model_title(name: str) -> str:
    """Return the name of the model *name* as its publisher writes it."""
    return str(read_catalogue("models.yaml")[name]["title"])


def published_bytes(name: str) -> int | None:
    """Return the bytes of the model's published weights; None if the catalogue does not have them."""
    value = read_catalogue("models.yaml")[name].get("weight_bytes")
    return None if value is None else int(value)


def published_file_bytes(name: str) -> int | None:
    """Return the bytes of the model's published files with weights; None if the catalogue does not have them."""
    value = read_catalogue("models.yaml")[name].get("files_bytes")
    return None if value is None else int(value)


def vllm_has(architecture: str) -> bool:
    """Return whether vLLM runs *architecture* without code of the model's own."""
    return architecture in read_catalogue("vllm.yaml")["architectures"]


def serving_defaults(architecture: str) -> dict[str, int]:
    """Return the defaults of a server's settings for models of *architecture*."""
    return dict(read_catalogue("vllm.yaml")["defaults"].get(architecture, {}))
