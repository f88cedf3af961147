"""Make a running server of this host load the adapters of its file, without a restart of the model.

    python -m workloads.serving.load_adapters SERVER.json ADAPTERS.json

Both are below /etc/rackwright/servers. Root runs this command after a change of the second.
"""

import subprocess
import sys
import time
from pathlib import Path

from pydantic import ValidationError

from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, print_error
from workloads.serving.adapters import read_adapters
from workloads.serving.ask import LocalServer
from workloads.serving.switch import NotServing, SwitchPlan

SECONDS = 300.0
"""Seconds until the server has to have all adapters."""
POLL_SECONDS = 0.2


def load_adapters(plan: SwitchPlan, path: Path, seconds: float = SECONDS) -> list[str]:
    """Signal the server, wait until it has the adapters of the file *path*, and return their names.

    Raises:
        UserError: the file is invalid.
        NotServing: the server does not have these adapters within *seconds*.
    """
    wanted = {name: adapter.directory for name, adapter in read_adapters(path).items()}
    server = LocalServer(plan.socket, plan.account)
    subprocess.run(["systemctl", "reload", plan.unit], check=False, stdin=subprocess.DEVNULL)
    end = time.monotonic() + seconds
    while (found := _loaded_adapters(server)) != wanted:
        if time.monotonic() >= end:
            listed = ", ".join(f"{name} ({directory})" for name, directory in sorted(found.items())) or "none"
            help = f"Correct what `journalctl -u {plan.unit}` names, or restart the unit"
            problem = f"the server has the adapters: {listed}"
            raise NotServing(Diagnostic(plan.unit, problem, f"those of {path} within {seconds:g} s", help))
        time.sleep(POLL_SECONDS)
    return sorted(wanted)


def _loaded_adapters(server: LocalServer) -> dict[str, str]:
    """Return the directory of each adapter that *server* reports, by name; empty without an answer."""
    try:
        status, answer = server.ask("/ready", seconds=5)
    except (OSError, ValueError):
        return {}
    adapters = answer.get("adapters") if status == 200 and isinstance(answer, dict) else None
    return {str(name): str(directory) for name, directory in (adapters or {}).items()}


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser(
        "workloads.serving.load_adapters", __doc__, "Exit status: 0 loaded, 2 a file is wrong, 4 not loaded."
    )
    parser.add_argument("plan", metavar="SERVER.json", type=Path, help="the server's description")
    parser.add_argument("adapters", metavar="ADAPTERS.json", type=Path, help="the adapters, by name")
    args = parser.parse_args(argv)
    try:
        names = load_adapters(SwitchPlan.model_validate_json(args.plan.read_bytes()), args.adapters)
    except (OSError, ValidationError) as error:
        print_error(Diagnostic(str(args.plan), f"the file cannot be read: {error}", help="Run `rackwright up` again"))
        return 2
    print(f"loaded: {', '.join(names) or 'no adapters'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
