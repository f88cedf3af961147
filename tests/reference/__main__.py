"""Write the pages of docs/reference."""

from tests.reference.pages import FOLDER, PAGES

for name, render in PAGES.items():
    (FOLDER / name).write_text(render())
