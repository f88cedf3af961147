"""Restart a host: drain it first, then wait until its services have started."""

from rackwright.core.contract import Command, Reboot
from rackwright.hosts.session import Session
from rackwright.progress import Progress

DIRECTORY = "/etc/rackwright/drain.d"
"""Directory on the host with executables that end its work, run in the order of their names."""
DRAIN_SECONDS = 900.0
START_SECONDS = 600.0

_DRAIN = """[ -e "$1" ] || [ -L "$1" ] || exit 0
cd "$1" || exit 1
for each in *; do
  [ -e "$each" ] || [ -L "$each" ] || continue
  [ -f "$each" ] && [ -x "$each" ] || { echo "$1/$each is not executable"; exit 1; }
done
for each in *; do
  [ -e "$each" ] || continue
  echo "$each"
  "./$each" || { status=$?; echo "$1/$each ended with $status"; exit "$status"; }
done
"""


def drain(session: Session, number: int, progress: Progress) -> None:
    """Run the drain commands of the host, one after another.

    Raises:
        NotDone: a command failed or is not executable; later commands did not begin.
    """
    step = Command("drain", ("sh", "-c", _DRAIN, "drain", DIRECTORY), timeout_seconds=DRAIN_SECONDS)
    session.perform(step, number, lambda text: progress(f"draining, {text}"))


def begin(step: Reboot, number: int, session: Session) -> None:
    session.perform(step, number, lambda text: None)


def settle(session: Session, number: int, progress: Progress) -> None:
    """Wait until systemd has started every enabled unit or failed to. The claims decide which units matter."""
    argv = ("sh", "-c", "systemctl is-system-running --wait || true")
    step = Command("wait for its services", argv, timeout_seconds=START_SECONDS)
    session.perform(step, number, lambda text: progress(f"waiting for its services, {text}"))
