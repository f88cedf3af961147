"""Pulumi, its language hosts, and their environment."""

from rackwright.toolchain.choose import Toolchain, ensure, find
from rackwright.toolchain.shell import environment, exports, own_variables, prepare, write_python

__all__ = ["Toolchain", "ensure", "environment", "exports", "find", "own_variables", "prepare", "write_python"]
