"""Units that the suite itself has armed on a host: rules know them by record and text, and not by their names."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from rackwright.facts.facts import Facts
from rackwright.facts.inventory import TrialFacts
from rackwright.kinds.shared.guard import START_SECONDS, service_text, timer_text, units_of

ETC, RUN = "/etc/systemd/system", "/run/systemd/system"
DEADLINE = re.compile(r"\[Timer\]\nOnStartupSec=\nOnStartupSec=\d+\n")
EARLIER_TIMER = re.compile(r"\[Timer\]\nOnActiveSec=\d+\nAccuracySec=1s\n\[Install\]\nWantedBy=timers\.target\n")
"""The timer that version 0.1.0 writes, for a host that has one when rackwright is upgraded."""
PENDING = ("waiting", "undoing")


def armed_paths(facts: Facts) -> frozenset[str]:
    """Return the paths of the units that take a change on trial back, as far as their texts are those of rackwright."""
    if not facts.has("trials"):  # an earlier version of the probe: what looks like such a unit is reported
        return frozenset()
    return frozenset(path for name, trial in facts.trials.items() for path in _paths(name, trial))


def _paths(name: str, trial: TrialFacts) -> Mapping[str, None]:
    if trial.state not in PENDING or not is_intact(name, trial):
        return {}
    service, timer = units_of(name)
    paths = (f"{ETC}/{service}", f"{ETC}/{timer}", f"{ETC}/timers.target.wants/{timer}")
    return dict.fromkeys((*paths, f"{RUN}/{timer}.d/deadline.conf", f"{RUN}/{timer}.d"))


def is_intact(name: str, trial: TrialFacts) -> bool:
    """Return whether the units of the change are those that rackwright writes; the undo removes them at its end."""
    gone = (None,) if trial.state == "undoing" else ()
    is_service = trial.service in (service_text(name), service_text(name, patient=True), *gone)
    is_deadline = trial.deadline is None or DEADLINE.fullmatch(trial.deadline) is not None
    is_timer = trial.timer in (timer_text(), *gone) or EARLIER_TIMER.fullmatch(trial.timer or "") is not None
    return is_service and is_timer and is_deadline


def describe(name: str, trial: TrialFacts, facts: Facts) -> str:
    """Return what a person has to know about the change; empty if it is none any more."""
    if trial.state not in PENDING:
        return ""
    subject = name.replace("role-", "role ", 1)
    if trial.state == "undoing":
        return f"{subject} is on trial, and the host is restoring the earlier files"
    if not is_intact(name, trial):
        return f"{subject} is on trial, and its units are not those of rackwright: perhaps nothing is restored"
    timer = facts.unit(units_of(name)[1])
    if timer is None or timer.active != "active":
        return f"{subject} is on trial, and its timer does not run: nothing restores the earlier files"
    if EARLIER_TIMER.fullmatch(trial.timer or ""):
        time = "its timer ends, which version 0.1.0 has set"
    elif trial.until is None or trial.boot != facts.boot_id:
        time = f"{START_SECONDS} s after the start of the host"
    else:
        time = f"{datetime.fromtimestamp(trial.until, UTC):%H:%M:%S} UTC"
    return f"{subject} is on trial until {time}; the host restores the earlier files then"
