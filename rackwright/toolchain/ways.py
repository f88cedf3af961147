"""What the ways to a toolchain have in common."""

PROGRAMS = ("pulumi", "pulumi-language-python", "pulumi-language-python-exec")
"""What a toolchain's directory holds; pulumi looks for the others beside itself or on PATH."""


class Unavailable(Exception):
    """Why a toolchain cannot be had in one way; another way may do."""
