"""The old way beside ours: OpenSSH's client, started once for each host, to fetch the same answer."""

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks import children_seconds
from tests.support.simulated import SimulatedHost, SimulatedRack

AT_ONCE = 64


def seconds(rack: SimulatedRack, hosts: Sequence[SimulatedHost]) -> tuple[float, float]:
    """Return the processor seconds of all clients, and those of all servers."""
    before, servers_before = children_seconds(), rack.cpu_seconds()
    options = [f"UserKnownHostsFile={rack.known_hosts}", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"]
    client = ["ssh", "-F", "none", "-i", str(rack.key), *(part for option in options for part in ("-o", option))]

    def fetch(host: SimulatedHost) -> None:
        argv = [*client, "-p", str(host.port), f"{rack.user}@{host.address}", "python3"]
        subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(fetch, hosts))
    return children_seconds() - before, rack.cpu_seconds() - servers_before
