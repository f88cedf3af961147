"""Texts of hosts at the operator's terminal: visible, and written by one module alone."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from io import StringIO
from pathlib import Path

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from rackwright import terminal
from rackwright.errors import CI_COMMAND, Diagnostic, StepFailed, UserError, command, one_line, visible
from rackwright.provider import codec
from rackwright.provider.engine import ResourceLog
from tests.support.sources import ROOT, RUN_ON_HOSTS, found_in, shown
from tests.support.terminal_controls import CLIPBOARD, OBEYED

HOSTILE = [
    *(CLIPBOARD, "\x9b2J", "\x7f", "\r", "\b", "\x00", "\x0c"),
    *("\u202e", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c", "\u2028", "\u0085", "\udcff"),
]

CI_COMMANDS = [
    "##[add-mask]differs",
    "a ###[command]",
    "::stop-commands::x",
    " \t\u3000::error file=a,line=1::text",
    "gpu-01: ::WARNING::text",
    "\r\x1b[0K\u2028::set-output name=a::b",
    "::error::::group::",
]

ON_HOSTS = {path for pattern in RUN_ON_HOSTS for path in ROOT.glob(pattern)}
WRITERS = {
    "rackwright/terminal.py": "the one module",
    "rackwright/facts/metrics_text.py": "answers the proxy of metrics, on a host",
    "rackwright/facts/health_metrics.py": "writes reasons to the journal of a host",
    "rackwright/provider/__main__.py": "prints its port for the engine",
    "rackwright/cli/ending.py": "guards both streams, and writes its own messages after the end of a command",
    "rackwright/cli/access.py": "segno draws a QR code, of a secret of our own",
    "rackwright/cli/iterate.py": "names stderr as what pulumi writes to",
    "rackwright/cli/rebuild.py": "names stderr as what pulumi writes to",
}
OURS = sorted(
    path for path in (ROOT / "rackwright").rglob("*.py") if path not in ON_HOSTS and shown(path) not in WRITERS
)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_character_that_a_terminal_obeys_is_left(text):
    assert not OBEYED & {*visible(f"a{text}b")}


@given(st.text(st.characters()))
def test_every_other_character_stays(text):
    assert not OBEYED & {*visible(text)}
    if not OBEYED & {*text}:
        assert visible(text) == text or CI_COMMAND.search(text)


@pytest.mark.parametrize("text", CI_COMMANDS)
def test_no_way_to_the_terminal_commands_a_runner(text, capsys):
    """GitHub's runner obeys ``##[`` anywhere in a line, and ``::`` and a name after blanks."""
    terminal.show(text)
    terminal.notify(text)
    for width in range(8, 30):
        table = Table("column")
        table.add_row(f"{'word ' * 3}{text}")
        for way in (False, True):
            terminal.console(stderr=way, width=width).print(table)
    terminal.show_json({"host": "a", "line": text}, stream=True)
    shown = capsys.readouterr()

    assert json.loads(shown.out.splitlines()[-1])["line"] == text
    for line in (shown.out + shown.err).splitlines():
        assert "##[" not in line and not re.match(r"\W*::[a-z]", line, re.IGNORECASE)
    assert visible(visible(text)) == visible(text)


def test_the_markers_of_gitlab_have_no_control_characters_left():
    section = "\x1b[0Ksection_start:1:hosts[collapsed=true]\r\x1b[0K"
    assert visible(section) == "\\x1b[0Ksection_start:1:hosts[collapsed=true]\\r\\x1b[0K"


@pytest.mark.parametrize("text", ["::1", "fe80::a", "std::error_code", "a ## [b]", "test_a.py::TestB::test_c", "#[x]"])
def test_other_colons_and_brackets_stay(text):
    assert visible(text) == text


def test_what_is_taken_away_is_shown():
    assert visible("\x1b[2J\x9b\u202e\ttab\nline ü") == "\\x1b[2J\\x9b\\u202e\ttab\nline ü"
    assert one_line("a\nb\x1b") == "a\\nb\\x1b"


def test_a_line_break_in_a_message_begins_no_other_message():
    """
    A host forges no line that looks like one of ours.
    """
    text = str(StepFailed(Diagnostic("gpu-01/hot", f"got a\nfleet.yaml:1: {CLIPBOARD}", "none", "Run it again")))
    assert [line.startswith("  ") for line in text.splitlines()] == [False, True]
    assert not OBEYED & {*text}


@pytest.mark.parametrize("text", HOSTILE)
def test_every_way_to_the_terminal_makes_texts_visible(text, capsys):
    terminal.show(text)
    terminal.notify(text)
    table = Table("column")
    table.add_row(f"[red]{text}[/]")
    terminal.console().print(table)
    terminal.console(stderr=True).print(text, markup=False)
    try:
        raise ValueError(text)
    except ValueError as error:
        terminal.notify_traceback(type(error), error, error.__traceback__)
    shown = capsys.readouterr()
    assert not OBEYED & {*shown.out, *shown.err}


class Engine:
    """Takes down what is logged."""

    def __init__(self):
        self.printed = StringIO()

    def log(self, urn, text, severity, ephemeral=False):
        self.printed.write(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_the_provider_sends_to_pulumi_is_visible(text):
    engine = Engine()
    log = ResourceLog(engine, "urn:pulumi:lab::rackwright::a::b", lambda text: text)
    log.status(text)
    log.info(text)
    log.warn(text, "unknown")
    assert not OBEYED & {*engine.printed.getvalue()}
    shown = codec.visible_texts({f"claim{text}": [{"found": f"a{text}"}, 1, None, True]})
    assert not OBEYED & {*str(*shown), *shown[next(iter(shown))][0]["found"]}


MAY_WRITE = re.compile(r"\b(?:print|Console|typer|print_\w+|sys|Text)\b")
"""Names of which each way to write has one: the other files need no syntax tree."""


def writes(tree: ast.AST) -> list[str]:
    """Return what in *tree* writes to the terminal by itself."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print" | "Console" as name)):
                found.append(f"{name}() in line {node.lineno}")
            case ast.Attribute(value=ast.Name(id="typer"), attr="echo" | "secho" | "confirm" | "prompt" as name):
                found.append(f"typer.{name} in line {node.lineno}")
            case ast.Attribute(value=ast.Name(id="traceback"), attr=str(name)) if name.startswith("print_"):
                found.append(f"traceback.{name} in line {node.lineno}")
            case ast.Attribute(
                value=ast.Name(id="sys"), attr="stdout" | "stderr" | "__stdout__" | "__stderr__" as name
            ):
                found.append(f"sys.{name} in line {node.lineno}")
            case ast.ImportFrom(module="rich.console" | "rich.text", names=names):
                found += [f"rich's Text in line {node.lineno}" for name in names if name.name == "Text"]
    return found


def only_asked(tree: ast.AST) -> set[int]:
    """Return the lines in which a stream is only asked what it is."""
    return {
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ("isatty", "fileno")
    }


def writes_unasked(path: Path) -> list[str]:
    """Return what in *path* writes to the terminal; a stream that is only asked what it is counts as nothing."""
    if not MAY_WRITE.search(text := path.read_text()):
        return []
    tree = ast.parse(text)
    asked = only_asked(tree)
    return [each for each in writes(tree) if int(each.rpartition(" ")[2]) not in asked]


def test_nothing_else_writes_to_the_terminal():
    assert found_in(OURS, writes_unasked) == {}
    assert writes_unasked(ROOT / "rackwright/cli/ending.py"), "the lint finds nothing"


def test_the_lint_finds_each_way_to_write():
    text = "print(1)\nConsole()\ntyper.echo(1)\nsys.stderr.write(1)\ntraceback.print_exc()\njson.dump(1, sys.stdout)\n"
    assert len(writes(ast.parse(text))) == 6


def test_a_name_in_a_command_stays_a_name():
    assert command("rackwright up {}", "lab") == "`rackwright up lab`"
    for name in ("a b", "$(id)", "`id`", "'x'", "a;b", "{}", "-rf"):
        assert shlex.split(command("rm {} {}", name, "b")[1:-1]) == ["rm", name, "b"]


@pytest.mark.parametrize("field", ["where", "problem", "expected", "help", "note", "source"])
def test_every_part_of_an_error_is_visible(field):
    parts = dict.fromkeys(("where", "problem", "expected", "help", "note", "source"), "a") | {field: CLIPBOARD}
    error = UserError(Diagnostic(**parts))
    assert not OBEYED & {*str(error), *error.render(), *getattr(error.diagnostic, field)}


class Screen(StringIO):
    def isatty(self):
        return True


def test_a_line_that_counts_the_seconds_on_replaces_itself(monkeypatch):
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)

    for text in (
        "a, b: waiting, 6 s",
        "a, b: waiting, 12 s",
        "b: waiting, 18 s",
        "gpu-01: no answer",
        "gpu-02: no answer",
    ):
        terminal.notify(text)

    assert screen.getvalue() == (
        "a, b: waiting, 6 s\n\x1b[1A\x1b[Ja, b: waiting, 12 s\nb: waiting, 18 s\ngpu-01: no answer\ngpu-02: no answer\n"
    )


def test_a_result_between_two_lines_is_not_removed(monkeypatch):
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr("sys.stdout", screen)

    terminal.notify("a: waiting, 6 s")
    terminal.show("a result")
    terminal.notify("a: waiting, 12 s")

    assert screen.getvalue() == "a: waiting, 6 s\na result\na: waiting, 12 s\n"


def test_every_line_stays_in_a_pipe(monkeypatch):
    pipe = StringIO()
    monkeypatch.setattr("sys.stderr", pipe)

    terminal.notify("a: waiting, 6 s")
    terminal.notify("a: waiting, 12 s")

    assert pipe.getvalue() == "a: waiting, 6 s\na: waiting, 12 s\n"


ERROR = """\
error[lock-missing]: stacks/rack.lock.yaml: there is no lock for the packages of these hosts
  note:     `mirror` serves packages that a lock lists and a key signs
  help:     Run `rackwright lock --fetch hospital-of-the-city` and check the changes"""


def test_an_error_on_a_narrow_terminal_is_broken_between_words():
    """A command stays whole, so that it can be copied."""
    assert terminal.wrap(ERROR, 40).splitlines() == [
        "error[lock-missing]:",
        "  stacks/rack.lock.yaml: there is no",
        "  lock for the packages of these hosts",
        "  note:     `mirror` serves packages",
        "    that a lock lists and a key signs",
        "  help:     Run",
        "    `rackwright lock --fetch hospital-of-the-city`",
        "    and check the changes",
    ]
    assert terminal.wrap(ERROR, 70).splitlines()[-1] == "            check the changes"
    assert terminal.wrap(ERROR, 200) == ERROR
    assert terminal.wrap("a\n\n  b", 40) == "a\n\n  b"


def test_an_error_in_a_file_has_its_lines(monkeypatch):
    """A terminal breaks the lines at its own width."""
    monkeypatch.setattr(terminal, "_stderr_size", lambda: (40, 24))
    for is_terminal in (False, True):
        stream = StringIO()
        monkeypatch.setattr(stream, "isatty", lambda is_terminal=is_terminal: is_terminal)
        monkeypatch.setattr("sys.stderr", stream)

        terminal.notify_error(ERROR)

        assert (stream.getvalue() == f"{ERROR}\n") is not is_terminal


def test_a_log_of_long_work_grows_slower_than_the_work(monkeypatch):
    """Ten lines come in the first interval of ten seconds each; an hour has less than a hundred."""
    pauses: list[float] = []

    class Over:
        def wait(self, seconds: float) -> bool:
            pauses.append(seconds)
            return sum(pauses) >= 3600

        def is_set(self) -> bool:
            return False

    plain = object.__new__(terminal._PlainLines)
    plain._over, plain._lines = Over(), lambda columns, rows: []

    plain._keep_writing()

    assert pauses[:10] == [10] * 10 and max(pauses) == 60
    assert len(pauses) < 100


def test_a_log_has_a_line_about_long_work_now_and_then(monkeypatch):
    """One line for each interval in which the work has changed, and a rare one while only the seconds count on."""
    pipe, shown = StringIO(), threading.Event()
    monkeypatch.setattr("sys.stderr", pipe)
    monkeypatch.setattr(terminal, "PLAIN_SECONDS", 0.01)
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 0.05)
    texts = [["fetching", "gpu-01   step 1/2: connect  1 s"], *[["fetching", f"only {n} s"] for n in range(9)]]

    def lines(columns: int, rows: int) -> list[str]:
        if len(texts) == 1:
            shown.set()
        return texts.pop(0) if texts else []

    with terminal.live(lines):
        assert shown.wait(60)

    assert pipe.getvalue().splitlines()[:3] == [
        "fetching; gpu-01 step 1/2: connect 1 s",
        "fetching; only 0 s",
        "fetching; only 5 s",
    ]


ASKS = """
import fcntl, sys, termios, time
from rackwright import terminal

print("comparing", flush=True)
while not int.from_bytes(fcntl.ioctl(0, termios.FIONREAD, bytes(4)), "little"):
    time.sleep(0.01)
print("answered" if terminal.confirm(*sys.argv[1:]) else "refused", flush=True)
"""


def asked(typed: str, answer: str, *arguments: str) -> str:
    """Return the end of a program whose operator types *typed* before the question, and *answer* at it."""
    child = pexpect.spawn(sys.executable, ["-c", ASKS, *arguments], cwd=str(ROOT), timeout=60, encoding="utf-8")
    child.expect("comparing")
    child.send(typed)
    child.expect(r"Change it\?.*: ")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    return str(child.before.split()[-1])


@pytest.mark.parametrize("typed", ["y\n", "y\ny\ny\n", "yes\n", "\nn\ny\n", "lab\n"])
def test_keys_that_were_typed_before_a_question_are_no_answer(typed):
    assert asked(typed, "n", "Change it?") == "refused"
    assert asked(typed, "y", "Change it?") == "answered"
    assert asked(typed, "y", "Change it?", "lab") == "refused"
    assert asked(typed, "lab", "Change it?", "lab") == "answered"


def test_a_narrow_terminal_has_a_line_for_each_cell_and_cuts_none():
    """Rich cuts the cells of a table whose columns do not fit."""
    table = Table(box=None, pad_edge=False)
    for title in ("host", "state", ""):
        table.add_column(title, overflow="fold", min_width=16)
    table.add_row("storage-node-01", "as declared", "[red]a warning of\nseveral lines[/]")
    table.add_row("storage-node-02", "", "\x1b[2J")

    def printed(width: int) -> str:
        file = StringIO()
        terminal.console(file=file, width=width).print(terminal.FittingTable(table))
        return file.getvalue()

    lines = [line.rstrip() for line in printed(40).splitlines()]
    assert lines[:4] == ["storage-node-01", "  state: as declared", "  a warning of", "  several lines"]
    assert lines[4:] == ["storage-node-02", "  \\x1b[2J"]
    assert printed(80).splitlines()[0].split() == ["host", "state"]
    assert max(map(len, printed(40).splitlines())) <= 40


HELP = """
from tests.reference.command_tree import commands
for name, command in commands():
    print(name, command.get_help(command.make_context(name, [], resilient_parsing=True)))
"""


def test_no_help_text_is_cut_on_a_narrow_terminal():
    environment = {**os.environ, "COLUMNS": "40", "TERM": "dumb"}
    lists = ["import sys; from rackwright.cli import main; sys.argv[1:] = ['--help']; main()"]
    for program in (HELP, *lists):
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert "Example: rackwright enrol rack-01 olga" in done.stdout or program != HELP
        lines = [line for line in done.stdout.splitlines() if "Usage: " not in line]
        assert not [line for line in lines if re.search(r"…\S* *(│|$)|\w\.\.\.$", line)]
