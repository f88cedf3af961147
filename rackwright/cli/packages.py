"""The wheel of rackwright and the hashes of all packages that it needs, from the directory that `make wheel` writes."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from rackwright import __version__
from rackwright.errors import ChangeRefused, Diagnostic

REQUIREMENTS = "requirements.txt"
"""File of a project with the requirements of CI."""
ALL_REQUIREMENTS = "requirements-s3.txt"
"""File of `make wheel` with the requirements of all fleets: those with object stores need boto3 too."""
_PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)( ; [^#]+?)?(?P<hashes>( --hash=sha256:[0-9a-f]{64})+)"
)
_HELP = "Run `make wheel` in a checkout of rackwright, and name the directory dist that it writes"


@dataclass(frozen=True)
class Packages:
    """The wheel of this rackwright, and its requirements, which may come from any index."""

    requirements: str
    """The requirements for pip, each with its version and hashes."""
    wheel: str
    """File name of the wheel."""
    content: bytes


def read_packages(directory: Path) -> Packages:
    """Return the packages in *directory*, which `make wheel` wrote.

    Raises:
        ChangeRefused: a file is missing, a requirement has no hash, or the wheel is not the one that is listed.
    """
    path, wheels = directory / ALL_REQUIREMENTS, sorted(directory.glob(f"rackwright-{__version__}-*.whl"))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refusal(path, f"the file cannot be read: {error}", "the requirements with their hashes") from None
    if len(wheels) != 1:
        found = ", ".join(sorted(each.name for each in directory.glob("*.whl"))) or "no wheel"
        raise _refusal(directory, f"got {found}", f"one wheel of rackwright {__version__}")
    hashes, requirements = {}, []
    for requirement in _requirements(text):
        if not (match := _PINNED.fullmatch(requirement)):
            raise _refusal(path, f"got {requirement[:100]!r}", "each line has a name, a version and SHA-256 digests")
        requirements.append(requirement)
        hashes[match["name"].lower()] = match["hashes"].split()
    content = wheels[0].read_bytes()
    if f"--hash=sha256:{hashlib.sha256(content).hexdigest()}" not in hashes.get("rackwright", ()):
        raise _refusal(wheels[0], f"the wheel is not the one of {path.name}", "its SHA-256 digest is listed there")
    # written from what was read: pip and a reader of text must not see two different files
    return Packages("".join(f"{each}\n" for each in requirements), wheels[0].name, content)


def _requirements(text: str) -> list[str]:
    """Return the requirements in *text*; like for pip, no comment goes on in the next line."""
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines()]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [line.strip() for line in joined.splitlines() if line.strip()]


def _refusal(place: Path, problem: str, expected: str) -> ChangeRefused:
    return ChangeRefused(Diagnostic(str(place), problem, expected, _HELP))
