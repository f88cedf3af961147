"""Names of the programs and the error that all sources of a toolchain share."""

PROGRAMS = ("pulumi", "pulumi-language-python", "pulumi-language-python-exec")
"""Programs that a toolchain on PATH needs; pulumi looks for the others in its own directory or on PATH."""
NODEJS = "pulumi-language-nodejs"
"""The language host for programs in TypeScript, which every toolchain of ours has too."""


class ToolUnavailable(Exception):
    """A source cannot provide a program; another source may."""
