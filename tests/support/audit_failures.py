"""Ways in which a host of tests.support.audit_lab fails to answer the audit, wholly or in part."""

import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.audit_lab import BETA
from tests.support.expect import eventually, need
from tests.support.lab import Lab

RESTORE = "/run/lock/restore"
"""File that any account may make: with it, the host takes a failure back by itself."""


def _undo_by_host(lab: Lab, change: str, back: str) -> None:
    """Run *change* on the host, which runs *back* once RESTORE exists: without sudo, nothing else can."""
    script = f"until [ -e {RESTORE} ]; do sleep 0.1; done; {back}; rm -f {RESTORE}"
    lab.ssh(BETA, f"systemd-run --quiet --unit=restore sh -c {shlex.quote(script)}; {change}", status=None)


def _take_back(lab: Lab) -> None:
    subprocess.run(lab.twin.ssh(BETA, f"touch {RESTORE}"), check=True, stdin=subprocess.DEVNULL)
    eventually(lambda: lab.ssh(BETA, f"ls {RESTORE} || echo gone", status=None) == "gone", "the host is as before", 60)


@contextmanager
def down(lab: Lab) -> Iterator[None]:
    lab.twin.power_off(BETA)
    yield
    lab.twin.power_on(BETA, lab.log.write)
    lab.twin.wait(lab.log.write, [BETA])


@contextmanager
def without_sudo(lab: Lab) -> Iterator[None]:
    _undo_by_host(lab, "chmod 0000 /usr/bin/sudo", "chmod 4755 /usr/bin/sudo")
    yield
    _take_back(lab)


@contextmanager
def killed_probe(lab: Lab) -> Iterator[None]:
    """Kill every Python of the host as soon as it starts."""
    loop = f"until [ -e {RESTORE} ]; do pkill -9 -x 'python3.*'; sleep 0.02; done; rm -f {RESTORE}"
    lab.ssh(BETA, f"systemd-run --quiet --unit=killer sh -c {shlex.quote(loop)}")
    yield
    _take_back(lab)


@contextmanager
def full_disk(lab: Lab) -> Iterator[None]:
    """Fill each place in which programs write: /tmp, /var/tmp, /run and /var/log, all of them small."""
    places = ("/tmp", "/var/tmp", "/var/log")
    mounts = "; ".join(f"mount -t tmpfs -o size=64k,mode=1777 full {place}" for place in places)
    fill = "; ".join(f"cat /dev/zero > {place}/full 2>/dev/null || true" for place in (*places, "/run"))
    shrink = "mount -o remount,size=$(($(df --output=used -k /run | tail -n 1) + 8))k /run"
    lab.ssh(BETA, f"{mounts}; {shrink}; {fill}")
    need("100%" in lab.ssh(BETA, "df /run"), "the disk is not full")
    yield
    unmount = "; ".join(f"umount {place}" for place in places)
    lab.ssh(BETA, f"rm /run/full; mount -o remount,size=20% /run; {unmount}")


def tool(path: str, script: str | None) -> Callable[[Lab], AbstractContextManager[None]]:
    """Return the failure in which *script* stands in the place of a program; None for a program that is gone."""

    @contextmanager
    def fail(lab: Lab) -> Iterator[None]:
        lab.ssh(BETA, f"cp -p {path} {path}.real; mv {path} /var/tmp/moved")
        if script is not None:
            lab.ssh(BETA, f"printf '%s\\n' '#!/bin/sh' {shlex.quote(script)} > {path}; chmod 0755 {path}")
        yield
        lab.ssh(BETA, f"mv {path}.real {path}; rm /var/tmp/moved")

    return fail


def hidden(command: str, back: str) -> Callable[[Lab], AbstractContextManager[None]]:
    """Return the failure in which *command* hides the files of a directory from the probe."""

    @contextmanager
    def fail(lab: Lab) -> Iterator[None]:
        lab.ssh(BETA, command)
        yield
        lab.ssh(BETA, back)

    return fail


@dataclass(frozen=True)
class Failure:
    """A failure, and what the audit has to say about the host meanwhile."""

    fail: Callable[[Lab], AbstractContextManager[None]]
    reason: str
    """A part of the reason that the report gives; empty if the failure may leave all facts readable."""
    unknown: tuple[str, ...] = ()
    """Beginnings of the paths that are unknown; empty for the whole host."""


SYSTEMCTL, SSHD = "/usr/bin/systemctl", "/usr/sbin/sshd"
MUTE_SSHD = f'case $1 in -T) exit 0;; esac; exec {SSHD}.real "$@"'
"""It prints no configuration, and still lets accounts in."""
LOGINS = ("authorized keys", "authorities of sshd", "principals of sshd")
SCHEDULES = ("schedules of cron",)
FAILURES = {
    "a host without sudo": Failure(without_sudo, "sudo"),
    "a probe that is killed": Failure(killed_probe, "python3"),
    "no systemctl": Failure(tool(SYSTEMCTL, None), "systemctl", ("unit:",)),
    "a systemctl that prints nothing": Failure(tool(SYSTEMCTL, "exit 0"), "systemctl", ("unit:",)),
    "no sshd": Failure(tool(SSHD, None), "sshd", LOGINS),
    "an sshd that prints nothing": Failure(tool(SSHD, MUTE_SSHD), "sshd", LOGINS),
    "a directory of another account": Failure(
        hidden("chown games /etc/cron.daily", "chown root /etc/cron.daily"), "games", SCHEDULES
    ),
    "a mount": Failure(hidden("mount -t tmpfs x /etc/cron.daily", "umount /etc/cron.daily"), "mounted", SCHEDULES),
    "a Python environment": Failure(
        hidden("touch /etc/cron.daily/pyvenv.cfg", "rm /etc/cron.daily/pyvenv.cfg"), "environment", SCHEDULES
    ),
    "a link": Failure(
        hidden(
            "mv /etc/cron.daily /opt/x; ln -s /opt/x /etc/cron.daily",
            "rm /etc/cron.daily; mv /opt/x /etc/cron.daily",
        ),
        "a link",
        SCHEDULES,
    ),
    "a full disk": Failure(full_disk, ""),
    "a host that is down": Failure(down, "beta"),  # last, as its start takes some deviations back
}


def problems(failure: Failure, before: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """Return what *report* claims to know wrongly during *failure*, compared with the report *before* it.

    A property that cannot be read may not pass for one as declared, nor a deviation be lost or invented.
    """
    wrong = []
    for earlier, later in zip(before["resources"], report["resources"], strict=True):
        name, on_host = later["name"], later["name"].partition("/")[0] == BETA
        if later["not_reached"]:
            if not on_host or failure.unknown or failure.reason not in later["not_reached"] or later["matches"]:
                wrong.append(f"{name}: {later['not_reached']}, {later['matches']} matches")
            continue
        if on_host and failure.reason and not failure.unknown:
            wrong.append(f"{name} is reached")
        known, differing = (
            {_path(item) for item in each["differences"] if not item["unknown"]} for each in (later, earlier)
        )
        unknown = {_path(item) for item in later["differences"] if item["unknown"]}
        wrong += [f"{name} {path} differs now" for path in known - differing]
        wrong += [f"{name} {path} passes for as declared" for path in differing - known - unknown]
        if earlier["matches"] + len(earlier["differences"]) != later["matches"] + len(later["differences"]):
            wrong.append(f"{name} has other properties")
    reasons = [item["found"] for item in report["findings"] if item["state"] == "unknown" and item["host"] == BETA]
    things = [item["path"] for item in report["findings"] if item["state"] == "unknown" and item["host"] == BETA]
    wrong += [f"no unknown {start}" for start in failure.unknown if not any(path.startswith(start) for path in things)]
    if failure.unknown or not failure.reason:  # a host that is not reached has no rules
        unanswered = {item["rule"] for item in report["undeclared"] if item["host"] == BETA and item["unknown"]}
        left = {(item["rule"], item["thing"]) for item in report["undeclared"]}
        wrong += [
            f"{item['rule']} {item['thing']} passes for gone"
            for item in before["undeclared"]
            if item["rule"] not in unanswered and (item["rule"], item["thing"]) not in left
        ]
    if failure.unknown and not any(failure.reason in reason for reason in reasons):
        wrong.append(f"no reason names {failure.reason}: {sorted(set(reasons))}")
    return wrong


def _path(item: dict[str, Any]) -> str:
    return f"{item['claim']}.{item['property']}"
