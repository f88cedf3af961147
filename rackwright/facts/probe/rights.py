"""Rules that give accounts more rights: those of sudo, and the modules of PAM."""

from __future__ import annotations

import os
import re
from typing import Any

from rackwright.facts.probe.observe import attempt, listing, read

SUDOERS, SUDOERS_FOLDER = "/etc/sudoers", "/etc/sudoers.d"
INCLUDE = re.compile(r"^[@#]include(?:dir)?\s+(.+)$")
COMMENT = re.compile(r"#(?!\d).*$")
"""A comment; a number after the sign is the id of an account. Source: sudoers(5), "Other special characters"."""
PAM, PAM_PROFILES, PAM_TEMPLATES = "/etc/pam.d", "/usr/share/pam-configs", "/usr/share/pam"
MODULE = re.compile(r"\b(pam_\w+\.so)\b")


def sudoers(root: str) -> dict[str, Any]:
    """Return the rules of sudo by file: logical lines without comments and settings; ``include`` lines are rules."""
    paths = [SUDOERS] if os.path.exists(root + SUDOERS) else []
    # sudo skips names that end with ~ or contain a dot. Source: sudoers(5), "Including other files"
    paths += [f"{SUDOERS_FOLDER}/{name}" for name in listing(root + SUDOERS_FOLDER) if not re.search(r"\.|~$", name)]
    return {path: attempt(sudo_rules, root + path) for path in paths}


def sudo_settings(root: str) -> dict[str, Any]:
    """Return the settings (``Defaults``) of each file of sudo, and the reason for which sudo ignores a file."""
    found = {}
    for path in [SUDOERS, *(f"{SUDOERS_FOLDER}/{name}" for name in listing(root + SUDOERS_FOLDER))]:
        name = os.path.basename(path)
        ignored = "a dot in its name" if "." in name else "a ~ at the end of its name" if name.endswith("~") else None
        if os.path.isfile(root + path):
            found[path] = {"ignored": ignored, "settings": attempt(defaults, root + path)}
    return found


def defaults(path: str) -> list[str]:
    lines = (" ".join(line.split()) for line in read(path).replace("\\\n", " ").splitlines())
    return [line for line in lines if line.startswith("Defaults")]


def sudo_rules(path: str) -> list[str]:
    rules = []
    for line in read(path).replace("\\\n", " ").splitlines():
        text = " ".join(line.split())
        include = INCLUDE.match(text)
        if include:
            if include[1].strip("\"'") != SUDOERS_FOLDER:
                rules.append(f"include {include[1]}")
        elif text and not COMMENT.match(text) and not text.startswith("Defaults"):
            rules.append(COMMENT.sub("", text).strip())
    return rules


def pam_modules(root: str) -> dict[str, Any]:
    """Return the PAM modules that each file of the services names, by path."""
    return {f"{PAM}/{name}": attempt(modules_in, f"{root}{PAM}/{name}") for name in listing(root + PAM)}


def pam_profile_modules(root: str) -> list[str]:
    """Return the modules that packages offer to the files that pam-auth-update writes."""
    names: set[str] = set()
    for folder in (PAM_PROFILES, PAM_TEMPLATES):
        for name in listing(root + folder):
            names.update(MODULE.findall(read(f"{root}{folder}/{name}")))
    return sorted(names)


def modules_in(path: str) -> list[str]:
    lines = (line for line in read(path).splitlines() if not line.lstrip().startswith("#"))
    return sorted({name for line in lines for name in MODULE.findall(line)})
