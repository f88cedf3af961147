"""The diagnostic: lines for a reader, one sentence for a log, an object for a program."""

from workloads.errors import Diagnostic, UserError, render

WHOLE = Diagnostic(
    "stacks/rack.yaml:14: hosts.alpha.tiers.fast.ppl",
    "got true",
    "`ppl` is for raid5 only",
    "Remove it",
    "this tier is raid1",
    "md(4)",
)


def test_a_reader_gets_lines():
    assert WHOLE.render() == (
        "error: stacks/rack.yaml:14: hosts.alpha.tiers.fast.ppl: got true\n"
        "  expected: `ppl` is for raid5 only\n"
        "  note:     this tier is raid1\n"
        "  help:     Remove it (md(4))"
    )
    assert (
        Diagnostic("", "got two", "one", source="md(4)").render("warning")
        == "warning: got two\n  expected: one (md(4))"
    )


def test_a_log_gets_one_sentence():
    assert str(WHOLE) == (
        "stacks/rack.yaml:14: hosts.alpha.tiers.fast.ppl: got true; `ppl` is for raid5 only; this tier is raid1."
        " Remove it. [md(4)]"
    )


def test_a_program_gets_the_parts_that_there_are():
    assert Diagnostic("a", "got b", help="Remove it").as_data() == {
        "where": "a",
        "problem": "got b",
        "help": "Remove it",
    }
    assert Diagnostic(**WHOLE.as_data()) == WHOLE


def test_a_line_break_of_a_value_begins_no_message():
    text = Diagnostic("alpha", "got a\nerror: b", "none\nerror: c").render()

    assert [line.startswith("error: ") for line in text.splitlines()] == [True, False, False, False]


def test_equal_errors_are_printed_once():
    assert render([WHOLE, WHOLE]) == WHOLE.render()
    assert str(UserError(WHOLE, WHOLE)).count("got true") == 2


def test_the_id_stands_after_the_severity_and_in_the_data():
    diagnostic = Diagnostic("gpu-01", "another run holds its lease", id="host-busy")

    assert diagnostic.render() == "error[host-busy]: gpu-01: another run holds its lease"
    assert diagnostic.as_data()["id"] == "host-busy"


def test_without_a_severity_the_id_stands_alone():
    diagnostic = Diagnostic("gpu-01", "another run holds its lease", help="Wait", id="host-busy")

    assert diagnostic.render(severity="") == "[host-busy] gpu-01: another run holds its lease\n  help:     Wait"
    assert str(diagnostic) == "gpu-01: another run holds its lease. Wait."
