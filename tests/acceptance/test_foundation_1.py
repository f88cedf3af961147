"""Line 1: a clone on a plain machine, one command, and the rack is there; again, and there is nothing to do."""

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.plain_machine import PlainMachine, plain_machine

MINUTES = {"make up": 20, "make up again": 5, "make test": 35}
"""The most that each may take; the aim of the first is 12."""
HOLDS = (
    'test -z "$(git status --porcelain)"',
    'eval "$(.venv/bin/rackwright env)" && pulumi preview --stack lab --expect-no-changes',
    ".venv/bin/rackwright audit lab",
)
"""What ends with 0 once the rack is there."""


@line("foundation", 1)
def test_one_command_builds_the_rack_from_a_clone(log: Log) -> str:
    with plain_machine(log) as machine:
        before, took = machine.packages(), {}
        took["make up"], output = _timed(machine, log, "make up")
        installed = machine.packages() - before
        silent = installed - set(output.split())
        need(installed and not silent, f"of {len(installed)} packages installed, not named: {', '.join(silent)}")
        took["make up again"], _ = _timed(machine, log, "make up")
        for command in HOLDS:
            _timed(machine, log, command)
        took["make test"], _ = _timed(machine, log, "make test")
    durations = "; ".join(f"{what} {minutes:.1f} min (at most {MINUTES[what]})" for what, minutes in took.items())
    need(all(minutes <= MINUTES[what] for what, minutes in took.items()), durations)
    return f"{durations}; {len(installed)} packages installed, each named"


def _timed(machine: PlainMachine, log: Log, command: str) -> tuple[float, str]:
    """Return the minutes that *command* takes, and what it prints; it has to end well."""
    log(command)
    began = log.seconds
    done = machine.run(command)
    need(done.returncode == 0, f"`{command}` ended with {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
    return (log.seconds - began) / 60, done.stdout
