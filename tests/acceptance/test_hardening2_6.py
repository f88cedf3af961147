"""Second hardening, line 6: ports that torch opens in the units of servers and runs are closed to others."""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from rackwright.kinds.shared import firewall
from rackwright.kinds.shared.firewall import Firewall
from tests.support import workloads
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.model_server_spec import REPOSITORY
from tests.support.net_namespaces import Namespace
from tests.support.packet_filters import HOST4, HOST6, OTHER4, OTHER6, firewalls, load
from tests.support.unit_network import unit_network

GROUP = """
import sys, time
import torch.distributed as dist
from torch.distributed import TCPStore
address, port, own = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dist.init_process_group("gloo", init_method=f"tcp://{address}:{port}", rank=0, world_size=1)
if own:
    import socket
    client = socket.create_server(("::", own), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
time.sleep(600)
"""
"""A process group of torch at an address, as vLLM and a run of one process make it; and the port for clients."""
PORT = 57419
LISTENING = re.compile(r"^LISTEN +\d+ +\d+ +(\S+):(\d+) ", re.MULTILINE)


@line("hardening2", 6)
def test_ports_of_torch_are_closed_to_neighbours_by_both_families(log: Log) -> str:
    """torch's own process group in the control group of each sort of unit; each of its ports is tried by neighbours."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    python, directory = workloads.python(log), log.empty_directory()
    tried = before = 0
    for number, (name, table) in enumerate(firewalls().items()):
        log(name)
        place = directory / str(number)
        place.mkdir()
        found = {}
        with unit_network(place, table, loads=False) as (hosts, _, group), _process_group(hosts, group, table, python):
            ports = _ports(hosts["host"])
            need(PORT in ports, f"{name}: torch's store does not listen: {ports}")
            everywhere = [(address, port) for address in _addresses(hosts["host"]) for port in sorted(ports)]
            for loaded in (False, True):
                if loaded:
                    load(hosts["host"], firewall.text(table, REPOSITORY))
                found[loaded] = {each: hosts[each].connects(everywhere) for each in ("stranger", "other", "host")}
            tried += 3 * len(everywhere)
            inside = hosts["host"].connects(everywhere, group=group)
            need(inside == found[False]["host"], f"{name}: the unit itself reaches {inside} alone")
        own = {target for target in found[False]["stranger"] if target[1] == table.port}
        stores = found[False]["stranger"] - own
        need(stores != set(), f"{name}: without the table a stranger reaches nothing, so that nothing is shown")
        need(found[False]["host"] > own, f"{name}: without the table another account reaches nothing")
        need(found[True]["stranger"] == own, f"{name}: a stranger reaches {found[True]['stranger'] - own}")
        need(found[True]["host"] == own, f"{name}: another account reaches {found[True]['host'] - own}")
        members = {target for target in found[False]["other"] if _is_member(table, target[0])}
        need(found[True]["other"] == members | own, f"{name}: the other host reaches {found[True]['other']}")
        before += len(stores) + len(found[False]["host"] - own)
    return (
        f"{tried} connections from neighbours and other accounts to {len(firewalls())} sorts of units: none reaches a "
        f"port of torch from outside of the unit's hosts, or of the unit on its own; without the tables {before} do"
    )


@contextmanager
def _process_group(hosts: dict[str, Namespace], group: Path, table: Firewall, python: str) -> Iterator[None]:
    address = HOST4 if HOST4 in table.addresses else HOST6 if table.addresses else "127.0.0.1"
    inside = hosts["host"].inside(python, "-c", GROUP, address.join("[]") if ":" in address else address, str(PORT))
    argv = ["sh", "-euc", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *inside, str(table.port or 0)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            need(process.stdout is not None and process.stdout.readline() == "ready\n", "torch has no process group")
            yield
        finally:
            process.kill()


def _ports(host: Namespace) -> set[int]:
    """Return the ports on which a program of the host listens; the unit's is the only one."""
    return {int(port) for _, port in LISTENING.findall(host.run("ss", "-ltn"))}


def _addresses(host: Namespace) -> Sequence[str]:
    return HOST4, HOST6, host.link_local("fabric0").partition("%")[0] + "%fabric0"


def _is_member(table: Firewall, address: str) -> bool:
    return {HOST4: OTHER4, HOST6: OTHER6}.get(address) in table.addresses
