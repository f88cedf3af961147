"""Pulumi programs: the component of a rack, and the program that declares nothing else."""

from rackwright.program.main import run
from rackwright.program.rack import Rack

__all__ = ["Rack", "run"]
