"""Serve one model as one pod of a group of pods, whose first pod is the leader and answers clients.

    python -m workloads.serving.group MODEL --settings settings.json --port 29500 --interface eth0 --key lease_key

The place of the pod in its group comes from the variables that LeaderWorkerSet sets in each pod: LWS_LEADER_ADDRESS,
LWS_GROUP_SIZE and LWS_WORKER_INDEX. The address of the pod is in POD_IP.
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from workloads import config_file
from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.serving.settings import ServingSettings
from workloads.serving.start import start
from workloads.serving.vllm_settings import ReplicaSettings

STATUS = (
    "Exit status: 0 stopped on request, 1 the model is damaged, 2 wrong input, 4 a pod or vLLM was lost, 143 not begun."
)
LEADER, SIZE, INDEX, ADDRESS = "LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX", "POD_IP"


def replica(variables: Mapping[str, str], port: int, interface: str, key_file: str) -> ReplicaSettings:
    """Return the place of a pod in its group. Other pods have their names there, and the pod itself its address.

    The names are those that LeaderWorkerSet gives: ``racks-replica-0.racks-replica.vision`` for the leader of the first
    group, and ``racks-replica-0-1.racks-replica.vision`` for its first worker.

    Raises:
        UserError: a variable is missing, or is no number.
    """
    if missing := [name for name in (LEADER, SIZE, INDEX, ADDRESS) if not variables.get(name)]:
        problem, expected = f"variables are missing: {', '.join(missing)}", "a pod of a LeaderWorkerSet has them"
        raise UserError(Diagnostic("this pod", problem, expected, "Start it by LeaderWorkerSet"))
    leader, _, domain = variables[LEADER].partition(".")
    try:
        size, index = int(variables[SIZE]), int(variables[INDEX])
        addresses = [variables[LEADER], *(f"{leader}-{number}.{domain}" for number in range(1, size))]
        addresses[index] = variables[ADDRESS]
        return ReplicaSettings(
            addresses=tuple(addresses), rank=index, port=port, interface=interface, key_file=key_file
        )
    except (ValueError, IndexError):
        problem = f"got {SIZE}={variables[SIZE]} and {INDEX}={variables[INDEX]}"
        help = "Look at the variables of the pod"
        raise UserError(
            Diagnostic("this pod", problem, "2 pods or more, and the number of one of them", help)
        ) from None


def _exit(number: int, frame: FrameType | None) -> None:
    """End this process; the server has a handler of its own once it serves."""
    sys.exit(128 + number)


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.serving.group", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL", type=Path, help="directory of the model")
    parser.add_argument("--port", type=int, required=True, help="first of three ports for the pods of the group")
    parser.add_argument("--interface", required=True, help="interface with the address of the pod")
    parser.add_argument(
        "--key", metavar="FILE", required=True, help="file with the key of the leases, an absolute path"
    )
    config_file.add_arguments(parser, "parallel=8")
    args = parser.parse_args(argv)
    settings = config_file.settings(ServingSettings, args)
    if args.print:
        print(settings.model_dump_json(indent=2))
        return 0
    # the first process of a container ignores signals without a handler, also while it waits for the other pods
    signal.signal(signal.SIGTERM, _exit)
    place = replica(os.environ, args.port, args.interface, args.key)
    start(args.model, settings.model_copy(update={"vllm": settings.vllm.model_copy(update={"replica": place})}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
