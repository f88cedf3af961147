"""Fleet files: loading them, reporting their errors, and editing them."""

from rackwright.fleet.load import load_fleet

__all__ = ["load_fleet"]
