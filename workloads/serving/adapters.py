"""LoRA adapters that a server serves beside its model, checked by their digests before they are loaded."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from workloads.checkpoint import disk
from workloads.errors import Diagnostic, UserError
from workloads.serving.model import DamagedModel
from workloads.serving.vllm_settings import Adapter, VllmSettings

WEIGHTS = "adapter_model.safetensors"
"""The weights of an adapter. Source: PEFT, save_pretrained."""


def read_adapters(path: Path) -> dict[str, Adapter]:
    """Return the adapters in the file *path*, by name.

    Raises:
        UserError: the file cannot be read, or is invalid.
    """
    try:
        return TypeAdapter(dict[str, Adapter]).validate_json(path.read_bytes(), strict=True)
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{error.error_count()} invalid values"
        problem, help = f"the adapters cannot be read: {reason}", "Run `rackwright up` again"
        raise UserError(Diagnostic(str(path), problem, "the file that `rackwright up` writes", help)) from None


def all_adapters(settings: VllmSettings) -> dict[str, Adapter]:
    """Return the adapters of *settings* and of their file, by name.

    Raises:
        UserError: the file cannot be read, or is invalid.
    """
    path = settings.adapters_file
    return {**settings.adapters, **(read_adapters(Path(path)) if path else {})}


def check_adapters(adapters: Mapping[str, Adapter]) -> None:
    """Check the weights of all *adapters*.

    Raises:
        DamagedModel: weights are missing or differ; all of them are in the error.
    """
    if wrong := [flaw for name, adapter in adapters.items() if (flaw := _flaw(name, adapter))]:
        raise DamagedModel(*wrong)


def _flaw(name: str, adapter: Adapter) -> Diagnostic | None:
    path = Path(adapter.directory) / WEIGHTS
    expected, help = f"the adapter {name} with the sha256 {adapter.sha256[:12]}…", "Copy the adapter there again"
    try:
        digest = disk.sha256(path)
    except OSError as error:
        return Diagnostic(str(path), f"the file cannot be read: {error.strerror}", expected, help)
    if digest != adapter.sha256:
        return Diagnostic(str(path), f"the file has the sha256 {digest[:12]}…", expected, help)
    return None
