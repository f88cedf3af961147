"""Stacks: their settings, and the resources that they declare."""

from rackwright.stack.load import load_stack
from rackwright.stack.resource import DeclaredResource
from rackwright.stack.resources import declare
from rackwright.stack.stack import Stack

__all__ = ["DeclaredResource", "Stack", "declare", "load_stack"]
