"""Compare the weights and moments of checkpoints to the last bit: python -m tests.support.compare_states STEP STEP...

The checkpoints may have other numbers of shards. The command prints the number of tensors and their bytes.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from workloads.checkpoint import Checkpoint, manifest, verify_shards
from workloads.training.sharded import SavedState


def tensors(directory: Path) -> Iterator[tuple[str, torch.Tensor]]:
    checkpoint = Checkpoint(directory, manifest.read(directory))
    verify_shards(checkpoint)
    state = SavedState(checkpoint)
    for name, weight in state.weights().items():
        yield name, weight.read()
    for index, moments in state.moments([*state.weights()]).items():
        for key, moment in moments.items():
            yield f"{index}/{key}", moment.read()


def main(first: str, *others: str) -> None:
    reference = dict(tensors(Path(first)))
    for other in others:
        own = dict(tensors(Path(other)))
        assert own.keys() == reference.keys(), f"{other} has other tensors than {first}"
        wrong = [name for name, value in reference.items() if not torch.equal(value, own[name])]
        assert not wrong, f"{other}: {wrong[0]} and {len(wrong) - 1} others differ"
    size = sum(value.nbytes for value in reference.values())
    print(f"{len(reference)} tensors of {size / 1e6:.0f} MB equal in {1 + len(others)} checkpoints")


if __name__ == "__main__":
    main(*sys.argv[1:])
