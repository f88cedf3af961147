"""The cost of an offline audit of many hosts with roles: `python -m benchmarks.audit`.

The hosts of `benchmarks.rack` with five roles each: 310 properties of a host. They have none of the roles, so half of
the properties differ; the report prints those of the hosts alone. The command runs in a process of its own, on
snapshots with 3,000 packages and 2,000 files each, which it reads, compares and forgets one after the other.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import yaml

from benchmarks import children_seconds, rack, start
from rackwright.facts import snapshot
from rackwright.facts.facts import Facts

HOSTS = 1000
SECONDS_MAX, MEMORY_MB_MAX = 2, 300
"""Goals for 1,000 hosts with 300 properties each, on two idle cores."""
ROLES = {
    "base": {"security_updates": False},
    "access": {"people": [], "bootstrap_user": "rackwright"},
    "rdma": {"unverified": "accepted"},
    "container_runtime": {"engine": "containerd"},
    "node_exporter": {},
}
PROGRAM = Path(sys.executable).with_name("rackwright")


def main() -> None:
    names = rack.names(HOSTS)
    with tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        project = Path(directory)
        rack.keep_salt(project)
        write(project, names)
        for name in names:
            snapshot.save(project / "facts", name, Facts(rack.facts(name)))
        megabytes = sum(path.stat().st_size for path in project.glob("facts/*/*")) / 1e6
        before = children_seconds()
        argv = [str(PROGRAM), "audit", "measured", "--snapshot", "facts", "--only", "host"]
        done = subprocess.run(argv, cwd=project, env=_environment(), capture_output=True, text=True)
        if done.returncode not in (0, 1, 3):
            sys.exit(done.stderr)
        seconds = children_seconds() - before
        memory_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    totals = done.stdout.splitlines()[-1]
    resources = int(totals.split()[1])
    print(f"{HOSTS} hosts with {len(ROLES)} roles each, {megabytes:.0f} MB of facts; {totals}")
    for figure, unit, goal in ((seconds, "processor seconds", SECONDS_MAX), (memory_mb, "MB of memory", MEMORY_MB_MAX)):
        print(f"{'ok' if figure <= goal else 'short':<6} {figure:.1f} {unit}; the goal for 1,000 hosts is {goal}")
    per_host = round(1000 * seconds / HOSTS, 2)
    print(json.dumps({"hosts": HOSTS, "resources": resources, "ms_per_host": per_host, "memory_mb": round(memory_mb)}))


def _environment() -> dict[str, str]:
    """Return the environment without the salt of another project."""
    return {name: value for name, value in os.environ.items() if name != "RACKWRIGHT_SALT_FILE"}


def write(project: Path, names: list[str]) -> None:
    """Write the project of a stack `measured` with *names*."""
    (project / "stacks").mkdir()
    (project / "Pulumi.yaml").write_text("name: rackwright\nruntime: python\n")
    settings = {"config": {"rackwright:fleet": "fleet.yaml", "rackwright:target": "rack"}}
    (project / "stacks/Pulumi.measured.yaml").write_text(json.dumps(settings))
    login = SimpleNamespace(user="operator", key="key")
    hosts = [SimpleNamespace(name=name, address=f"{name}.example.org", port=22) for name in names]
    fleet = yaml.load(rack.fleet(login, hosts), yaml.CSafeLoader)
    fleet["groups"]["storage"]["roles"] = ROLES
    (project / "stacks/fleet.yaml").write_text(json.dumps(fleet))


if __name__ == "__main__":
    start(main, (globals(), {"HOSTS": 2}))
