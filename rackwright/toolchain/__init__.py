"""Pulumi, its language hosts, and their environment."""

from rackwright.toolchain.choose import Toolchain, ensure
from rackwright.toolchain.shell import environment, exports, prepare, write_python

__all__ = ["Toolchain", "ensure", "environment", "exports", "prepare", "write_python"]
