"""How Pulumi starts the provider: in its checkout's environment, and without any secret around it."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
echo "$@"
env
"""


def test_the_provider_inherits_no_secret_of_the_stack(tmp_path: Path) -> None:
    """
    Pulumi hands its plugins the whole opened configuration; whatever we start would have it, too.
    """
    here = "rackwright/provider/bin"
    shutil.copytree(ROOT / here, tmp_path / here)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    secret = {"PULUMI_CONFIG": '{"secrets": "opened"}', "PULUMI_CONFIG_PASSPHRASE": "opened too"}
    argv = [str(tmp_path / here / "pulumi-resource-rackwright"), "127.0.0.1:9"]
    said = subprocess.run(argv, env=os.environ | secret, capture_output=True, text=True, check=True).stdout

    assert said.splitlines()[0] == "-u -m rackwright.provider 127.0.0.1:9"
    assert "PATH=" in said
    assert "opened" not in said
