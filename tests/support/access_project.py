"""Projects with role access, whose hosts answer at a machine or need not be reached."""

import copy
from pathlib import Path

from ruamel.yaml import YAML

from rackwright.stack import Stack, load_stack
from tests.support.stack_settings import configure


class AccessProject:
    """A project whose fleet is hosts that answer at a machine."""

    def __init__(
        self, directory: Path, variables: dict[str, object], port: int, keys: Path, hosts: tuple[str, ...]
    ) -> None:
        self.directory, self.fleet = directory, directory / "stacks/fleet.yaml"
        self.fleet.parent.mkdir(parents=True)
        (directory / "Pulumi.yaml").write_text("name: rackwright\n")
        configure(directory, "rack", "fleet.yaml", "rack")
        logins = [
            {
                "name": "tools",
                "user": "deploy",
                "key": str(keys / "deploy"),
                "certificate": str(directory / "tools-cert.pub"),
            },
            {"name": "before", "user": "admin", "key": str(keys / "admin")},
        ]
        fleet = {
            "fleet": "rack",
            "ssh": {"port": port, "logins": logins},
            "hosts": {
                name: {
                    "address": f"127.0.0.{number}",
                    "identity": {"serial": f"S-{name}"},
                    "os": "debian-12",
                    "roles": {"base": {}, "access": copy.deepcopy(variables)},  # a declaration has no anchors
                }
                for number, name in enumerate(hosts, start=1)
            },
        }
        with self.fleet.open("w") as file:
            YAML().dump(fleet, file)

    @property
    def stack(self) -> Stack:
        return load_stack("rack", self.directory)


def declared(tmp_path: Path, keys: Path, **variables: object) -> AccessProject:
    """Return a project whose host need not be reached."""
    return AccessProject(tmp_path / "project", variables, 1, keys, ("alpha",))
