"""The pictures of the documentation: they are as their sources make them, and load nothing from outside."""

from pathlib import Path

import pytest

from tests.support import deployment_picture, terminal_picture
from tests.support.log import ROOT

ASSETS = ROOT / "docs" / "assets"


def test_the_terminal_is_drawn_from_its_recording() -> None:
    drawn = terminal_picture.draw(terminal_picture.RECORDING.read_text())

    assert terminal_picture.TERMINAL.read_text() == drawn, "make pictures records and draws it again"


def test_the_deployment_is_drawn_from_its_fleet() -> None:
    assert deployment_picture.PICTURE.read_text() == deployment_picture.draw(), "make reference draws it again"


@pytest.mark.parametrize("picture", [*ASSETS.glob("*.svg")], ids=lambda path: path.name)
def test_a_picture_loads_nothing(picture: Path) -> None:
    text = picture.read_text().replace("http://www.w3.org/2000/svg", "")

    assert "://" not in text
    assert "<script" not in text


@pytest.mark.parametrize("picture", [*ASSETS.glob("*.svg"), *ASSETS.glob("*.png")], ids=lambda path: path.name)
def test_a_page_shows_each_picture(picture: Path) -> None:
    pages = [*ROOT.glob("docs/*.md"), ROOT / "README.md"]

    assert any(f"assets/{picture.name}" in page.read_text() for page in pages)
    assert picture.stat().st_size < 200_000
