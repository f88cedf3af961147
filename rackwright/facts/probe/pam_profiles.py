"""The files of PAM as pam-auth-update writes them from packaged profiles."""

from __future__ import annotations

import re
from typing import Callable, Dict

from rackwright.facts.probe.observe import listing, read
from rackwright.facts.probe.rights import PAM_PROFILES, PAM_TEMPLATES

TYPES = ("account", "auth", "password", "session", "session-noninteractive")
FIELD = re.compile(r"(\S+):\s+(.*)\s*$")
LINE = re.compile(r"((?:\[[^]]+\]|\w+)\s+\S+)\s*(.*)")
PRIMARY = '# here are the per-package modules (the "Primary" block)'
FALLBACK = "# here's the fallback if no module succeeds"
ADDITIONAL = '# and here are more per-package modules (the "Additional" block)'
END = "# end of pam-auth-update config"
UNUSABLE = "pam_tally"
"""Module whose profiles pam-auth-update leaves out."""

Profile = Dict[str, str]


def common_file(root: str, type: str, is_packaged: Callable[[str], bool]) -> bytes | None:
    """Return the content of ``common-<type>`` with the profiles that packages enable; None without a template.

    A profile counts if its package installed it, it is unchanged, and its package enables it. So neither a profile of
    a person nor the choice to leave one out is part of the content. Source: pam-auth-update(8).
    """
    template = f"{PAM_TEMPLATES}/common-{type}"
    if not is_packaged(template):
        return None
    paths = {name: f"{PAM_PROFILES}/{name}" for name in listing(root + PAM_PROFILES)}
    profiles = {name: parse_profile(read(root + path)) for name, path in paths.items() if is_packaged(path)}
    enabled = enabled_names(profiles)
    if not enabled:
        return None
    text = fill(read(root + template), [profiles[name] for name in enabled], type)
    return None if text is None else text.encode("utf-8", "surrogateescape")


def enabled_names(profiles: dict[str, Profile]) -> list[str]:
    """Return the names of the profiles with ``Default: yes``, by descending priority, without those in conflict."""
    names = [name for name, profile in profiles.items() if profile.get("Default") == "yes"]
    names = [name for name in names if not any(UNUSABLE in value for value in profiles[name].values())]
    names.sort(key=lambda name: (priority(profiles[name]), name), reverse=True)
    for name in list(names):
        others = profiles[name].get("Conflicts", "").split(", ") if name in names else []
        names = [each for each in names if each not in others]
    return names


def priority(profile: Profile) -> int:
    text = profile.get("Priority", "0")
    return int(text) if text.isdecimal() else 0


def parse_profile(text: str) -> Profile:
    """Return the fields of a profile; those of several lines are joined by newlines."""
    fields: Profile = {}
    name = ""
    for line in text.splitlines():
        match = FIELD.match(f"{line}\n")
        if match:
            name = re.sub("-Final$", "", match[1])
            fields[name] = match[2].strip()
        else:
            fields[name] = f"{fields.get(name, '')}\n{line.strip()}".strip()
    if "Session-Interactive-Only" not in fields:
        for field in ("-Type", "", "-Initial"):
            if f"Session{field}" in fields:
                fields[f"Session-noninteractive{field}"] = fields[f"Session{field}"]
    return fields


def fill(template: str, profiles: list[Profile], type: str) -> str | None:
    """Return *template* with the lines of *profiles* in its two blocks; None if it lacks a mark."""
    rows = []
    marks = [PRIMARY, FALLBACK, ADDITIONAL, END]
    for line in template.splitlines():
        is_mark = bool(marks) and line.startswith(marks[0])
        if is_mark or len(marks) % 2 == 0:
            rows.append(line)
        if is_mark:
            mark = marks.pop(0)
            if mark in (PRIMARY, ADDITIONAL):
                rows += block(profiles, type, "Primary" if mark == PRIMARY else "Additional")
    return None if marks else "\n".join([*rows, ""])


def block(profiles: list[Profile], type: str, sort: str) -> list[str]:
    """Return the lines of one block; a jump leads behind its end."""
    field = type[0].upper() + type[1:]
    members = [profile for profile in profiles if profile.get(f"{field}-Type") == sort]
    lines: list[str] = []
    for index, profile in enumerate(members):
        text = (profile.get(f"{field}-Initial") if index == 0 else "") or profile.get(field, "")
        lines += [line for line in text.split("\n") if line]
    word = type.partition("-")[0]
    if not lines and sort == "Primary":
        return [f"{word}\t[default=1]\t\t\tpam_permit.so"]
    left = len(lines) - (sort == "Additional")
    return [f"{word}\t{with_jump(line, left - index)}" for index, line in enumerate(lines)]


def with_jump(line: str, length: int) -> str:
    match = LINE.match(line)
    if match is None:
        return line
    return f"{match[1].replace('end', str(length))} {' '.join(match[2].split())}"
