"""The texts of files that a new project gets."""

import re
from collections.abc import Mapping
from importlib.resources import files


def render(name: str, names: Mapping[str, str]) -> str:
    """Return the text *name* of project_files/, with the values of *names* in the place of their keys."""
    text = files("rackwright.cli").joinpath("project_files", name).read_text()
    return re.sub("|".join(names), lambda match: names[match[0]], text)
