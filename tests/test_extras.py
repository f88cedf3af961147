"""The libraries of single features, and what a user who lacks one reads."""

import re
import tomllib
from pathlib import Path

import pytest

from rackwright import extras
from rackwright.errors import SetupError
from rackwright.extras import EXTRAS, Extra
from tests.support.log import ROOT


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra.name)
def test_an_extra_of_the_package_and_its_list_have_the_library(extra: Extra) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra.name]
    assert any(re.split("[=<>!]", each)[0] == extra.package for each in declared)
    assert re.search(rf"(?m)^{extra.package}==\S+ \\$", (ROOT / f"requirements/{extra.name}.txt").read_text())
    assert extra.is_installed


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra.name)
def test_the_remedy_installs_with_hashes(extra: Extra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index may have a package of others under the name: `pip install NAME` took whatever is there."""
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(SetupError) as checkout:
        extra.require("here", "a use")
    monkeypatch.setattr(extras.locations, "PACKAGE", tmp_path / "rackwright")
    with pytest.raises(SetupError) as installed:
        extra.require("here", "a use")

    assert f"--require-hashes --requirement {ROOT}/requirements/{extra.name}.txt`" in str(checkout.value)
    lists = f"dist/requirements-{extra.name}.txt"
    assert f"--find-links dist --requirement {lists}`, where dist is the directory of rackwright's wheel" in str(
        installed.value
    )
    assert f"{lists}" in (ROOT / "Makefile").read_text()


def test_no_text_names_a_library_without_its_version() -> None:
    names = "|".join(re.escape(extra.package) for extra in EXTRAS)
    wrong = re.compile(rf"pip install (?:[^-\n`]*\s)?'?(?:rackwright\[|(?:{names}))")
    texts = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "rackwright").rglob("*.py"), *(ROOT / "roles").rglob("*.md")]
    assert [path.name for path in texts if wrong.search(path.read_text())] == []
