"""Pulumi, its language hosts, and their environment."""

from rackwright.toolchain.choose import Toolchain, ensure, find
from rackwright.toolchain.shell import environment, exports, kept, prepare, write_python

__all__ = ["Toolchain", "ensure", "environment", "exports", "find", "kept", "prepare", "write_python"]
