"""A project whose one host is simulated, and commands as they are typed there."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support import warm_command
from tests.support.simulated import SimulatedRack


class TypedProject:
    """Stack lab: the host alpha of *rack*, declared with *host* beside how it is reached."""

    def __init__(self, rack: SimulatedRack, directory: Path, host: Mapping[str, Any]) -> None:
        self.alpha, self.directory = rack["alpha"], directory
        self.fleet = directory / "stacks/fleet.yaml"
        self.fleet.parent.mkdir()
        (directory / "Pulumi.yaml").write_text("name: rackwright\nruntime: python\n")
        settings = {"config": {"rackwright:fleet": "fleet.yaml", "rackwright:target": "rack"}}
        (directory / "stacks/Pulumi.lab.yaml").write_text(yaml.safe_dump(settings))
        login = {"name": "admin", "user": rack.user, "key": str(rack.key), "become": False}
        reached = {"address": self.alpha.address, "ssh": {"port": self.alpha.port, "logins": [login]}}
        self.fleet.write_text(yaml.safe_dump({"fleet": "life", "hosts": {"alpha": {**reached, **host}}}))
        (directory / "stacks/fleet.known_hosts").write_text(self.alpha.pin)
        salt = directory / ".rackwright/salts/life"  # as after the first command, which names a new one
        salt.parent.mkdir(parents=True)
        salt.write_bytes(bytes(range(32)))

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return warm_command.run(*arguments, cwd=self.directory)
