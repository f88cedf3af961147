"""Print the layouts in which a training run fits on GPUs of the catalogue, with the memory of each GPU.

    python -m workloads.training.fit deepseek-v3 --gpu h100-sxm --hosts 32
    python -m workloads.training.fit run.json --gpu h200 --set recompute_activations=true --all

A layout is the tensor and expert parallelism of a run with `sharding: full` on all GPUs. Nothing is loaded, and
nothing is sent. Layouts that do not fit are printed with --all, and those whose processes cannot share `global_batch`
are left out. The memory is the estimate that a run compares with its GPU before the first step. The activations of a
mixture of experts depend on the data, and are not part of it.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workloads.catalogue.accelerators import gpu_architecture, gpu_memory_bytes, gpu_names
from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError, print_error
from workloads.recipes import RECIPES
from workloads.training.config import TrainingConfig
from workloads.training.load_config import load_config
from workloads.training.precision import Precision, choose

if TYPE_CHECKING:
    from torch import nn

    from workloads.training.memory import MemoryEstimate

STATUS = "Exit status: 0 a layout fits, 1 none fits, 2 wrong input."


@dataclass(frozen=True, slots=True)
class Layout:
    """A division of a model among processes, and the memory of each of them."""

    tensor_parallel: int
    expert_parallel: int
    needed: "MemoryEstimate"

    def __str__(self) -> str:
        return f"tensor_parallel {self.tensor_parallel} and expert_parallel {self.expert_parallel}"


def layouts(
    config: TrainingConfig, model: "nn.Module", processes: int, per_host: int, kind: str, precision: Precision
) -> Iterator[Layout]:
    """Yield the layouts of *config* on *processes* processes, those with the least communication first.

    Args:
        model: The model on the meta device.
        per_host: Processes of each host. Tensor parallelism stays within a host, as it communicates in each layer.
        kind: Kind of the devices, such as cuda.
    """
    from workloads.training import acceleration, memory, parallel

    for tensor in _powers_of_two(per_host):
        for expert in (1, *_powers_of_two(processes)[1:]):
            changes = {"tensor_parallel": tensor, "expert_parallel": expert, "sharding": "full"}
            batches = processes // tensor
            try:
                run = TrainingConfig.model_validate({**config.model_dump(), **changes})
                parallel.check(run, model)
            except (ValueError, UserError):
                continue
            if processes % max(tensor, expert) or config.global_batch % (batches * config.accumulate):
                continue
            accelerated = acceleration.choose(run, model, kind, precision, batches)
            needed = memory.estimate(run, model, processes, batches, precision, accelerated, sharded=True)
            yield Layout(tensor, expert, needed)


def _powers_of_two(most: int) -> list[int]:
    return [1 << exponent for exponent in range(most.bit_length())]


def arguments() -> ArgumentParser:
    parser = new_parser("workloads.training.fit", __doc__, f"Recipes: {', '.join(RECIPES)}. {STATUS}")
    parser.add_argument("source", metavar="RECIPE|FILE.json", help="a recipe's name, or a file that --print wrote")
    parser.add_argument("--gpu", required=True, metavar="NAME", help="GPU of the catalogue, such as h100-sxm")
    parser.add_argument("--gpus", type=int, default=8, metavar="N", help="GPUs of each host (8)")
    parser.add_argument("--hosts", type=int, default=1, metavar="N", help="hosts of the run (1)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="a value that replaces the recipe's, such as global_batch=512; repeatable",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="print the layouts that do not fit as well")
    return parser


@as_command
def main(argv: list[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    config = load_config(args.source, args.changes)
    room = _memory_of(args.gpu)
    return _print_layouts(config, args.gpu, room, args.hosts, args.gpus, args.all)


def _print_layouts(config: TrainingConfig, gpu: str, room: int, hosts: int, per_host: int, show_all: bool) -> int:
    """Print the layouts on *hosts* hosts; return 0 if one of them fits in *room* bytes, else 1."""
    from workloads.training.memory import format_bytes
    from workloads.training.models import build_shapes

    precision = choose(config.precision, gpu_architecture(gpu), gpu)
    found = [*layouts(config, build_shapes(config.model), hosts * per_host, per_host, "cuda", precision)]
    print(f"{hosts} x {per_host} {gpu}, {format_bytes(room)} each; {precision.name} ({precision.why})")
    fitting = [layout for layout in found if layout.needed.total <= room]
    for layout in found if show_all else fitting:
        print(f"{'' if layout in fitting else 'does not fit: '}{layout}: {layout.needed}")
    if fitting:
        return 0
    problem = "no layout fits on these GPUs"
    if found:
        least = min(found, key=lambda layout: layout.needed.total)
        problem = f"{least} needs {format_bytes(least.needed.total)}, which is the least"
    help = "Add hosts, or set recompute_activations=true or a larger accumulate"
    print_error(UserError(Diagnostic("layouts", problem, f"at most {format_bytes(room)} on each GPU", help)))
    return 1


def _memory_of(gpu: str) -> int:
    """Return the bytes of memory of *gpu*.

    Raises:
        UserError: The catalogue does not have the GPU.
    """
    memory = gpu_memory_bytes(gpu) if gpu in gpu_names() else None
    if memory is None:
        raise UserError(Diagnostic("--gpu", f"got {gpu}", f"one of {', '.join(gpu_names())}", "Correct the name"))
    return memory


if __name__ == "__main__":
    sys.exit(main())
