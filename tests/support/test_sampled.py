"""Samples of cases: nothing is left out for good, and one seed is one sample."""

import itertools

import pytest

from tests.support import sampled

PRODUCT = list(itertools.product("abc", range(40)))


@pytest.fixture(autouse=True)
def chosen(monkeypatch):
    """Choose the seed, and nothing that the environment says."""
    monkeypatch.delenv(sampled.CASES, raising=False)
    monkeypatch.setattr(sampled, "seed", lambda: "x")


def sample():
    return sampled.sampled(PRODUCT, lambda case: [("letter", case[0]), ("number", case[1])])


def test_each_value_has_a_case_and_most_cases_are_left_out():
    assert {letter for letter, _ in sample()} == {*"abc"}
    assert {number for _, number in sample()} == {*range(40)}
    assert len(sample()) <= 43


def test_a_sample_has_the_order_of_the_cases_and_is_the_same_for_one_seed(monkeypatch):
    first = sample()

    assert first == sorted(first) and first == sample()
    monkeypatch.setattr(sampled, "seed", lambda: "y")
    assert first != sample()


def test_a_run_of_all_cases_leaves_none_out(monkeypatch):
    monkeypatch.setenv(sampled.CASES, "all")

    assert sample() == PRODUCT
