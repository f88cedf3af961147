"""A project whose fleet is one bucket, with a server on loopback as the stand-in for its store."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.object_store import Server, seaweedfs

STACK, BUCKET = "cold", "models"
FLEET = f"""\
fleet: cold
hosts: {{}}
object_stores:
  archive:
    url: https://store.example:8333
    listing: by_folder
    credentials: {{access_key: rackwright, secret_key: {{secret: archive_key}}}}
buckets:
  {BUCKET}: {{store: archive, expiry: {{earlier_days: 30}}, access: {{trainer: write}}}}
"""

Run = Callable[[Path], contextlib.AbstractContextManager[Server]]


@dataclass(frozen=True)
class StoreProject:
    """The project and its store."""

    directory: Path
    server: Server

    def declare(self, fleet: str) -> None:
        """Write the text of another fleet."""
        (self.directory / "stacks/cold.yaml").write_text(fleet)

    def rackwright(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        program = Path(sys.executable).with_name("rackwright")
        return subprocess.run([program, *arguments], cwd=self.directory, text=True, capture_output=True)

    def differing(self) -> set[str]:
        """Return the paths of all differences that the audit finds."""
        document: dict[str, Any] = json.loads(self.rackwright("audit", STACK, "--json").stdout)
        found = (item for each in document["resources"] for item in each["differences"])
        return {f"{item['claim']}.{item['property']}" for item in found}

    def texts(self) -> str:
        """Return the content of all files of the project."""
        places = [Path(folder, name) for folder, _, names in os.walk(self.directory) for name in names]
        return "\n".join(place.read_text(errors="replace") for place in places)


@contextlib.contextmanager
def store_project(directory: Path, run: Run = seaweedfs, fleet: str = FLEET) -> Iterator[StoreProject]:
    """Yield a project in the empty *directory*; its store ends with the block.

    Args:
        run: A function that runs the server of the store with its data in a directory.
    """
    with run(directory) as server:
        project = StoreProject(directory / "project", server)
        project.directory.mkdir()
        assert project.rackwright("init", ".").returncode == 0
        stacks = project.directory / "stacks"
        project.declare(fleet)
        settings = {"fleet": "cold.yaml", "target": "twin:cold", "object_stores": {"archive": server.url}}
        config = {f"rackwright:{key}": value for key, value in settings.items()}
        (stacks / f"Pulumi.{STACK}.yaml").write_text(json.dumps({"config": config}))
        yield project
