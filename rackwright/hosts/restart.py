"""A restart of a host: drained before, waited for, and not over before its services have started."""

from rackwright.core.contract import Command, Reboot
from rackwright.hosts.session import Session
from rackwright.progress import Progress

DIRECTORY = "/etc/rackwright/drain.d"
"""On the host: executables that end the work on it, each in its own way, in the order of their names."""
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
    """Run the host's own commands, one after the other.

    Raises:
        NotDone: one did not end well, or cannot be run; those after it were not begun.
    """
    step = Command("drain", ("sh", "-c", _DRAIN, "drain", DIRECTORY), timeout_seconds=DRAIN_SECONDS)
    session.perform(step, number, lambda text: progress(f"draining, {text}"))


def begin(step: Reboot, number: int, session: Session) -> None:
    session.perform(step, number, lambda text: None)


def settle(session: Session, number: int, progress: Progress) -> None:
    """Wait until all that starts by itself has been started, well or not: the claims say which of it matters."""
    argv = ("sh", "-c", "systemctl is-system-running --wait || true")
    step = Command("wait for its services", argv, timeout_seconds=START_SECONDS)
    session.perform(step, number, lambda text: progress(f"waiting for its services, {text}"))
