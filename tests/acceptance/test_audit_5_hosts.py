"""Line 5, logs of hosts: auditd's log and its chain on a virtual machine, under tampering by root of the machine."""

import json
import os
from pathlib import Path

import pytest

from rackwright.facts.probe.log_segments import CHAIN, FOLDER
from tests.support.acceptance import line
from tests.support.access_rack import access, fleet
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log

HOST = "alpha"
LOG = f"{FOLDER}/audit.log"
RECORD = "systemctl start rackwright-log-chain.service"
KEPT = f"cp -a {FOLDER} {CHAIN} /root/kept"
PUT_BACK = f"cat /root/kept/audit/audit.log > {LOG}; cat /root/kept/audit-chain > {CHAIN}"
"""The files keep their inodes, so that auditd goes on with them."""
EDITED = f"""python3 - <<'END'
from pathlib import Path
path = Path("{LOG}")
content = path.read_bytes()
with path.open("r+b") as file:
    file.write(CHANGE)
    file.truncate()
END
"""
LINES = "content.splitlines(keepends=True)"
WAYS = {
    "edited": EDITED.replace("CHANGE", 'content.replace(b"id=", b"Id=", 1)'),
    "deleted": EDITED.replace("CHANGE", f'b"".join({LINES}[:3] + {LINES}[4:])'),
    "swapped": EDITED.replace("CHANGE", f'b"".join({LINES}[1::-1] + {LINES}[2:])'),
    "truncated": EDITED.replace("CHANGE", f'b"".join({LINES}[:-2])'),
}
"""Commands of root that change the log, by the sort that the audit reports."""
WRITTEN_AGAIN = f"{WAYS['edited']}rm {CHAIN}; {RECORD}"


@line("audit", 5, part="hosts")
def test_tampering_with_the_audit_log_of_a_host_is_named(log: Log) -> str:
    if os.geteuid() != 0:
        pytest.skip("virtual machines need root")
    keys = log.empty_directory() / "keys"
    roles = {"base": {"security_updates": False}, "access": {**access(keys), "totp": False}}
    text = fleet([HOST], roles, machines=[HOST])
    with Lab(log.directory / "project", text, log, mirrors=True) as lab:
        lab.start()
        log("up")
        lab.up()
        need(not _found(lab), f"the converged host has {_found(lab)}")
        _require_events(lab, keys)
        # auditd ends with lines of its own, which the chain has to have before they can be missed
        lab.ssh(HOST, f"systemctl stop auditd; {RECORD}; mkdir -p /root/kept; {KEPT}")
        need(not _found(lab), f"after an entry: {_found(lab)}")
        for sort, command in WAYS.items():
            log(sort)
            lab.ssh(HOST, command)
            found = _found(lab)
            need([text.partition(":")[0] for text in found] == [f"RW-140 {sort}"], f"{sort} is reported as {found}")
            lab.ssh(HOST, PUT_BACK)
        log("the chain written again")
        lab.ssh(HOST, WRITTEN_AGAIN)
        found = _found(lab)
        need(len(found) == 1 and found[0].startswith("RW-141 another chain"), f"a new chain is reported as {found}")
    return f"{len(WAYS)} changes of the log and a chain that was written again, each named; sudo is in the log"


def _require_events(lab: Lab, keys: Path) -> None:
    """The log has the commands that a person ran as root, under the person's account."""
    lab.ssh(HOST, "true")  # by sudo, from the bootstrap login
    events = lab.ssh(HOST, "ausearch --input-logs --interpret --message USER_CMD || true")
    need("cmd=" in events and "rackwright" in events, f"sudo is not in the log: {events[-300:]}")
    need("rackwright-exec" in lab.ssh(HOST, "auditctl -l"), "the rules are not loaded")
    need(lab.ssh(HOST, f"stat -c %a {CHAIN}") == "600", "others may read the chain")


def _found(lab: Lab) -> list[str]:
    report = json.loads(lab.rackwright("audit", lab.stack, "--json").stdout)
    rows = [item for item in report["undeclared"] if item["rule"] in ("RW-140", "RW-141")]
    unknown = [item["found"] for item in rows if item["unknown"]]
    need(not unknown, f"unknown: {unknown}")
    return [f"{item['rule']} {item['found']}" for item in rows]
