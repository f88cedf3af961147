"""The command line: it parses arguments, calls functions, prints results and exits."""

import sys

from rackwright import terminal
from rackwright.errors import DeclarationErrors, RackwrightError
from workloads.errors import WorkloadError


def main() -> None:
    """Run the command line. Print an error that the operator can fix without a traceback."""
    from rackwright.cli.app import app

    sys.excepthook = terminal.notify_traceback
    try:
        app()
    except DeclarationErrors as errors:
        count = len(errors.errors)
        terminal.notify(f"{errors}\n{count} error{'s' * (count > 1)}; nothing was done.")
        sys.exit(errors.exit_status)
    except (RackwrightError, WorkloadError) as error:
        terminal.notify(error)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        terminal.notify("interrupted; running it again is safe")
        sys.exit(130)
