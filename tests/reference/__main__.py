"""Write the pages of docs/reference, and the drawing of a deployment."""

from tests.reference.cli import render_examples
from tests.reference.pages import EXAMPLES, FOLDER, PAGES
from tests.support import deployment_picture

for name, render in PAGES.items():
    (FOLDER / name).write_text(render())
EXAMPLES.write_text(render_examples())
deployment_picture.PICTURE.write_text(deployment_picture.draw())
