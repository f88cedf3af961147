"""A recording of a terminal, drawn as a picture that needs no font from outside."""

import io

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.support.log import ROOT

RECORDING = ROOT / "tests" / "support" / "terminal.txt"
"""The output of the commands, with their colours as control sequences."""
TERMINAL = ROOT / "docs" / "assets" / "terminal.svg"
COLUMNS = 90
FORM = """\
<svg viewBox="0 0 {width} {height}" role="img" aria-label="A terminal" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace }}
.{unique_id}-matrix {{ font-size: {char_height}px; line-height: {line_height}px }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's own form without its fonts, which come from a content network."""


def draw(recording: str) -> str:
    """Return an SVG of the recording."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(recording.rstrip()))
    return console.export_svg(title="rackwright", theme=MONOKAI, code_format=FORM, unique_id="terminal")
