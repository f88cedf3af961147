"""What a host's declaration chooses about its accelerators, and what in it cannot be together."""

from rackwright.schema.accelerator.chosen import Accelerators, chosen, variables
from rackwright.schema.accelerator.mending import problems

__all__ = ["Accelerators", "chosen", "problems", "variables"]
