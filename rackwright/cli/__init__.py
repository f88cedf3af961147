"""The command line: parse, call, print, exit. No logic."""

import sys

from rackwright.errors import DeclarationErrors, RackwrightError
from workloads.common.errors import WorkloadError


def main() -> None:
    """Run the command line; what a person can mend is said without a traceback."""
    from rackwright.cli.app import app

    try:
        app()
    except DeclarationErrors as errors:
        count = len(errors.errors)
        print(f"{errors}\n{count} error{'s' * (count > 1)}; nothing was done.", file=sys.stderr)
        sys.exit(errors.exit_status)
    except (RackwrightError, WorkloadError) as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print("interrupted; running it again is safe", file=sys.stderr)
        sys.exit(130)
