"""A host's choices about its accelerators, and the contradictions between them."""

from rackwright.schema.accelerator.alternatives import problems
from rackwright.schema.accelerator.choices import WITH_DEFAULTS, Accelerators, read_choices, variables

__all__ = ["WITH_DEFAULTS", "Accelerators", "problems", "read_choices", "variables"]
