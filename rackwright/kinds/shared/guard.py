"""A rollback timer on the host for changes that may break logins: only a new login stops the timer.

The deadline is a point on the monotonic clock. A relative time (``OnActiveSec=``) would begin again with each
`systemctl daemon-reload`, which every installation of a package may run, and wall-clock time moves with the clock.
"""

from collections.abc import Sequence

from rackwright.core.contract import Command, LogIn, Step

SECONDS = 300
"""Seconds that a host waits for the new login before it undoes the change."""
START_SECONDS = 60
"""Seconds after a start of the host at which it undoes the change: the session that could keep it has ended."""
LEASE_FILE = "/run/rackwright.lock"
"""The lease file on the host: a client holds it during a change, and loses it when its connection is silent."""
FOLDER = "/var/lib/rackwright/undo"
"""Folder with the earlier files of each change on trial, and its record ``trial.json``."""
PREFIX = "undo-rackwright-"
"""Prefix of the names of the units that undo a change."""

_ARM = """set -eu
undo=$1 unit=$2 seconds=$3 also=$4 service=$5 timer=$6; shift 6
systemctl stop "$unit.timer" 2>/dev/null || true
while [ -e "$undo/undoing" ] && [ "$(systemctl is-active "$unit.service")" = activating ]; do sleep 0.5; done
systemctl stop "$unit.service" 2>/dev/null || true # it may wait for the lease of this very session
for left in undo.sh undoing; do [ ! -e "$undo/$left" ] || sh "$undo/$left"; done
rm -rf "$undo"; mkdir -p "$undo/files"
deadline="/run/systemd/system/$unit.timer.d"
{
  echo "set -u"
  for path; do
    if [ -e "$path" ] || [ -L "$path" ]; then
      mkdir -p "$undo/files$(dirname "$path")"
      cp -a "$path" "$undo/files$path"
      echo "cp -aT --remove-destination '$undo/files$path' '$path'"
    else
      echo "rm -f '$path'"
    fi
  done
  sh -c "$also"
  echo "systemctl disable --quiet '$unit.timer'"
  echo "rm -f /etc/systemd/system/$unit.timer /etc/systemd/system/$unit.service $deadline/deadline.conf"
  echo "[ ! -e $deadline ] || rmdir $deadline"
  echo "systemctl daemon-reload"
  echo "rm -f '$undo/undo.sh' '$undo/undoing'"
} > "$undo/undo.sh"
printf %s "$service" > "/etc/systemd/system/$unit.service"
printf %s "$timer" > "/etc/systemd/system/$unit.timer"
now=$(/usr/bin/python3 -I -S -c 'import time; print(int(time.monotonic()))')
started=$(systemctl show --property=UserspaceTimestampMonotonic --value)
mkdir -p "$deadline"
at=$((now + 1 - started / 1000000 + seconds))
printf '[Timer]\nOnStartupSec=\nOnStartupSec=%s\n' $at > "$deadline/deadline.conf"
printf '{"boot": "%s", "until": %s}\n' "$(cat /proc/sys/kernel/random/boot_id)" $(($(date +%s) + seconds)) \
  > "$undo/trial.json"
systemctl daemon-reload
systemctl enable --quiet --now "$unit.timer"
"""
"""The point is counted from the start of the service manager, as ``OnStartupSec=`` is, in containers too."""
_CONFIRM = """set -eu
undo=$1 unit=$2
mv "$undo/undo.sh" "$undo/confirmed" 2>/dev/null || { # one of the two has it, and never both
  echo "the host has restored the earlier files, or is about to: no new login came in time" >&2
  exit 1
}
systemctl disable --quiet --now "$unit.timer"
systemctl stop "$unit.service"
rm -f "/etc/systemd/system/$unit.timer" "/etc/systemd/system/$unit.service"
rm -rf "/run/systemd/system/$unit.timer.d"
systemctl daemon-reload
rm -rf "$undo"
"""


def service_text(name: str, patient: bool = False) -> str:
    """Return the service that undoes the change *name*; a patient one waits until the lease is free."""
    behind = f"/usr/bin/flock {LEASE_FILE} " if patient else ""
    return f"""[Service]
Type=oneshot
WorkingDirectory={FOLDER}/{name}
MemoryMax=1G
ExecStart={behind}/bin/sh -c "[ ! -e undo.sh ] || mv undo.sh undoing; [ ! -e undoing ] || sh undoing"
"""


def timer_text() -> str:
    """Return the timer of a change on trial; a file below /run replaces its time until the host starts again."""
    return f"[Timer]\nOnStartupSec={START_SECONDS}\nAccuracySec=1s\n[Install]\nWantedBy=timers.target\n"


def units_of(name: str) -> tuple[str, str]:
    """Return the names of the units that undo the change *name*."""
    return f"{PREFIX}{name}.service", f"{PREFIX}{name}.timer"


def reload_commands(units: Sequence[str]) -> str:
    """Return the shell text for *guard_change* that prints the commands to reload *units*."""
    lines = ["systemctl daemon-reload", *(f"systemctl try-reload-or-restart '{unit}'" for unit in units)]
    return "\n".join(f'echo "{line}"' for line in lines)


def guard_change(
    name: str,
    paths: Sequence[str],
    also: str,
    change: Sequence[Step],
    seconds: int = SECONDS,
    patient: bool = False,
) -> tuple[Step, ...]:
    """Return *change* with steps around it: the first sets a timer that undoes *change*, and a new login stops it.

    The timer survives a restart of the host, which then undoes the change START_SECONDS after its start. The next
    attempt first undoes a change that was never confirmed.

    Args:
        name: The name of the change, unique on the host.
        paths: Files that the timer restores to their present state.
        also: A shell text that runs when the timer is set. It prints the commands to run after the files are restored.
        patient: Whether *change* may take longer than *seconds*: the undo then waits until the lease is free.
    """
    undo, unit = f"{FOLDER}/{name}", f"{PREFIX}{name}"
    texts = (service_text(name, patient), timer_text())
    arm = ("sh", "-c", _ARM, "sh", undo, unit, str(seconds), also, *texts, *paths)
    return (
        Command(f"set a timer that restores {name} in {seconds} s", arm, undo_after_seconds=seconds),
        *change,
        LogIn("log in again"),
        Command(f"stop the timer: {name} stays as it is now", ("sh", "-c", _CONFIRM, "sh", undo, unit)),
    )
