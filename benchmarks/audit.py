"""The cost of an offline audit of many hosts with roles, in processor time: `python -m benchmarks.audit`.

The hosts of `benchmarks.rack` with five roles each. They have none of the roles, so the audit also lists differences.
"""

import json
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import yaml

from benchmarks import rack, start
from rackwright.audit.report import compare
from rackwright.facts.facts import Facts
from rackwright.stack import load_stack

HOSTS = 200
ROLES = {
    "base": {"security_updates": False},
    "access": {"people": [], "bootstrap_user": "rackwright"},
    "rdma": {"unverified": "accepted"},
    "container_runtime": {"engine": "containerd"},
    "node_exporter": {},
}


def main() -> None:
    names = rack.names(HOSTS)
    evidence = {name: Facts(rack.facts(name)) for name in names}
    with tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        rack.keep_salt(Path(directory))
        write(Path(directory), names)
        began = time.process_time()
        stack = load_stack("measured", Path(directory))
        loaded = time.process_time()
        report = compare(stack, evidence)
    seconds = {"load": loaded - began, "compare": time.process_time() - loaded}
    print(f"{HOSTS} hosts with {len(ROLES)} roles each: {len(report.results)} resources")
    print(f"processor seconds: {seconds['load']:.2f} to load the fleet, {seconds['compare']:.2f} to compare it")
    per_host = {f"{part}_ms_per_host": round(1000 * value / HOSTS, 2) for part, value in seconds.items()}
    print(json.dumps({"hosts": HOSTS, "resources": len(report.results), **per_host}))


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
