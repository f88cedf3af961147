"""Pulumi, its language hosts, and their environment."""

from rackwright.toolchain.choose import Toolchain, ensure, find
from rackwright.toolchain.shell import (
    environment,
    exports,
    launchers_of_installation,
    own_variables,
    prepare,
    write_python,
)

__all__ = [
    "Toolchain", "ensure", "environment", "exports", "find", "launchers_of_installation", "own_variables", "prepare",
    "write_python",
]  # fmt: skip
