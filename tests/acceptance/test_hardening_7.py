"""The account of a training run puts FIFOs, links and much else where root's probe reads; the host stays audited."""

import time

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.training_lab import IDLE, OUT, RUN, program_lab

HOST = "oak"
HOME = f"/var/lib/rackwright/runs/{RUN}"
RACK = f"""\
fleet: trees
hosts:
  {HOST}:
    profile: virtual
    os: debian-12
    address: 10.42.0.11
    identity: {{serial: TREE-1}}
    tiers: {{warm: {{provided: true, mount: /srv/warm}}}}
"""
ATTACKS = {
    "a FIFO": "mkfifo state.json",
    "a link to /dev/zero": "ln -s /dev/zero state.json",
    "a link to a file of root's": "ln -s /etc/shadow state.json",
    "a file of 1 TiB without content": "truncate -s 1T state.json",
    "a FIFO among the figures": f"mkfifo {OUT}/metrics-9.jsonl",
    "links in place of the checkpoints": f"rm -rf {OUT}/checkpoints; ln -s /etc {OUT}/checkpoints",
    "20,000 files": f"seq -f '{OUT}/metrics%.0f.jsonl' 20000 | xargs touch",
}
"""What the account does in its home, by what it is."""
SECONDS = 170
"""Below the 180 s after which a host counts as not reached."""


@line("hardening", 7)
def test_a_run_cannot_stop_the_probe(log: Log) -> str:
    with program_lab(log, RACK, HOST, IDLE) as lab:
        lab.up()
        need(not lab.audit_differences(), "the run differs before it is attacked")
        slowest = 0.0
        for name, attack in ATTACKS.items():
            log(name)
            clean = f"rm -rf {HOME}/state.json {OUT}/metrics*"
            lab.ssh(HOST, f"runuser -u run-{RUN} -- sh -c 'cd {HOME}; {clean}; {attack}'")
            began = time.monotonic()
            report = lab.audit()
            slowest = max(slowest, time.monotonic() - began)
            [resource] = report["resources"]
            need(resource["not_reached"] is None, f"{name}: the host is not reached: {resource['not_reached']}")
            wrong = [item for item in resource["differences"] if not item["claim"].startswith("run:")]
            need(not wrong, f"{name}: it takes other claims along: {wrong}")
            lab.stack = lab.hosts_stack
            need(not lab.audit_differences(), f"{name}: the host itself differs")
            lab.stack = "training"
        need(slowest < SECONDS, f"an audit took {slowest:.0f} s")
        log("the run is removed while its state is a FIFO")
        lab.ssh(HOST, f"runuser -u run-{RUN} -- sh -c 'rm -f {HOME}/state.json; mkfifo {HOME}/state.json'")
        lab.pulumi("destroy", "--yes", status=0)
        left = lab.ssh(HOST, f"ls -d {HOME} /etc/rackwright/runs/{RUN} 2>/dev/null || true")
        need(not left, f"its removal left {left}")
        return f"{len(ATTACKS)} attacks of a run's account; every audit went on, and the run was removed"
