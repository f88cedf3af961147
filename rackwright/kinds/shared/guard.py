"""The way back from a change that may lock everybody out: a timer on the host, stopped only by who got in anew."""

from collections.abc import Sequence

from rackwright.core.contract import Command, LogIn, Step

SECONDS = 300
"""How long a host waits to be told that it can still be reached."""
LOCK = "/run/rackwright.lock"
"""On the host: whoever changes it holds this, and loses it once he is silent."""

_ARM = """set -eu
undo=$1 unit=$2 seconds=$3 also=$4 behind=${5:+/usr/bin/flock $5 }; shift 5
systemctl stop "$unit.timer" 2>/dev/null || true
while [ -e "$undo/undoing" ] && [ "$(systemctl is-active "$unit.service")" = activating ]; do sleep 0.5; done
systemctl stop "$unit.service" 2>/dev/null || true # if it waits for the lock, then for us
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
  echo "the host has put it back, or is about to: nobody had logged in anew in time" >&2
  exit 1
}
systemctl disable --quiet --now "$unit.timer"
systemctl stop "$unit.service"
rm -f "/etc/systemd/system/$unit.timer" "/etc/systemd/system/$unit.service"
systemctl daemon-reload
rm -rf "$undo"
"""


def reloading(units: Sequence[str]) -> str:
    """Return what *guarded* takes for services that have to read their files again."""
    lines = ["systemctl daemon-reload", *(f"systemctl try-reload-or-restart '{unit}'" for unit in units)]
    return "\n".join(f'echo "{line}"' for line in lines)


def guarded(
    name: str,
    paths: Sequence[str],
    also: str,
    change: Sequence[Step],
    seconds: int = SECONDS,
    patient: bool = False,
) -> tuple[Step, ...]:
    """Return *change* between the setting of a timer that undoes it and the login that stops that timer.

    The timer survives a restart of the host. A change that was not confirmed is undone first when it is tried again.

    Args:
        name: Of what is changed, once on a host.
        paths: Files that the timer puts back as they are now.
        also: A shell text, run as the timer is set: what it prints is run after the files have been put back.
        patient: The change may take longer than *seconds*, and nothing is taken back while somebody is still at it.
    """
    undo, unit = f"/var/lib/rackwright/undo/{name}", f"undo-rackwright-{name}"
    arm = ("sh", "-c", _ARM, "sh", undo, unit, str(seconds), also, LOCK if patient else "", *paths)
    return (
        Command(f"set a timer that puts {name} back in {seconds} s", arm, undo_after_seconds=seconds),
        *change,
        LogIn("log in anew"),
        Command(f"stop the timer: {name} stays as it is now", ("sh", "-c", _CONFIRM, "sh", undo, unit)),
    )
