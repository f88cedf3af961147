"""The command line: parse, call, print, exit. No logic."""

import sys

from rackwright import terminal
from rackwright.errors import DeclarationErrors, RackwrightError
from workloads.errors import WorkloadError


def main() -> None:
    """Run the command line; what a person can mend is said without a traceback."""
    from rackwright.cli.app import app

    sys.excepthook = terminal.say_failure
    try:
        app()
    except DeclarationErrors as errors:
        count = len(errors.errors)
        terminal.say(f"{errors}\n{count} error{'s' * (count > 1)}; nothing was done.")
        sys.exit(errors.exit_status)
    except (RackwrightError, WorkloadError) as error:
        terminal.say(error)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        terminal.say("interrupted; running it again is safe")
        sys.exit(130)
