"""A program in which a resource of another provider takes an output of the rack."""

import io
import platform
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.pulumi.test_plugin import obey, project
from tests.support import notes_provider

__all__ = ["project"]
pytestmark = pytest.mark.pulumi
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
PROGRAM = """
import pulumi
import rackwright

rack = rackwright.Rack("lab", fleet="stacks/fleet.yaml")
options = pulumi.ResourceOptions(version="{version}", plugin_download_url="{url}")
pulumi.CustomResource("notes:index:Note", "mount", {{"text": rack.hosts["gpu-01"].tiers["hot"].mount}}, options)
"""


@pytest.fixture
def plugin_server(tmp_path: Path) -> Iterator[str]:
    """The URL of a server on this computer with the archive of the provider of notes, as pulumi downloads it."""
    served = tmp_path / "plugins"
    served.mkdir()
    script = f"#!{sys.executable}\n{Path(notes_provider.__file__).read_text()}".encode()
    entry = tarfile.TarInfo("pulumi-resource-notes")
    entry.size, entry.mode = len(script), 0o755
    name = f"pulumi-resource-notes-v{notes_provider.VERSION}-linux-{MACHINES[platform.machine()]}.tar.gz"
    with tarfile.open(served / name, "w:gz") as archive:
        archive.addfile(entry, io.BytesIO(script))
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_pulumi_installs_the_provider_and_passes_it_the_output(project, plugin_server):
    """
    The plugin comes from its server without a command of the user; the mount is known in the preview.
    """
    (project.directory / "__main__.py").write_text(PROGRAM.format(version=notes_provider.VERSION, url=plugin_server))
    obey(project.host)

    shown = project.pulumi("preview", "--json")

    notes = [step for step in shown.digest["steps"] if step["urn"].endswith("notes:index:Note::mount")]
    assert [(step["op"], step["newState"]["inputs"]) for step in notes] == [("create", {"text": "/srv/hot"})]
