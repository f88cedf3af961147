"""Pulumi programs: the component of a rack, and the program that declares nothing else."""

from rackwright.program.gpu_platform import GpuPlatform
from rackwright.program.main import run
from rackwright.program.platform_objects import Team
from rackwright.program.rack import Rack

__all__ = ["GpuPlatform", "Rack", "Team", "run"]
