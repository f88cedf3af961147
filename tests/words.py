"""The word check of `make lint`: plain sentences and plain names.

`python -m tests.words` prints each finding; `python -m tests.words rackwright/cli` those of one folder.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("rackwright/**/*.py", "workloads/**/*.py", "stacks/**/*.py", "__main__.py")
TEXT = ("*.md", "docs/**/*.md", "roles/**/*.md", "roles/*/meta/*.yml", "roles/*/tasks/*.yml")

WORDS = re.compile(r"\b(somebody|nobody|whoever|anew|told|said|thereof|meanwhile)\b", re.I)
"""Words that no sentence has."""
TEST_NAME = re.compile(r"^\s*def (test_\w+)", re.M)
"""Names of tests, which are sentences: they have none of WORDS."""
HOST_FILES = ("roles/**/files/**/*", "roles/**/templates/**/*", "templates/**/*")
"""What is written on hosts, where WORDS alone are looked for; the patch is another project's code."""
OPENING = re.compile(r"(Of|By|What|Who|Whose|Where|Let)\b")
"""Words that no sentence begins with."""
PRONOUN = re.compile(r"(It|They|He|She|This|That|These|Those|Its|Their)\b(?! \w+ (that|of|is|are)\b)")
"""No docstring begins with a pronoun: there is no noun before it."""
IRREGULAR = frozenset(
    (
        "told",
        "said",
        "found",
        "given",
        "known",
        "shown",
        "kept",
        "left",
        "lost",
        "gone",
        "done",
        "held",
        "sent",
        "chosen",
        "seen",
        "taken",
        "made",
        "meant",
        "got",
        "bound",
        "drawn",
        "begun",
        "broken",
        "come",
        "grown",
        "heard",
        "spoken",
        "written",
        "worn",
        "won",
        "born",
        "sold",
        "built",
        "brought",
        "thought",
        "caught",
        "taught",
        "fed",
        "led",
        "met",
        "unknown",
        "unseen",
        "unmade",
        "undone",
        "forgiven",
        "forgotten",
        "frozen",
        "hidden",
        "proven",
        "sworn",
        "thrown",
        "woven",
    )
)
NO_PARTICIPLES = frozenset(("embed", "feed", "need", "seed", "shed", "speed", "exceed", "proceed", "succeed", "breed"))


@dataclass(frozen=True, order=True)
class Finding:
    """One place that breaks a rule."""

    path: str
    line: int
    problem: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.problem}"


def is_participle(name: str) -> bool:
    """Return whether *name*, of a function or class, is a participle and nothing else."""
    word = name.strip("_").lower()
    regular = word.endswith("ed") and word not in NO_PARTICIPLES
    return "_" not in word and not re.search(r"[a-z][A-Z]", name) and (regular or word in IRREGULAR)


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield each sentence of a text in Markdown with its line, counted from 0; code is left out."""
    fenced = False
    paragraph: list[tuple[int, str]] = []
    for number, line in enumerate([*text.splitlines(), ""]):
        line = re.sub(r"^> ?(\[!\w+\]$)?", "", line)  # a note
        if line.lstrip().startswith("```"):
            fenced = not fenced
            line = ""
        code = fenced or line.startswith("    ")
        begins = bool(re.match(r"\s*([-*#>|]|\d+\.) ?", line))
        if paragraph and (code or begins or not line.strip()):
            yield from _split(paragraph)
            paragraph = []
        if not code and line.strip():
            paragraph.append((number, line))


def _split(paragraph: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    starts, whole = [], ""
    for number, line in paragraph:
        starts.append((len(whole), number))
        whole += re.sub(r"`[^`]*`|\"[^\"]*\"", "`code`", line) + " "
    for match in re.finditer(r"\S.*?(?:[.!?:](?=\s+[A-Z*`_])|\|| $)", whole):
        number = max((pair for pair in starts if pair[0] <= match.start()), default=starts[0])[1]
        yield number, re.sub(r"^[\s\-*#>|\d.]+", "", match[0]).strip()


def prose(text: str, *, docstring: bool = False) -> Iterator[tuple[int, str]]:
    """Yield what is wrong with the sentences of *text*, with the line of each, counted from 0."""
    for index, (number, sentence) in enumerate(sentences(text)):
        if match := OPENING.match(sentence):
            yield number, f"a sentence begins with {match[1]}"
        if docstring and index == 0 and (match := PRONOUN.match(sentence)):
            yield number, f"a docstring begins with {match[1]}"
        for word in WORDS.findall(sentence):
            yield number, f"the word {word.lower()}"


def code(path: str, text: str) -> Iterator[Finding]:
    """Yield what is wrong in the docstrings, messages and names of a Python file."""
    tree = ast.parse(text)
    seen: set[ast.AST] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else ():
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                value = child.value
                if isinstance(value.value, str):
                    seen.add(value)
                    lines = "\n".join(line.strip() for line in value.value.splitlines())
                    yield from (Finding(path, value.lineno + n, what) for n, what in prose(lines, docstring=True))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and is_participle(node.name):
            yield Finding(path, node.lineno, f"{node.name} is a participle, and names nothing")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in seen and " " in node.value:
            yield from (
                Finding(path, node.lineno, what) for _, what in prose(node.value.strip().replace("\n    ", "\n"))
            )


def names_of_tests(path: str, text: str) -> Iterator[Finding]:
    """Yield the names of tests that have one of WORDS."""
    for match in TEST_NAME.finditer(text):
        for word in WORDS.findall(match[1].replace("_", " ")):
            yield Finding(path, text.count("\n", 0, match.start(1)) + 1, f"the name of a test has the word {word}")


def findings() -> list[Finding]:
    """Return all findings of the tree, in order."""
    found = []
    for pattern in CODE:
        for path in sorted(ROOT.glob(pattern)):
            found += code(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    for pattern in TEXT:
        for path in sorted(ROOT.glob(pattern)):
            name = str(path.relative_to(ROOT))
            text = path.read_text(encoding="utf-8")
            found += [Finding(name, line + 1, what) for line, what in prose(text)]
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        found += names_of_tests(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8", errors="replace"))
    for path in sorted(path for pattern in HOST_FILES for path in ROOT.glob(pattern) if path.is_file()):
        if path.name != "horovod.patch.j2":
            lines = enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
            name = str(path.relative_to(ROOT))
            found += [Finding(name, n, f"the word {word.lower()}") for n, line in lines for word in WORDS.findall(line)]
    return sorted(set(found))


def main(paths: list[str]) -> int:
    wrong = [each for each in findings() if not paths or each.path.startswith(tuple(paths))]
    for finding in wrong:
        print(finding)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
