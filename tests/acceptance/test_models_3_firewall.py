"""Line 3, the network of a replica: the table of its unit closes the ports of vLLM in a real kernel.

On a virtual machine: in a container control groups lie deeper than on a host, so that it would show nothing about one.
"""

import json
import re

from rackwright.facts.facts import Facts
from rackwright.facts.probe import nftables
from rackwright.kinds.model_server.files import files
from rackwright.kinds.model_server.spec import ReplicaPlace, ServerSpec
from rackwright.kinds.shared import firewall
from rackwright.kinds.shared.firewall import Firewall
from rackwright.schema.vllm import Vllm
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.model_server_spec import REPOSITORY, SPEC
from tests.support.specs import changed

MEMBER, STRANGER = "oak", "willow"
ADDRESSES = {MEMBER: "10.144.0.11", STRANGER: "10.144.0.12"}
FLEET = f"""\
fleet: grove
hosts:
  {MEMBER}:
    address: 192.0.2.1
    identity: {{serial: RW-FIRE-01}}
    os: debian-12
    drives:
      - {{serial: RW-FIRE-BOOT, boot: true}}
    nics: [{{name: fabric0, mac: "52:54:00:44:00:01", addresses: [{ADDRESSES[MEMBER]}/24]}}]
    network: {{}}
    roles:
      base: {{security_updates: false, packages: [nftables]}}
  {STRANGER}:
    address: 192.0.2.2
    identity: {{serial: RW-FIRE-02}}
    os: debian-12
    profile: virtual
    nics: [{{name: fabric0, mac: "52:54:00:44:00:02", addresses: [{ADDRESSES[STRANGER]}/24]}}]
    network: {{}}
"""
CLOSED, OTHER_UNIT = (29500, 41234), 9000
"""Ports that vLLM may open, and the port of another service of the host."""
LISTEN = """
import socket, sys, time
how = {"family": socket.AF_INET6, "dualstack_ipv6": True}
sockets = [socket.create_server(("::", int(port)), **how) for port in sys.argv[1:]]
time.sleep(3600)
"""


def _spec(*members: str) -> ServerSpec:
    place = ReplicaPlace(addresses=members, rank=0, interface="fabric0")
    vllm = Vllm(replica_hosts=2, tensor_parallel=2)
    return changed(SPEC, vllm=vllm, set={}, tensor_parallel=2, layout={}, replica=place)


@line("models", 3, part="firewall")
def test_the_ports_of_a_replica_are_open_to_its_members_alone(log: Log) -> str:
    """With the rendered unit and table, and a program in the place of vLLM that listens on all addresses."""
    own = SPEC.declared.port
    with Lab(log.empty_directory() / "project", FLEET, log, "grove", containers=(STRANGER,), mirrors=True) as lab:
        lab.start()
        lab.up()
        lab.ssh(MEMBER, f"cat > /usr/local/lib/listen.py <<'END'\n{LISTEN}\nEND")
        lab.ssh(MEMBER, f"systemd-run --quiet --unit=other /usr/bin/python3 /usr/local/lib/listen.py {OTHER_UNIT}")
        log("as a stranger to the replica")
        _serve(lab, alone := _spec(ADDRESSES[MEMBER], "10.144.0.99"))
        _need_claimed_rules(lab, alone)
        _need_reached(lab, "a stranger", STRANGER, {own, OTHER_UNIT})
        _need_reached(lab, "another account of the host", MEMBER, {own, OTHER_UNIT})
        lab.ssh(MEMBER, f"systemctl restart {SPEC.unit}\nsleep 2")
        _need_reached(lab, "a stranger after a restart", STRANGER, {own, OTHER_UNIT})
        log("as a member of the replica")
        _serve(lab, _spec(ADDRESSES[MEMBER], ADDRESSES[STRANGER]))
        _need_reached(lab, "a member", STRANGER, {own, OTHER_UNIT, *CLOSED})
        lab.ssh(MEMBER, f"systemctl stop {SPEC.unit}")
        need(lab.ssh(MEMBER, "nft list tables").strip() == "", "the table outlives its unit")
    return f"of ports {own}, {OTHER_UNIT} and {CLOSED} strangers and other accounts reach the first two, a member all"


def _serve(lab: Lab, spec: ServerSpec) -> None:
    """Start the unit of *spec* with a program that listens on all addresses in the place of the server."""
    contents = {file.path: str(file.content) for file in files(spec, REPOSITORY)}
    [unit] = [path for path in contents if path.endswith(f"/{spec.unit}")]
    ports = " ".join(map(str, (spec.declared.port, *CLOSED)))
    text = re.sub(r"(?m)^ExecStart=.*$", f"ExecStart=/usr/bin/python3 /usr/local/lib/listen.py {ports}", contents[unit])
    text = re.sub(r"(?m)^User=.*$", "User=nobody", re.sub(r"(?m)^WorkingDirectory=.*$", "WorkingDirectory=/", text))
    for path, content in ((unit, text), *((path, contents[path]) for path in (_table(spec).path, spec.lease_key))):
        lab.ssh(MEMBER, f"mkdir -p $(dirname {path})\ncat > {path} <<'END'\n{content}\nEND")
    lab.ssh(MEMBER, f"systemctl daemon-reload\nsystemctl restart {spec.unit}\nsleep 2\nnft list ruleset")


def _need_claimed_rules(lab: Lab, spec: ServerSpec) -> None:
    """Check that the kernel of the member has the rules that *spec* claims, as nft lists them."""
    table = _table(spec)
    listed = json.loads(lab.ssh(MEMBER, f"nft -j list table inet {table.table}"))["nftables"]
    found = Facts({"nftables": {table.table: nftables.stable(listed[2:])}}).nftables_table(table.table)
    need(found == firewall.rules(table), f"the kernel has {found}, and the claim {firewall.rules(table)}")


def _table(spec: ServerSpec) -> Firewall:
    table = spec.firewall
    assert table is not None
    return table


def _need_reached(lab: Lab, who: str, host: str, ports: set[int]) -> None:
    """Check that *ports* of the member, and no other ones, answer a connection from *host*."""
    to = "127.0.0.1" if host == MEMBER else ADDRESSES[MEMBER]
    asked = " ".join(map(str, (SPEC.declared.port, OTHER_UNIT, *CLOSED)))
    probe = f'for p in {asked}; do timeout 4 bash -c "</dev/tcp/{to}/$p" 2>/dev/null && echo $p; done; true'
    reached = {int(port) for port in lab.ssh(host, probe).split()}
    need(reached == ports, f"{who} reaches {sorted(reached)} instead of {sorted(ports)}")
