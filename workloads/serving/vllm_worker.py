"""Extension of vLLM's workers on processors: Linux lets them use the tile registers of AMX.

vLLM 0.32 computes attention in bf16 with them on each processor that has them, and does not ask: without this module,
servers without adapters ended by SIGILL at their first request. Linux forgets the permission at exec, so each worker
asks by itself. Source: Documentation/arch/x86/xstate.rst of Linux; cpu_attn.py of vLLM 0.32.
"""

import torch

torch.cpu._init_amx()  # processors without AMX answer False, and compute as before


class Worker:
    """An empty base class that vLLM adds to its workers: it imports this module for it, before there is a model."""
