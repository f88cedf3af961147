"""The program that declares the selected stack's fleet and nothing else."""

import gc

import pulumi

from rackwright.program.rack import Rack
from rackwright.provider.state_format import RACK_NAME


def run() -> None:
    """Declare the fleet of the selected stack, and export its mounts and the URLs of its servers."""
    gc.disable()  # the program ends in seconds, and the garbage collector would take a fifth of them
    rack = Rack(RACK_NAME)
    pulumi.export("mounts", rack.mounts)
    if rack.servers:
        pulumi.export("servers", {name: server.urls for name, server in rack.servers.items()})
