"""A clock for one module: threads of other tests in the same process go on with the real one."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def own_clock(monkeypatch: pytest.MonkeyPatch, module: ModuleType, **functions: Callable[..., Any]) -> None:
    """Replace these functions of `time` for *module*, which imports `time` as a module."""
    monkeypatch.setattr(module, "time", SimpleNamespace(**{**vars(module.time), **functions}))
