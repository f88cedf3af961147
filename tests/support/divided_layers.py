"""A layer of 4 bits that processes divide, beside a whole one: values, gradients and bytes.

torchrun --nproc-per-node 2 -m tests.support.divided_layers

Each rank prints a line of JSON.
"""

import json

import torch
import torch.distributed as dist
from torch import nn

from workloads.training.four_bit import FourBitLinear

FEATURES = ((128, 96), (64, 65))
"""Features in and out: an odd number of bytes has a last part that is shorter."""


def compare(inputs: int, outputs: int) -> dict[str, float]:
    torch.manual_seed(0)
    plain, x = nn.Linear(inputs, outputs), torch.randn(3, 5, inputs, requires_grad=True)
    whole, part = FourBitLinear(plain), FourBitLinear(plain)
    part.divide(dist.group.WORLD)
    results = []
    for layer in (whole, part):
        layer.quantize(plain.weight.detach())
        y = layer(x)
        [gradient] = torch.autograd.grad(y.square().sum(), x)
        results.append((layer.dequantize(), y.detach(), gradient))
    differences = [float((one - other).abs().max()) for one, other in zip(*results, strict=True)]
    names = ("packed", "scales")
    sizes = [sum(layer.get_buffer(name).nbytes for name in names) for layer in (part, whole)]
    return {
        "weights": differences[0],
        "output": differences[1],
        "gradient": differences[2],
        "part": sizes[0] / sizes[1],
    }


if __name__ == "__main__":
    dist.init_process_group("gloo")
    # in one write: lines of several ranks would mix
    print(json.dumps([compare(*each) for each in FEATURES]) + "\n", end="", flush=True)
    dist.destroy_process_group()
