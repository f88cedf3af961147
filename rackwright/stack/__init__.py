"""A stack's settings and the resources that it declares."""

from rackwright.stack.resource import Declared
from rackwright.stack.resources import declare
from rackwright.stack.stack import Stack, load_stack

__all__ = ["Declared", "Stack", "declare", "load_stack"]
