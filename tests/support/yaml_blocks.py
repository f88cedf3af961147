"""The YAML blocks of the documentation, fenced or indented."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

FENCED = re.compile(r"^( *)```ya?ml[^\n]*\n(.*?)^\1```", re.M | re.S)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?:    [^\n]*\n|\n(?=    ))+)")
DECLARING = re.compile(r"^[a-z_]+:( *(#.*)?| \{.*\})$")
"""First line of an indented block that declares something, and is no command or output."""
COMMAND = re.compile(r"^(?:\.venv/bin/)?(?:rackwright|pulumi|openssl|make) ", re.M)
"""Command that follows a declaration in the same block."""


def blocks(page: Path) -> Iterator[str]:
    """Yield the YAML blocks of *page*, fenced or indented."""
    text = page.read_text()
    yield from (textwrap.dedent(match[2]) for match in FENCED.finditer(text))
    for match in INDENTED.finditer(FENCED.sub("", text)):
        block = COMMAND.split(textwrap.dedent(match[1]).strip("\n"))[0] + "\n"
        first = next((line for line in block.splitlines() if line and not line.startswith("#")), "")
        if DECLARING.match(first):
            yield block
