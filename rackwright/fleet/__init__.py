"""From the text of a fleet to its models, and edits of that text."""

from rackwright.fleet.load import load_fleet

__all__ = ["load_fleet"]
