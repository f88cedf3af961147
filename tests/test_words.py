"""The word check itself: what it finds, and what it lets pass."""

import pytest

from tests import words
from tests.words import code, is_participle, names_of_tests, prose


@pytest.mark.parametrize("name", ["told", "_told", "Refused", "_found", "kept", "sealed", "unseen"])
def test_a_participle_is_no_name(name):
    assert is_participle(name)


@pytest.mark.parametrize("name", ["told_lines", "LoginRefused", "read", "seed", "needed_bytes", "open", "Speed", "run"])
def test_a_name_with_a_noun_or_a_verb_passes(name):
    assert not is_participle(name)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Of a drive, the size.", "a sentence begins with Of"),
        ("Reads it. What is missing is\nunknown.", "a sentence begins with What"),
        ("- Whose it is.", "a sentence begins with Whose"),
        ("| a cell | Where it lies |", "a sentence begins with Where"),
        ("Whoever reads this, reads it twice.", "the word whoever"),
        ("The plan is made\nanew.", "the word anew"),
        ("> [!NOTE]\n> What is missing is unknown.", "a sentence begins with What"),
    ],
)
def test_a_sentence_that_breaks_a_rule_is_found(text, problem):
    assert problem in [what for _, what in prose(text)]


def test_a_finding_has_its_line():
    assert list(code("m.py", '"""Fine."""\n\n\ndef told():\n    """Return it.\n\n    Of it all.\n    """\n')) != []
    assert [(each.line, each.problem) for each in code("m.py", 'x = 1\n"""A text.\n\nBy day.\n"""\n')] == [
        (4, "a sentence begins with By")
    ]


@pytest.mark.parametrize(
    "text",
    ["```\nWhat is this?\n```", "    By itself, as code", "The word `told` in code.", 'A message says "told".'],
)
def test_code_and_quotations_pass(text):
    assert list(prose(text)) == []


def test_a_docstring_has_a_noun_before_its_pronoun():
    assert [each.problem for each in code("m.py", '"""It reads."""\n')] == ["a docstring begins with It"]
    assert list(code("m.py", '"""The probe reads. It writes nothing."""\n')) == []


def test_messages_are_read_as_well():
    assert [each.problem for each in code("m.py", 'raise E("nobody knows")\n')] == ["the word nobody"]


def test_the_name_of_a_test_is_a_sentence_too():
    assert [(each.line, each.problem) for each in names_of_tests("t.py", "\ndef test_it_is_told():\n    told()\n")] == [
        (2, "the name of a test has the word told")
    ]


def test_a_finding_ends_the_check_with_status_1(monkeypatch, capsys):
    monkeypatch.setattr(words, "findings", lambda: [words.Finding("a.py", 3, "the word told")])

    assert words.main([]) == words.main(["a"]) == 1
    assert capsys.readouterr().out == 2 * "a.py:3: the word told\n"
    assert words.main(["b/"]) == 0
