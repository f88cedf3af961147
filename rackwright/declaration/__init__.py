"""From what is declared to what is managed: load a fleet and its stack, and say which resources they are."""

from rackwright.declaration.declare import declare
from rackwright.declaration.declared import Declared
from rackwright.declaration.fleet import load_fleet
from rackwright.declaration.stack import Stack, load_stack

__all__ = ["Declared", "Stack", "declare", "load_fleet", "load_stack"]
