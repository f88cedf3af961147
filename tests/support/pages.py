"""The pages of the documentation, and the commands that they have for pasting."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tests.support.log import ROOT

PLACES = ("*.md", "docs/**/*.md", "roles/*/README.md", "stacks/*/README.md")
PAGES = sorted({page for place in PLACES for page in ROOT.glob(place)})
TAUGHT = [
    page for page in PAGES if page.parent.name in ("tutorials", "guides") or page.name in ("README.md", "quickstart.md")
]
"""Pages whose commands a reader pastes."""
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)
INDENTED = re.compile(r"(?:^ {4}.+\n|^\n(?= {4}))+", re.M)
COMMAND = re.compile(
    r"(?<![\w/.-])(?:\.venv/bin/)?(rackwright|make)(?![\w:./-])((?: +(?:'[^']*'|\"[^\"]*\"|[^\s|;&()<>`#'\"]+))*)"
)
ANSWER = """\
answered() { asked="$*"; case $2 in up|destroy) command "$@" --yes;; *) command "$@";; esac; }
rackwright() { answered rackwright "$@"; }
.venv/bin/rackwright() { answered .venv/bin/rackwright "$@"; }
"""
"""Lines for the start of a pasted script, in which no one answers the questions of `up` and `destroy`."""
TARGET = re.compile(r"^([a-z]+):", re.M)


def blocks(text: str) -> Iterator[str]:
    """Yield the blocks of *text* that are written for a shell."""
    yield from (textwrap.dedent(block) for _, language, block in FENCED.findall(text) if language == "sh")
    yield from map(textwrap.dedent, INDENTED.findall(FENCED.sub("", text)))


def outputs(text: str) -> Iterator[str]:
    """Yield each line that *text* shows as the output of the commands above it; `…` stands for anything in it."""
    for above, below in pairwise(FENCED.finditer(text)):
        if above[2] == "sh" and below[2] == "text":
            yield from filter(lambda line: line.strip(" …"), textwrap.dedent(below[3]).splitlines())


def missing_outputs(text: str, printed: str) -> list[str]:
    """Return the lines of `outputs` that *printed* does not have, wherever its lines are wrapped."""
    words = " ".join(printed.split())
    return [
        line
        for line in outputs(text)
        if not re.search(r".*?".join(re.escape(" ".join(part.split())) for part in line.split("…")), words)
    ]


def pasted(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command of rackwright and make that *page* has for pasting."""
    for block in blocks(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            if not re.match(r"(error|note|help)?\s*\S+:\s", line):
                yield from _commands(line)


def pasted_lines(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each line of *page* for pasting that is one command of rackwright, without its remark, and its words."""
    for block in blocks(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            text = " ".join(line.partition(" #")[0].removesuffix("|| true").split())
            match list(_commands(text)):
                case [[program, *words]] if program == "rackwright" and text.startswith(("rackwright ", 'eval "$(')):
                    yield text, [program, *words]


def mentioned(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command in the sentences of *page*."""
    prose = " ".join(FENCED.sub("", page.read_text()).split())
    for code in re.findall(r"`([^`]+)`", prose):
        if match := COMMAND.match(code):
            yield shlex.split(match[0])


def targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(TARGET.findall((ROOT / "Makefile").read_text()))


def _commands(line: str) -> Iterator[list[str]]:
    code = line.partition(" #")[0]
    for match in COMMAND.finditer(code):
        before = code[: match.start()].rstrip()
        if not before or before.endswith(("|", ";", "&&", "$(", '"$(', "||", "(")):
            yield shlex.split(match[0])
