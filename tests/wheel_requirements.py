"""Print a lock without the packages that only a build needs: `python -m tests.wheel_requirements LOCK`."""

import re
import sys
from pathlib import Path

BUILD = "pyproject.toml::build-system"
"""Part of the origin of packages that pyproject.toml wants for a build."""


def without_build(lock: str) -> str:
    """Return the text *lock*, of pip-compile, without packages that only builds and their packages need."""
    head, *blocks = re.split(r"(?m)^(?=[A-Za-z0-9][A-Za-z0-9._-]*==)", lock)
    origins = {block.partition("==")[0]: _origins(block) for block in blocks}
    building = {name for name, wanted in origins.items() if all(BUILD in each for each in wanted)}
    while more := {name for name, wanted in origins.items() if name not in building and wanted <= building}:
        building |= more
    kept = [block for block in blocks if block.partition("==")[0] not in building]
    return head + "".join(re.sub(r"\n# The following packages.*\n\Z", "", block) for block in kept)


def _origins(block: str) -> set[str]:
    """Return the packages and files that want the package of *block*: the comment after its hashes lists them."""
    _, _, comment = block.partition("# via")
    lines = (line.strip().removeprefix("#").strip() for line in comment.splitlines() if line.strip())
    return {line for line in lines if line and not line.startswith("The following packages")}


if __name__ == "__main__":
    sys.stdout.write(without_build(Path(sys.argv[1]).read_text(encoding="utf-8")))
