"""The files of PAM that pam-auth-update writes from packaged profiles, and whether they are as it writes them."""

from __future__ import annotations

import re

from rackwright.facts.probe.observe import listing, read
from rackwright.facts.probe.rights import PAM, PAM_PROFILES

TYPES = ("account", "auth", "password", "session", "session-noninteractive")
SAVED = "/var/lib/pam"
"""Folder of the lines that pam-auth-update wrote last. Source: pam-auth-update(8), FILES."""
ALWAYS = ("requisite pam_deny.so", "required pam_permit.so")
"""Lines of the template after the primary block. Source: /usr/share/pam/common-auth."""
EMPTY = "[default=#] pam_permit.so"
"""The line in the place of a primary block without modules."""
CONTROL = re.compile(r"^\[[^]]*\]")


def generated_paths(root: str) -> list[str]:
    """Return the paths of the common files whose lines, in their order, are those of packaged profiles."""
    profiles = [read(f"{root}{PAM_PROFILES}/{name}") for name in listing(root + PAM_PROFILES)]
    offered = {line for text in profiles for line in profile_lines(text)}
    return [path for type in TYPES if is_generated(root, path := f"{PAM}/common-{type}", type, offered)]


def is_generated(root: str, path: str, type: str, offered: set[str]) -> bool:
    try:
        lines = pam_lines(read(root + path), type.partition("-")[0])
        saved = [normal(line) for line in read(f"{root}{SAVED}/{type}").splitlines() if not line.startswith("Module:")]
    except (OSError, ValueError):
        return False
    saved = [line for line in saved if line]
    positions = [number for number in range(len(lines)) if tuple(lines[number : number + 2]) == ALWAYS]
    # an administrator may enable only profiles that are there; a profile of no package is a finding of its own
    return set(saved) - offered <= {EMPTY} and any(
        lines[:number] + lines[number + 2 :] in (saved, [EMPTY, *saved]) for number in positions
    )


def pam_lines(text: str, type: str) -> list[str]:
    """Return the lines without comments and their type.

    Raises:
        ValueError: a line has another type, such as ``@include``.
    """
    lines = (line.strip() for line in text.replace("\\\n", " ").splitlines())
    words = [[*line.split(None, 1), ""][:2] for line in lines if line and not line.startswith("#")]
    if any(word != type for word, _ in words):
        raise ValueError("a line of another type")
    return [normal(rest) for _, rest in words]


def normal(line: str) -> str:
    """Return a line with single spaces; the length of a jump, which its place decides, becomes ``#``."""
    return CONTROL.sub(lambda control: re.sub(r"=(?:\d+|end)\b", "=#", control[0]), " ".join(line.split()))


def profile_lines(text: str) -> list[str]:
    """Return the module lines of a profile: those that are indented, below a name such as ``Auth:``."""
    return [normal(line) for line in text.splitlines() if line[:1] in (" ", "\t")]
