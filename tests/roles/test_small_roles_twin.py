"""Roles with the system's own software, on a booted host of a twin: packages, limits, keys and units are real."""

import json
import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from rackwright.schema.secret import derive_value
from tests.support.access_rack import fleet
from tests.support.lab import Lab
from tests.support.log import ROOT, Log

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
]
HOST = "alpha"
RDMA = {
    "package:perftest": "apt-get -q -y purge perftest",
    "file:/etc/security/limits.d/60-rackwright-rdma.conf": "sed -i s/unlimited/64/ /etc/security/limits.d/60-*",
    "file:/etc/systemd/system.conf.d/60-rackwright-rdma.conf": "rm /etc/systemd/system.conf.d/60-rackwright-rdma.conf",
    "file:/etc/default/grub.d/61-rackwright-rdma.cfg": ": > /etc/default/grub.d/61-rackwright-rdma.cfg",
}
"""By claim of the role what breaks it."""
EXPORTER = {
    "file:/etc/systemd/system/rackwright-node-exporter.service": "sed -i s/127.0.0.1/0.0.0.0/ "
    "/etc/systemd/system/rackwright-node-exporter.service",
    "file:/etc/systemd/system/prometheus-node-exporter.service": "systemctl unmask prometheus-node-exporter",
    "unit:prometheus-node-exporter.service": "true",
    "unit:rackwright-node-exporter.service": "systemctl stop rackwright-node-exporter",
    "socket:tcp:9100": "true",
    "directory:/var/lib/prometheus/node-exporter": "echo 'node_load1 0' > /var/lib/prometheus/node-exporter/x.prom; "
    "chmod 1777 /var/lib/prometheus/node-exporter",
}
KEYS = "/etc/chrony/chrony.keys"
BASE = {f"file:{KEYS}": f"sed -i 's/^1 .*/1 SHA256 somebody-elses-key/' {KEYS}"}
ROLES = {"base": BASE, "rdma": RDMA, "node_exporter": EXPORTER}
BROKEN = {f"{HOST}/{role}": things for role, things in ROLES.items()}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("roles")
    keys = [{"id": 1, "type": "SHA256", "key": {"secret": "ntp_key"}, "servers": ["time-1.example"]}]
    base = {"ntp_servers": ["time-1.example"], "ntp_keys": keys, "security_updates": False}
    roles = {"base": base, "rdma": {"unverified": "accepted"}, "node_exporter": {}}
    with Lab(directory / "project", fleet([HOST], roles), Log("small-roles"), containers=[HOST], mirrors=True) as lab:
        lab.start()
        lab.create()
        yield lab


def test_verbs_are_there_and_systemd_knows_the_limit(lab: Lab) -> None:
    """
    Debian's own packages run, and nothing is left to do.
    """
    assert "devinfo" in lab.ssh(HOST, "dpkg -L ibverbs-utils | grep -m1 devinfo")
    assert lab.ssh(HOST, "ib_write_bw --version", status=None).startswith("Version: ")
    assert lab.ssh(HOST, "systemctl show -p DefaultLimitMEMLOCK") == "DefaultLimitMEMLOCK=infinity"
    assert lab.audit_differences(status=0) == set()


def test_metrics_are_served_on_the_declared_address_alone(lab: Lab) -> None:
    assert lab.ssh(HOST, "ss -Hltn sport = :9100 | awk '{print $4}'") == "127.0.0.1:9100"
    asked = "exec 3<>/dev/tcp/127.0.0.1/9100 && printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
    metrics = lab.ssh(HOST, f'bash -c "{asked}"')
    assert re.search(r"^node_memory_MemTotal_bytes [\d.e+]+$", metrics, re.MULTILINE)


def test_the_twin_makes_up_a_key_that_chrony_takes(lab: Lab) -> None:
    """
    With nothing typed: the value is derived, and the file is as chrony reads it.
    """
    assert lab.ssh(HOST, f"tail -n 1 {KEYS}") == f"1 SHA256 {derive_value('ntp_key')}"
    assert lab.ssh(HOST, f"stat -c '%U:%G %a' {KEYS}") == "root:_chrony 640"
    assert f"keyfile {KEYS}" in lab.ssh(HOST, "chronyd -p")


def test_what_is_broken_by_hand_is_found_under_its_path_and_mended(lab: Lab) -> None:
    """
    Nobody shows the key that was changed by hand, nor the one that takes its place.
    """
    for things in BROKEN.values():
        for command in things.values():
            lab.ssh(HOST, command)

    assert lab.audit_differences() == {(role, thing) for role, things in BROKEN.items() for thing in things}
    shown = lab.pulumi("preview", "--diff", status=0)
    made = lab.up()
    for output in (shown.stdout + shown.stderr, made.stdout + made.stderr):
        assert derive_value("ntp_key") not in output
        assert "somebody-elses-key" not in output
        assert f"file:{KEYS}.content is not the secret that is declared" in output
    assert lab.audit_differences(status=0) == set()
    assert lab.ssh(HOST, "systemctl show -p DefaultLimitMEMLOCK") == "DefaultLimitMEMLOCK=infinity"


def test_packages_come_in_exact_versions_and_what_cannot_be_had_changes_nothing(lab: Lab) -> None:
    """
    The tasks that roles of vendors share make room once all is here, and none where something cannot be had.
    """
    version = lab.ssh(HOST, "apt-cache show sl | sed -n 's/^Version: //p' | head -n 1")
    inventory = lab.directory / "inventory.yml"
    inventory.write_text(lab.rackwright("inventory", lab.stack, status=0).stdout)

    def play(version: str) -> str:
        """Return how it ended: ok, changed, failed."""
        room = ["sh", "-c", "dpkg-query -W sl 2>/dev/null; echo room >> /run/room"]
        task = {"ansible.builtin.include_role": {"name": "pinned_packages"}}
        task["vars"] = {"pinned_packages_set": [["sl", version]], "pinned_packages_before": room}
        book = lab.directory / "pinned.json"
        book.write_text(json.dumps([{"hosts": HOST, "gather_facts": False, "tasks": [task]}]))
        argv = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(inventory), str(book)]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        done = subprocess.run(
            argv, capture_output=True, text=True, cwd=lab.directory, env=environment, stdin=subprocess.DEVNULL
        )
        counted = re.findall(r"changed=(\d+) .*failed=(\d+)", done.stdout)
        assert counted, done.stdout + done.stderr
        return "failed" if counted[0][1] != "0" else "changed" if counted[0][0] != "0" else "ok"

    assert play("99-nowhere") == "failed"
    assert lab.ssh(HOST, "ls /run/room; dpkg-query -W sl", status=None) == ""
    assert play(version) == "changed"
    assert lab.ssh(HOST, "cat /run/room; apt-mark showhold; dpkg-query -W sl") == f"room\nsl\nsl\t{version}"
    assert play(version) == "ok"
