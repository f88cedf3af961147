"""A tool of the probe that prints nothing, half, garbage or another language leaves its facts unknown, not absent.

chronyc, ctr, rpm, nvme, smartctl and systemd-creds are judged in the same way by tests/facts/test_tools.py.
"""

import os
from typing import Any

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log

MACHINE, CONTAINER = "oak", "elm"
RACK = f"""\
fleet: trees
groups:
  trees:
    profile: virtual
    os: debian-12
    network: {{}}
hosts:
  {MACHINE}:
    group: trees
    address: 10.42.0.11
    identity: {{serial: TREE-1}}
    nics: [{{name: fabric0, mac: "52:54:00:00:42:01", addresses: [10.142.0.11/24]}}]
    tiers: {{hot: {{level: raid1, filesystem: ext4, mount: /srv/hot}}}}
    drives:
      - {{serial: TREE-BOOT, boot: true}}
      - {{serial: TREE-NVME0, bus: nvme, size: 512MB, tier: hot}}
      - {{serial: TREE-NVME1, bus: nvme, size: 512MB, tier: hot}}
  {CONTAINER}:
    group: trees
    address: 10.42.0.12
    identity: {{serial: TREE-2}}
    nics: [{{name: fabric0, mac: "52:54:00:00:42:02", addresses: [10.142.0.12/24]}}]
"""
TOOLS = {
    "/usr/bin/systemctl": (CONTAINER, ("unit:",)),
    "/usr/sbin/wipefs": (MACHINE, ("filesystem:",)),
}
"""A tool, the host on which it is replaced, and how the claims begin that depend on what it prints."""
REAL = "/var/tmp/real"
ANSWERS = {
    "nothing": "exit 0",
    "half": f'{REAL} "$@" > /run/whole 2>&1; head -c $(($(stat -c %s /run/whole) / 2)) /run/whole',
    "garbage": "head -c 3000 /dev/urandom",
    "another language": f'{REAL} "$@" | sed "s/loaded units listed/geladene Units gelistet/; s/signatures/Signaturen/;'
    ' s/LoadState/Ladezustand/; s/NeedDaemonReload/Neuladen/"',
    "an error": "echo Failed to connect to bus: Host is down",
}
"""What stands in its place, in sh, by what it prints."""


@line("hardening", "truth", part="tools")
def test_facts_of_a_broken_tool_are_unknown(log: Log) -> str:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    with Lab(log.empty_directory(), RACK, log, "trees", containers=[CONTAINER]) as lab:
        lab.start()
        lab.up()
        need(not lab.audit_differences(), "something differs before a tool is replaced")
        judged = 0
        for tool, (host, begins) in TOOLS.items():
            lab.ssh(host, f"cp -p {tool} {REAL}")
            for name, script in ANSWERS.items():
                log(f"{tool} prints {name}")
                lab.ssh(host, f"printf '%s\\n' '#!/bin/sh' {_quoted(script)} > {tool}.new; chmod 0755 {tool}.new")
                lab.ssh(host, f"mv {tool}.new {tool}")
                judged += _judge(lab.audit(), host, begins, f"{tool} prints {name}")
            lab.ssh(host, f"mv {REAL} {tool}")
            need(not lab.audit_differences(), f"something differs after {tool} is itself again")
        return f"{len(TOOLS)} tools, {len(ANSWERS)} answers each: {judged} claims, all of them unknown"


def _judge(report: dict[str, Any], host: str, begins: tuple[str, ...], when: str) -> int:
    """Return how many claims depend on the tool; each has to be unknown, and nothing may differ."""
    resources = [each for each in report["resources"] if each["name"].startswith(f"{host}/")]
    need(resources and not any(each["not_reached"] for each in resources), f"{when}: {host} is not reached")
    items = [item for each in resources for item in each["differences"]]
    wrong = [item["claim"] for item in items if not item["unknown"]]
    need(not wrong, f"{when}: these pass for known: {wrong}")
    unknown = {item["claim"] for item in items if item["claim"].startswith(begins)}
    need(unknown, f"{when}: no claim is unknown")
    return len(unknown)


def _quoted(script: str) -> str:
    return "'" + script.replace("'", "'\\''") + "'"
