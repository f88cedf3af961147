"""Mutants: small changes of one place, with ids that outlive changes elsewhere."""

from importlib.util import module_from_spec
from pathlib import Path

import pytest

from tests import mutants

MODULE = """\
def fits(size, limit=3):
    log(size)
    return not size > limit + 1 and True
"""
TEST = "from measured import fits\n\ndef test_{0}():\n    assert fits({1})\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    (tmp_path / "measured.py").write_text("log = id\n" + MODULE)
    return tmp_path


def test_each_place_of_a_function_changes_once(package: Path) -> None:
    found = [(mutant.before, mutant.after) for mutant in mutants.mutants(".")]

    assert found == [
        ("log(size)", "pass"),
        ("1", "2"),
        ("limit + 1", "limit - 1"),
        ("size > limit + 1", "size >= limit + 1"),
        ("not size > limit + 1", "size > limit + 1"),
        ("True", "False"),
        ("not size > limit + 1 and True", "not size > limit + 1 or True"),
    ]


def test_an_id_is_of_the_place_and_not_of_the_line(package: Path) -> None:
    before = {mutant.id for mutant in mutants.mutants(".")}
    (package / "measured.py").write_text("import sys\n\nlog = id\n" + MODULE)

    assert {mutant.id for mutant in mutants.mutants(".")} == before
    assert mutants.sample(".", 3, "a") == mutants.sample(".", 3, "a") != mutants.sample(".", 3, "b")


def test_the_change_is_made_in_memory_alone(package: Path) -> None:
    [mutant] = (each for each in mutants.mutants(".") if each.after == "size > limit + 1")
    spec = mutants._Finder(mutant).find_spec("measured", [str(package)])
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)

    assert not module.fits(1) and module.fits(9)
    assert MODULE in (package / "measured.py").read_text()


@pytest.mark.parametrize(("value", "found"), [("4", True), ("1", False)])
def test_a_mutant_is_found_by_a_test_that_fails(value: str, found: bool, package: Path) -> None:
    [mutant] = (each for each in mutants.mutants(".") if each.after == "limit - 1")
    (package / "test_it.py").write_text(TEST.format("it", value))
    (package / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers = twin\n  pulumi\n  soak\n")
    tests = ["-c", str(package / "pytest.ini"), str(package)]

    assert not mutants.is_found(None, tests)
    assert mutants.is_found(mutant, tests) == found
