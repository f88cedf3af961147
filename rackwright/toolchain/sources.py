"""Names of the programs and the error that all sources of a toolchain share."""

PROGRAMS = ("pulumi", "pulumi-language-python", "pulumi-language-python-exec")
"""Programs in the directory of a toolchain; pulumi looks for the others in its own directory or on PATH."""


class ToolUnavailable(Exception):
    """A source cannot provide a program; another source may."""
