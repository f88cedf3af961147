"""Truth: impossible declarations are refused with file and line, before any host is asked."""

import subprocess
import sys
from pathlib import Path

from tests.support.acceptance import line
from tests.support.expect import errors, need
from tests.support.lab import PROJECT
from tests.support.log import ROOT, Log
from tests.support.stack_settings import configure

WRONG = ROOT / "tests/fleet/wrong"
FLEETS = ("mount-own", "login-option", "mapped-address", "identity-template", "number-as-name", "too-deep")
LARGE = 50_000_000
MEMORY = 512 << 20
"""Bytes of addresses that the command may have: parsed, the large fleet alone took 837 MB."""


@line("hardening", "truth", part="declarations")
def test_impossible_declarations_are_refused_before_any_connection(log: Log) -> str:
    directory = log.empty_directory()
    stacks = directory / "project/stacks"
    stacks.mkdir(parents=True)
    (directory / "project/Pulumi.yaml").write_text(PROJECT)
    outside = directory / "outside.yaml"
    outside.write_text((ROOT / "stacks/rack.yaml").read_text())
    (stacks / "linked.yaml").symlink_to(outside)
    host = "  host-{}: {{address: 192.0.2.1, os: debian-12, identity: {{serial: A}}}}\n"
    hosts = "".join(map(host.format, range(LARGE // len(host))))
    (stacks / "large.yaml").write_text(f"fleet: large\nhosts:\n{hosts}")
    for name in FLEETS:
        (stacks / f"{name}.yaml").write_bytes((WRONG / f"{name}.yaml").read_bytes())
    refused = 0
    for stack, fleet in {
        **{name: f"{name}.yaml" for name in FLEETS},
        "outside": "../../outside.yaml",
        "absolute": str(outside),
        "linked": "linked.yaml",
        "large": "large.yaml",
    }.items():
        configure(stacks.parent, stack, fleet, "rack")
        done = _limited(log, stack, stacks)
        need(done.returncode == 2, f"{stack}: check ended with {done.returncode}: {done.stderr[-300:]}")
        lines = errors(done.stderr)
        need(lines and done.stderr.strip().endswith("nothing was done."), f"{stack}: {done.stderr[-300:]}")
        file = f"Pulumi.{stack}.yaml" if stack in ("outside", "absolute", "linked") else f"{stack}.yaml"
        need(all(line.startswith(f"{file}:") for line in lines), f"{stack}: a message without its line: {lines}")
        refused += len(lines)
    return f"{refused} declarations refused with file and line; a fleet of {LARGE} bytes within {MEMORY >> 20} MiB"


def _limited(log: Log, stack: str, stacks: Path) -> subprocess.CompletedProcess[str]:
    """Run ``rackwright check`` with a limit to its memory."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY}, {MEMORY})); "
    call = "from rackwright.cli import main; main()"
    return log.run([sys.executable, "-c", limit + call, "check", stack], stacks, timeout=120)
