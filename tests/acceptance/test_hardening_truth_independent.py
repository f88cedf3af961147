"""Truth: one refused tier does not stop what is independent of it."""

import json

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.recorded_hosts import HOST
from tests.support.simulated_stack import OTHER, facts_of, obey, simulated_stack

SIGNATURE = {"type": "ext4", "usage": "filesystem", "uuid": "8d4f", "label": "payroll", "offset": 1080}


@line("hardening", "truth", part="independent")
def test_a_refused_tier_does_not_stop_independent_resources(log: Log) -> str:
    """Of two hosts one has data on a member: its tier is refused, and the other host's tier is made."""
    refused = facts_of(OTHER)
    member = next(drive for drive in refused["drives"] if drive["serial"] == "RW02-NVME0")
    member |= {"signatures": [SIGNATURE], "witnesses": ["9c1e"]}
    with simulated_stack(log, {HOST: facts_of(HOST), OTHER: refused}) as (lab, rack):
        obey(rack[HOST])
        log("up, with one tier that is refused")
        done = lab.up(status=2)
        output = done.stdout + done.stderr
        need("payroll" in output or "ext4" in output, f"the refusal does not say what is lost: {output[-600:]}")
        need(f"refused: {OTHER}/hot" in done.stderr, f"the end does not name the refused tier: {done.stderr[-300:]}")
        need(not rack[OTHER].steps, f"steps were run on {OTHER}: {[step['text'] for step in rack[OTHER].steps]}")
        made = [step["text"] for step in rack[HOST].steps]
        need(made and made[-1] == "note in the owner file: ready", f"{HOST} was not completed: {made}")
        state = json.loads(lab.pulumi("stack", "export", status=0).stdout)["deployment"]["resources"]
        names = {resource["urn"].rpartition("::")[2] for resource in state}
        need(f"{HOST}/hot" in names, f"the state has {sorted(names)}")
        need(f"{OTHER}/hot" not in names, f"the state has what was refused: {sorted(names)}")
        log("a preview says the same")
        lab.rackwright("preview", lab.stack, status=2)
    return f"{OTHER}/hot refused with status 2, no step was run for it; {HOST}/hot made in {len(made)} steps"
