"""Projects with stacks, and the settings files of stacks."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest


def new_project(directory: Path, monkeypatch: pytest.MonkeyPatch, fleets: Mapping[str, str]) -> Path:
    """Make the files *fleets* below stacks/ of *directory*, go there, and return it."""
    monkeypatch.delenv("RACKWRIGHT_SALT_FILE", raising=False)
    monkeypatch.chdir(directory)
    (directory / "stacks").mkdir()
    for name, text in fleets.items():
        (directory / "stacks" / name).write_text(text)
    return directory


def encrypted_secrets(*names: str, length: int = 512) -> dict[str, dict[str, str]]:
    """Return the setting `secrets` with values of *length* bytes, in the format of pulumi; nothing decrypts them."""
    value = f"v1:bm9uY2U=:{base64.b64encode(bytes(length + 16)).decode()}"
    return {name: {"secure": value} for name in names}


def configure(project: Path, stack: str, fleet: str, target: str, **more: object) -> None:
    """Write the settings file of *stack*, a setting in each line."""
    settings = {"fleet": fleet, "target": target, **more}
    lines = (f"  rackwright:{name}: {json.dumps(value)}\n" for name, value in settings.items())
    (project / "stacks" / f"Pulumi.{stack}.yaml").write_text(f"config:\n{''.join(lines)}")
