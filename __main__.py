"""The Pulumi program: whatever fleet and target the selected stack names."""

import gc
from pathlib import Path

import pulumi

from rackwright.errors import UserError
from rackwright.stack import load_stack
from stacks.program import build

gc.disable()  # it ends in seconds, and looking for what it could let go would take a fifth of them
try:
    stack = load_stack(pulumi.get_stack(), Path(__file__).resolve().parent)
except UserError as error:
    raise pulumi.RunError(error.render(severity="")) from None  # what is wrong, without a traceback
for name, value in build(stack).items():
    pulumi.export(name, value)
