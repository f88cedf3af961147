"""How Pulumi starts the provider: with the interpreter of rackwright, without a secret around it, and able to fork."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
echo "$@"
env
"""


def started(tmp_path: Path, **variables: str) -> str:
    """Return what a provider that is started with *variables* has as its arguments and in its environment."""
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    argv = ["/bin/sh", ROOT / "rackwright/toolchain/provider.sh", python, "127.0.0.1:9"]
    return subprocess.run(argv, env=os.environ | variables, capture_output=True, text=True, check=True).stdout


def test_the_provider_inherits_no_secret_of_the_stack(tmp_path: Path) -> None:
    """
    Pulumi hands its plugins the whole opened configuration; whatever we start would have it, too.
    """
    done = started(tmp_path, PULUMI_CONFIG='{"secrets": "opened"}', PULUMI_CONFIG_PASSPHRASE="opened too")

    assert done.splitlines()[0] == "-u -P -m rackwright.provider 127.0.0.1:9"
    assert "PATH=" in done
    assert "opened" not in done


def test_what_is_forked_to_start_ansible_has_no_thread_of_grpc(tmp_path: Path) -> None:
    """
    With gRPC's handlers for forks, its thread wakes up in the child before Ansible takes its place, and may crash it.
    """
    assert "GRPC_ENABLE_FORK_SUPPORT=false" in started(tmp_path).splitlines()
