"""The pages of the documentation: their commands, their links, and the fleets of the README."""

import re
import sqlite3
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rackwright.cli.init import Example, project_files
from rackwright.fleet import load_fleet
from rackwright.schema import Fleet
from tests.reference.command_tree import commands
from tests.support import pages
from tests.support.log import ROOT
from tests.support.our_roles import ROLES
from tests.support.sources import errors_of_map

COMMANDS = dict(commands())
README = (ROOT / "README.md").read_text()
FENCED = re.compile(r"^( *)```\w*\n.*?^\1```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def parse(words: list[str]) -> None:
    """Parse a command as the command line does, without running it.

    Raises:
        AssertionError: There is no such command, option or target.
    """
    program, *rest = words
    if program.endswith("make"):
        wrong = [word for word in rest if "=" not in word and word not in pages.targets()]
        assert not wrong, f"make has no target {', '.join(wrong)}"
        return
    if rest in (["--help"], ["--version"], ["help"]):
        return
    name, rest = split(rest)
    try:
        COMMANDS[name].make_context(name, rest)
    except Exception as error:  # the classes of typer's errors are private
        raise AssertionError(f"{' '.join(words)}: {getattr(error, 'message', error)}") from None


def split(words: list[str]) -> tuple[str, list[str]]:
    """Return the name of the command that *words* begin with, and the other words."""
    for count in (2, 1):
        if " ".join(words[:count]) in COMMANDS:
            return " ".join(words[:count]), words[count:]
    raise AssertionError(f"there is no command rackwright {' '.join(words[:2])}")


@pytest.mark.parametrize("page", [*pages.TAUGHT, *ROOT.glob("docs/runbooks/*.md")], ids=name_of)
def test_each_pasted_command_is_parsed_by_the_command_line(page: Path) -> None:
    for words in pages.pasted(page):
        parse(words)


@pytest.mark.parametrize("page", [each for each in pages.PAGES if each.name != "CHANGELOG.md"], ids=name_of)
def test_each_mentioned_command_and_option_exists(page: Path) -> None:
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    for program, *words in pages.mentioned(page):
        if (
            program.endswith("rackwright")
            and words
            and words[0][0].islower()
            and words != [words[0]] * (words[0] in groups)
        ):
            name, rest = split(words)
            options = {option for each in COMMANDS[name].params for option in (*each.opts, *each.secondary_opts)}
            given = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "--"}
            assert given <= {*options, "--help"}, f"rackwright {name} has no {', '.join(given - options)}"


OF_CHECKOUT = {"own-role", "acceptance", "test-times", "verified"}
"""Pages for readers who change rackwright itself or test it, and begin with a checkout."""
GUIDES = sorted(
    path
    for place in ("README.md", "docs/*.md", "docs/guides/*.md", "docs/tutorials/*.md", "docs/runbooks/*.md")
    for path in ROOT.glob(place)
    if path.stem not in OF_CHECKOUT
)
"""Pages for users, who have the wheel."""
ONLY_IN_A_CHECKOUT = re.compile(
    r"^\s*make\b(?! wheel)|\btests[./]|\bbenchmarks[./]|(?<![\w/])playbooks/|\.rackwright/train"
    r"|\bgit (?:pull|clone|diff|checkout)\b|PYTHONPATH=\.|\.venv/bin/(?!activate)",
    re.M,
)


@cache
def written_fleets() -> set[str]:
    """Return the names of the files that `rackwright init` writes for its examples."""
    return {Path(name).name for each in Example for name in project_files("demo", each, python=False)}


@pytest.mark.parametrize("path", GUIDES, ids=name_of)
def test_a_guide_needs_no_checkout(path: Path) -> None:
    """Readers have the wheel. A sentence that names a file or a command of a checkout says so."""
    text = path.read_text()
    for block in pages.blocks(text):
        assert not ONLY_IN_A_CHECKOUT.search(block), block
    prose = " ".join(FENCED.sub("", text).split())
    files = {path.name for path in (ROOT / "stacks").glob("*.yaml") if not path.name.startswith("Pulumi.")}
    ours = [f"stacks/{name}" for name in files - written_fleets()]
    for sentence in re.split(r"(?<=[.:|]) ", prose):
        if re.search(r"`make\b(?! wheel)|`tests/|`benchmarks/", sentence) or any(name in sentence for name in ours):
            assert "checkout" in sentence, sentence


@pytest.mark.parametrize("page", pages.PAGES, ids=name_of)
def test_a_page_calls_the_program_by_its_name(page: Path) -> None:
    """The quickstart puts the program of a checkout into the path."""
    assert "bin/rackwright " not in page.read_text()


def test_the_copy_of_a_database_that_is_in_use_is_whole(tmp_path: Path) -> None:
    """The program of the guide of backups copies what is committed, and leaves the source as it is."""
    [program] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/guides/backups.md").read_text(), re.S)
    source, copy = tmp_path / "mlflow.db", tmp_path / "copy.db"
    used = sqlite3.connect(source)
    used.execute("CREATE TABLE runs (name TEXT)")
    used.execute("INSERT INTO runs VALUES ('committed')")
    used.commit()
    before = source.read_bytes()
    used.execute("INSERT INTO runs VALUES ('open')")

    subprocess.run([sys.executable, "-", str(source), str(copy)], input=program, text=True, check=True)

    assert sqlite3.connect(copy).execute("SELECT name FROM runs").fetchall() == [("committed",)]
    assert source.read_bytes() == before


def test_the_archive_of_the_operators_computer_has_the_keys(tmp_path: Path) -> None:
    text = (ROOT / "docs/guides/backups.md").read_text().partition("## On the operator's computer")[2]
    for name in ("stacks/rack-01.yaml", ".rackwright/state/x.json", ".rackwright/salts/rack-01", ".rackwright/log/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)

    script = next(iter(pages.blocks(text)))
    listed = subprocess.run(["sh", "-ec", script], cwd=tmp_path, text=True, check=True, capture_output=True).stdout

    assert {"stacks/rack-01.yaml", ".rackwright/salts/rack-01", ".rackwright/log/x"} <= set(listed.splitlines())


def test_a_wrong_command_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nrackwright audit lab --snapshots facts\nx=$(.venv/bin/rackwright lock)\nmake tests\n```\n")

    found = list(pages.pasted(page))

    assert [words[1:] for words in found] == [["audit", "lab", "--snapshots", "facts"], ["lock"], ["tests"]]
    for words in found:
        with pytest.raises(AssertionError):
            parse(words)


@pytest.mark.parametrize("page", pages.PAGES, ids=name_of)
def test_each_link_to_a_file_leads_to_one(page: Path) -> None:
    for link in map("".join, LINK.findall(page.read_text())):
        target = link.partition("#")[0]
        assert "://" in link or not target or (page.parent / target).exists(), f"{link} leads nowhere"


def test_the_readme_fits_a_few_screens() -> None:
    assert len(README.splitlines()) <= 130


def test_the_fleets_of_the_readme_are_valid_and_equal(tmp_path: Path) -> None:
    [text], [program] = (re.findall(rf"```{language}\n(.*?)```", README, re.S) for language in ("yaml", "python"))
    (tmp_path / "small.yaml").write_text(text)
    names: dict[str, Any] = {}
    exec(program, names)
    fleet = names["fleet"]()

    assert isinstance(fleet, Fleet)
    assert load_fleet(tmp_path / "small.yaml", ROLES) == fleet


def test_the_matrix_names_acceptance_lines_that_exist() -> None:
    lines = set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "acceptance.md").read_text(), re.M))
    matrix = (ROOT / "docs" / "verified.md").read_text().partition("## Matrix")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z-]+\.[0-9][^`]*)`", matrix))

    assert named and named <= lines


def test_each_page_is_in_the_navigation() -> None:
    """Decisions are listed by their own index."""
    written = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")}
    listed = set(re.findall(r"- ([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    index = (ROOT / "docs" / "decisions" / "index.md").read_text()

    assert {page for page in written - listed if page.rpartition("/")[2] not in index} == set()


def test_each_message_without_an_id_in_troubleshooting_is_one_of_ours() -> None:
    source = "".join(path.read_text() for path in ROOT.glob("rackwright/**/*.py"))
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)`", text, re.M)

    assert messages
    for message in messages:
        for part in (each.strip(" ,") for each in message.split("…")):
            assert part in source, f"no message has {part!r}"


def test_output_that_a_page_shows_and_a_command_does_not_print_is_missing() -> None:
    shown = "lab: … hosts, no errors\n…\n0 differ\n"
    page = f"```sh\nrackwright check lab\n```\n\n```text\n{shown}```\n\n```text\nno output\n```\n"

    assert pages.missing_outputs(page, "lab: 2 hosts,\nno errors\n1 differ\n") == ["0 differ"]
    assert pages.missing_outputs(page, "lab: 2 hosts, no errors\n0 differ\n") == []


@pytest.mark.parametrize("page", [*pages.TAUGHT], ids=name_of)
def test_a_tutorial_shows_what_its_commands_print(page: Path) -> None:
    if page.name == "quickstart.md" or (page.parent.name == "tutorials" and page.name != "first-real-rack.md"):
        assert list(pages.outputs(page.read_text()))


@pytest.mark.parametrize("page", pages.PAGES, ids=name_of)
def test_a_note_is_of_a_kind_that_the_site_shows(page: Path) -> None:
    kinds = re.findall(r"^> \[!(\w+)\](.*)$", page.read_text(), re.M)

    assert {kind for kind, _ in kinds} <= {"NOTE", "TIP", "WARNING"}
    assert not any(rest for _, rest in kinds)


def test_the_map_of_the_tree_is_true():
    assert errors_of_map() == []
