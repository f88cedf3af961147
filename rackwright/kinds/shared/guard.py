"""A rollback timer on the host for changes that may break logins: only a new login stops the timer."""

from collections.abc import Sequence

from rackwright.core.contract import Command, LogIn, Step

SECONDS = 300
"""Seconds that a host waits for the new login before it undoes the change."""
LEASE_FILE = "/run/rackwright.lock"
"""The lease file on the host: a client holds it during a change, and loses it when its connection is silent."""

_ARM = """set -eu
undo=$1 unit=$2 seconds=$3 also=$4 behind=${5:+/usr/bin/flock $5 }; shift 5
systemctl stop "$unit.timer" 2>/dev/null || true
while [ -e "$undo/undoing" ] && [ "$(systemctl is-active "$unit.service")" = activating ]; do sleep 0.5; done
systemctl stop "$unit.service" 2>/dev/null || true # it may wait for the lease of this very session
for left in undo.sh undoing; do [ ! -e "$undo/$left" ] || sh "$undo/$left"; done
rm -rf "$undo"; mkdir -p "$undo/files"
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
  echo "rm -f /etc/systemd/system/$unit.timer /etc/systemd/system/$unit.service"
  echo "systemctl daemon-reload"
  echo "rm -f '$undo/undo.sh' '$undo/undoing'"
} > "$undo/undo.sh"
cat > "/etc/systemd/system/$unit.service" <<END
[Service]
Type=oneshot
WorkingDirectory=$undo
MemoryMax=1G
ExecStart=$behind/bin/sh -c "[ ! -e undo.sh ] || mv undo.sh undoing; [ ! -e undoing ] || sh undoing"
END
cat > "/etc/systemd/system/$unit.timer" <<END
[Timer]
OnActiveSec=$seconds
AccuracySec=1s
[Install]
WantedBy=timers.target
END
systemctl daemon-reload
systemctl enable --quiet --now "$unit.timer"
"""
_CONFIRM = """set -eu
undo=$1 unit=$2
mv "$undo/undo.sh" "$undo/confirmed" 2>/dev/null || { # one of the two has it, and never both
  echo "the host has restored the earlier files, or is about to: no new login came in time" >&2
  exit 1
}
systemctl disable --quiet --now "$unit.timer"
systemctl stop "$unit.service"
rm -f "/etc/systemd/system/$unit.timer" "/etc/systemd/system/$unit.service"
systemctl daemon-reload
rm -rf "$undo"
"""


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

    The timer survives a restart of the host. The next attempt first undoes a change that was never confirmed.

    Args:
        name: The name of the change, unique on the host.
        paths: Files that the timer restores to their present state.
        also: A shell text that runs when the timer is set. It prints the commands to run after the files are restored.
        patient: Whether *change* may take longer than *seconds*: the undo then waits until the lease is free.
    """
    undo, unit = f"/var/lib/rackwright/undo/{name}", f"undo-rackwright-{name}"
    arm = ("sh", "-c", _ARM, "sh", undo, unit, str(seconds), also, LEASE_FILE if patient else "", *paths)
    return (
        Command(f"set a timer that restores {name} in {seconds} s", arm, undo_after_seconds=seconds),
        *change,
        LogIn("log in again"),
        Command(f"stop the timer: {name} stays as it is now", ("sh", "-c", _CONFIRM, "sh", undo, unit)),
    )
