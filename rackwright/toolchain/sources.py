"""What the ways to a toolchain have in common."""

from pathlib import Path

WRAPPER = Path(__file__).parent / "bin"
"""Directory of our pulumi, which chooses the passphrase by the stack and runs the real one."""
PROGRAMS = ("pulumi", "pulumi-language-python", "pulumi-language-python-exec")
"""What a toolchain's directory holds; pulumi looks for the others beside itself or on PATH."""


class Unavailable(Exception):
    """Why a toolchain cannot be had in one way; another way may do."""
