"""A few cases of every fuzzed target in each test run; `make soak` does 10^5 of each."""

import importlib
import random

import pytest

from tests.support.fuzz import __main__ as runner
from tests.support.fuzz.bounds import Hangs, cases
from tests.support.fuzz.mutate import mutated_bytes, mutated_data, of_bytes, of_data

CASES = 100
HERE = [name for name, target in runner.TARGETS.items() if not target.workloads]
"""Targets without NumPy; the others are tested with the model server."""


@pytest.mark.parametrize("name", HERE)
def test_mutated_input_is_read_or_refused(name):
    importlib.import_module(f"tests.support.fuzz.{name}").run(CASES, random.Random(name).randrange(1000))


def test_a_target_runs_in_a_process_of_its_own_and_its_figures_come_back():
    outcome = runner.fuzz(HERE[0], 5, 1)

    assert (outcome.failure, outcome.cases) == ("", 5)
    assert 10 < outcome.peak_mib < runner.TARGETS[HERE[0]].peak_mib and " passed" in str(outcome)


def test_the_memory_of_the_process_that_started_it_does_not_count():
    ballast = b"1" * (runner.TARGETS[HERE[0]].peak_mib << 20)

    assert runner.fuzz(HERE[0], 5, 1).failure == ""
    assert ballast


def test_a_process_that_ends_badly_is_a_failure():
    outcome = runner.fuzz(HERE[0], 5, "no number")

    assert "invalid int value: 'no number'" in outcome.failure and " FAILED" in str(outcome)


def test_more_memory_than_allowed_is_a_failure(monkeypatch):
    monkeypatch.setitem(runner.TARGETS, HERE[0], runner.Target(1))

    assert "its peak is" in runner.fuzz(HERE[0], 5, 1).failure


def test_a_case_that_does_not_end_is_stopped(monkeypatch):
    monkeypatch.setattr("tests.support.fuzz.bounds.CASE_SECONDS", 0.05)

    def endless(_):
        while True:
            pass

    with pytest.raises(Hangs, match="no end within"):
        cases(1, 0, of_bytes, endless)


def test_mutations_differ_and_leave_the_original_alone():
    data, text = {"a": [1, {"b": "c"}], "d": {"e": None}}, b'{"a": [1, {"b": "c"}]}'
    before, results = repr(data), set()

    def check(mutations):
        results.add(repr(mutated_data(data, mutations)))

    cases(300, 0, of_data, check)
    assert repr(data) == before and len(results) > 50
    texts = set()
    cases(300, 0, of_bytes, lambda mutations: texts.add(mutated_bytes(text, mutations)))
    assert len(texts) > 50
