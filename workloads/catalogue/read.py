"""Read the files of the catalogue."""

from functools import cache
from importlib.resources import files
from typing import Any

from workloads import catalogue
from workloads.errors import Diagnostic, UserError


@cache
def read_catalogue(file: str) -> dict[str, Any]:
    """Return the content of *file* of the catalogue.

    Raises:
        UserError: This Python has no PyYAML, as in the environment of serving alone.
    """
    try:
        import yaml
    except ModuleNotFoundError:
        problem, expected = "this Python has no PyYAML", "the environment of the workloads"
        help = "Use the Python that `rackwright toolchain workloads` prints"
        raise UserError(Diagnostic("the catalogue", problem, expected, help)) from None
    content: dict[str, Any] = yaml.safe_load((files(catalogue) / file).read_text(encoding="utf-8"))
    return content
