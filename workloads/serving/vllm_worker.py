"""Extension of vLLM's workers on processors: Linux lets them use the tile registers of AMX.

vLLM 0.32 computes attention in bf16 with them on each processor that has them, and asks Linux only if PyTorch's own
products did so before. Linux ends a process that uses them unasked with SIGILL. A process that is started by exec has
to ask again, so that each worker does. Source: Documentation/arch/x86/xstate.rst of Linux; cpu_attn.py of vLLM 0.32.
"""

import torch

torch.cpu._init_amx()  # whether there are any; what other processors do without them is vLLM's own


class Worker:
    """A base class of vLLM's workers that adds nothing; vLLM imports this module for it before there is a model."""
