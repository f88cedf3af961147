"""Work that accounts schedule: their crontabs and at jobs, their own systemd units, and accounts that linger."""

from __future__ import annotations

import os
import re
from typing import Any

from rackwright.facts.probe.accounts import NO_LOGIN, user_lines
from rackwright.facts.probe.observe import ReadError, attempt, list_untrusted, listing, read_untrusted

CRONTABS, AT_JOBS = "/var/spool/cron/crontabs", "/var/spool/cron/atjobs"
LINGER = "/var/lib/systemd/linger"
USER_UNITS = ".config/systemd/user"
SETTING = re.compile(r"\s*(#|$|\w+\s*=)")
"""A line of a crontab that runs nothing: empty, a comment, or a setting of the environment. Source: crontab(5)."""


def crontabs(root: str) -> dict[str, Any]:
    """Return how many lines of each account's crontab run a command; the lines may hold secrets, and stay there."""
    return {name: attempt(cron_lines, root + CRONTABS, name) for name in listing(root + CRONTABS)}


def cron_lines(folder: str, name: str) -> int:
    text = read_untrusted(folder, name).decode(errors="replace")
    return sum(SETTING.match(line) is None for line in text.splitlines())


def at_jobs(root: str) -> list[str]:
    """Return the waiting jobs of at."""
    return [name for name in listing(root + AT_JOBS) if not name.startswith(".")]


def lingering(root: str) -> list[str]:
    """Return the accounts whose own units start at boot, without a login."""
    return listing(root + LINGER)


def user_units(root: str) -> dict[str, Any]:
    """Return the files of each account's own systemd units; accounts without any, or without a login, are left out."""
    units = {}
    for name, _, _, _, home, shell in user_lines(root).values():
        if os.path.basename(shell) not in NO_LOGIN and home not in ("", "/") and os.path.isdir(f"{root}{home}"):
            names = attempt(unit_names, root, home)
            if names:
                units[name] = names
    return units


def unit_names(root: str, home: str) -> list[str]:
    folder = os.path.dirname(home)
    try:
        return list_untrusted(root + folder, f"{os.path.basename(home)}/{USER_UNITS}")
    except ReadError as reason:
        raise ReadError(f"the units of {home} cannot be listed: {reason}") from None
