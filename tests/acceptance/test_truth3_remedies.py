"""Each remedy of a rule is applied on a host that shows its finding, and ends it; so is each command in it."""

import json
import re
from pathlib import Path

import pytest

from rackwright.audit.undeclared.table import RULES
from rackwright.core.contract import Command, Difference, Plan
from rackwright.kinds.shared.unit_overrides import unmask
from tests.support import systemd_machine
from tests.support.acceptance import line
from tests.support.audit_seeds import FOLLOWS, UNDECLARED
from tests.support.expect import need
from tests.support.log import Log
from tests.support.systemd_machine import ROOT, SystemdMachine

AUDIT = """
import json, sys
from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.search import search
from rackwright.core.contract import Command, Difference, Plan
from rackwright.kinds.shared.unit_overrides import unmask
from rackwright.facts.facts import Facts
from rackwright.facts.probe import main
from rackwright.schema.host import Host, Identity
from rackwright.schema.network import Network
from rackwright.schema.port import Nic
port = Nic.model_validate({"name": "fabric0", "mac": "52:54:00:00:26:01", "addresses": ["10.32.0.11/24"]})
host = Host(
    address="192.0.2.1", identity=Identity(serial="S"), os="debian-12", network=Network(), nics=(port,)
)
declared = HostDeclaration("beta", "audited", host, {"link:fabric0": {"up": True}}, hosts=frozenset(("alpha", "beta")))
facts = Facts({**main.collect("", b"x" * 32), "clock_offset_seconds": 0.0})
found = [[rule.id, each.thing, unknown] for rule, each, unknown in search(facts, declared)]
print(json.dumps(found))
"""
REMOVE = "rm {path}"
REINSTALL = "apt-get install --reinstall --yes -o Dpkg::Options::=--force-confask "
REINSTALL += "-o Dpkg::Options::=--force-confnew /root/thing.deb"
UNIT = "systemctl disable --now {name}; rm {path}; systemctl daemon-reload"
APPLIED = {
    "RW-001": "dpkg --purge {name}",
    "RW-002": "rm /etc/apt/sources.list.d/x.list",
    "RW-003": REMOVE,
    "RW-004": REMOVE,
    "RW-005": "apt-mark unhold {name}",
    "RW-015": ": > /etc/exports; exportfs -ra || true",
    "RW-020": "userdel {name}",
    "RW-021": "sed -i '/^{name}:/d' /etc/passwd /etc/shadow",
    "RW-022": "gpasswd -d eve adm",
    "RW-023": "rm {path}; visudo -c",
    "RW-024": "rm /home/eve/.ssh/authorized_keys",
    "RW-025": "sed -i /TrustedUserCAKeys/d /etc/ssh/sshd_config.d/x.conf",
    "RW-026": "apt-get install --reinstall --yes -o Dpkg::Options::=--force-confnew util-linux || sed -i '$d' {path}",
    "RW-027": REMOVE,
    "RW-028": "passwd -l {name}",
    "RW-029": "sed -i /AuthorizedPrincipals/d /etc/ssh/sshd_config.d/x.conf",
    "RW-031": UNIT,
    "RW-032": "rm {path}; systemctl daemon-reload",
    "RW-033": "rm -f ~eve/.config/systemd/user/x.timer; loginctl disable-linger eve || rm /var/lib/systemd/linger/eve",
    "RW-034": "rm -f {path} /var/spool/cron/crontabs/root",
    "RW-035": "atrm 1 2>/dev/null || rm /var/spool/cron/atjobs/{name}",
    "RW-036": REMOVE,
    "RW-039": REMOVE,
    "RW-042": REMOVE,
    "RW-043": REMOVE,
    "RW-053": REMOVE,
    "RW-060": "chmod u-s,g-s {path}",
    "RW-061": REMOVE,
    "RW-063": REMOVE,
    "RW-064": "rm {path}; ldconfig",
    "RW-065": "rm {path}; update-ca-certificates --fresh",
    "RW-072": REMOVE,
    "RW-074": REMOVE,
    "RW-080": REMOVE,
    "RW-082": "setcap -r {path}; setfacl --remove-all {path}; chattr -ia {path}; chown root: {path}; chmod 755 {path}",
    "RW-096": "chage --expiredate -1 {name}; usermod --home /usr/{name} --shell /usr/sbin/nologin {name}",
    "RW-099": "update-alternatives --auto {path}",
    "RW-122": REMOVE,
    "RW-154": "rm -r {path}; systemd-sysext refresh || true",
    "RW-127": REMOVE,
    "RW-030": "systemctl stop backdoor.service beacon.service",
    "RW-037": "systemctl stop {name}",
    "RW-050": REMOVE,
    "RW-052": "ip route del {path}",
    "RW-054": "nft list table {path}; nft delete table {path}",
    "RW-081": "dpkg --search {path}; " + REINSTALL,
    "RW-083": REINSTALL,
    "RW-094": "EDITOR='sed -i /^{name}:/d' vipw; EDITOR=true vigr; pwck -r; grpck -r",
    "RW-095": "gpasswd --remove-password {name}; gpasswd --administrators '' {name}",
    "RW-114": "sed -i 's#^/dev/sdq1#UUID=11111111-2222-3333-4444-555555555555#' /etc/fstab",
    "RW-149": "systemctl unset-environment {path}",
    "RW-152": "dpkg --search {path}; " + REINSTALL,
    "RW-153": "sed -i '\\# {path} #d' /etc/fstab; systemctl daemon-reload",
    "RW-156": "mdadm --detail --scan; sed -i '\\#{path} #d' /etc/mdadm/mdadm.conf; update-initramfs -u",
}
"""By rule the remedy as a person types it; ``{path}`` and ``{name}`` are those of the finding."""
ELSEWHERE = {
    "RW-038": "its remedy is to wait, or `rackwright up`: tests/kinds/test_guard.py",
    **dict.fromkeys(
        ("RW-142", "RW-143", "RW-144", "RW-145", "RW-146", "RW-147"), "tests/facts/test_packet_paths.py, in a namespace"
    ),
    "RW-148": "tests/facts/test_service_processes.py, on a real systemd",
    "RW-158": "its remedy is another environment: tests/facts/test_other_environments.py",
    "RW-170": "its remedy is to correct the cause in the unit's log, then to start it",
    "RW-150": "tests/facts/test_storage_behaviour.py, on loop devices",
    "RW-062": "its remedy is `rackwright up` with the declaration of the resource: the removal of each kind",
}
"""Rules whose remedies another check applies."""
NOT_HERE = {
    **dict.fromkeys(("RW-010", "RW-011", "RW-012", "RW-013", "RW-014", "RW-115", "RW-151"), "drives"),
    **dict.fromkeys(
        ("RW-006", *(f"RW-{number}" for number in (101, 103, 104, 106, 107, 108, 109, 110, 111, 113))), "a GPU"
    ),
    **dict.fromkeys(("RW-040", "RW-102", "RW-105", "RW-126"), "modules of the kernel"),
    **dict.fromkeys(("RW-041", "RW-155"), "a boot loader"),
    **dict.fromkeys(("RW-070", "RW-071"), "a container engine"),
    **dict.fromkeys(("RW-097", "RW-098"), "an archive of packages"),
    **dict.fromkeys(("RW-140", "RW-141"), "auditd"),
    **dict.fromkeys(("RW-125", "RW-130"), "a clock of its own"),
    "RW-051": "a physical link",
    "RW-121": "PCI bridges",
    "RW-124": "settings of the kernel",
    "RW-129": "role access",
    "RW-157": "ifupdown",
}
"""Rules whose findings need what a container on this computer does not have."""
MAKE_THING = """t=/root/t; mkdir -p $t/DEBIAN $t/usr/bin $t/etc
printf 'Package: thing\\nVersion: 1\\nArchitecture: all\\nMaintainer: x\\nDescription: x\\n' > $t/DEBIAN/control
echo /etc/thing.conf > $t/DEBIAN/conffiles; echo a > $t/etc/thing.conf
for each in thing other-thing; do echo '#!/bin/sh' > $t/usr/bin/$each; chmod 755 $t/usr/bin/$each; done
(cd $t; md5sum usr/bin/* > DEBIAN/md5sums); dpkg-deb -b $t /root/thing.deb; dpkg -i /root/thing.deb"""
"""Script that makes a package with two programs and a file of configuration, and installs it."""
MORE_SEEDS = {
    "RW-039 file:/etc/sudoers.d/y.bak": "echo 'eve ALL=(ALL) ALL' > /etc/sudoers.d/y.bak",
    "RW-096 user:games": "usermod --home /tmp games",
    "RW-099 alternative:pager": "update-alternatives --set pager /bin/more",
    "RW-154 file:/var/lib/extensions/x.raw": "mkdir -p /var/lib/extensions; touch /var/lib/extensions/x.raw",
    "RW-074 file:/usr/local/bin/ls": "cp /usr/bin/ls /usr/local/bin/ls",
    "RW-080 file:/etc/security/limits.d/x.conf": "echo '* - nofile 1' > /etc/security/limits.d/x.conf",
    "RW-082 file:/usr/bin/env": "chmod 777 /usr/bin/env",
    "RW-050 file:/etc/systemd/network/99-x.network": "mkdir -p /etc/systemd/network; "
    "echo '[Match]' > /etc/systemd/network/99-x.network",
    "RW-052 route:203.0.113.0/24": "ip link add fabric0 address 52:54:00:00:26:01 type veth peer name far0; "
    "ip link set far0 up; ip link set fabric0 up; ip address add 10.32.0.11/24 dev fabric0; "
    "ip route add 203.0.113.0/24 via 10.32.0.8 dev fabric0",
    "RW-054 packet_filter:inet x": "nft add table inet x",
    "RW-083 file:/etc/thing.conf": f"{MAKE_THING}; echo b >> /etc/thing.conf",
    "RW-081 file:/usr/bin/thing": "echo id >> /usr/bin/thing",
    "RW-152 file:/usr/bin/other-thing": "rm /usr/bin/other-thing",
    "RW-094 user:twice": "for each in 1 2; do echo 'twice:x:7001:7001::/home/twice:/bin/sh' >> /etc/passwd; done",
    "RW-095 group:adm": "gpasswd -A daemon adm",
    "RW-095 group:audio": "groupmod -p '$6$a$b' audio",
    "RW-114 device:/etc/fstab:/dev/sdq1": "echo '/dev/sdq1 /mnt/y ext4 noauto 0 0' >> /etc/fstab",
    "RW-153 mount_line:/mnt/y": FOLLOWS,
    "RW-156 array_line:/dev/md9": "mkdir -p /etc/mdadm; "
    "echo 'ARRAY /dev/md9 UUID=3aaa0122:29827cfa:5331ad66:ca767371' >> /etc/mdadm/mdadm.conf",
    "RW-149 environment:EVIL": "systemctl set-environment EVIL=1",
}
"""Other seeds, by rule and thing."""
UNSHOWN = {
    **dict.fromkeys(("RW-001", "RW-024", "RW-025", "RW-029", "RW-063"), "this computer gives no facts about it"),
    "RW-127": "it has such a file already",
}
"""Rules whose findings this computer already has, or cannot show, with the reason."""


def audit(machine: SystemdMachine) -> tuple[set[tuple[str, str]], set[str]]:
    """Return rule and thing of each finding, and the rules whose facts are unknown."""
    output = machine.run([str(ROOT / ".venv/bin/python"), "-c", AUDIT])
    found = json.loads(output.splitlines()[-1])
    return {(id, thing) for id, thing, unknown in found if not unknown}, {id for id, _, unknown in found if unknown}


@line("truth3", "remedies")
def test_each_remedy_of_a_rule_ends_its_finding(log: Log) -> str:
    """Each rule's remedy, applied as a person types it, ends the finding and starts no other one."""
    if lacks := systemd_machine.lacks():
        pytest.skip(lacks)
    listed = [*APPLIED, *ELSEWHERE, *NOT_HERE]
    need(sorted(listed) == sorted(RULES), f"not in one list alone: {sorted({*listed} ^ {*RULES})}")
    paths = re.findall(r"tests/[\w/]+\.py", " ".join(ELSEWHERE.values()))
    need(all((ROOT / path).is_file() for path in paths), f"not all there: {paths}")
    for id, command in APPLIED.items():
        quoted = re.findall(r"`([\w-]+)", RULES[id].remedy)
        absent = [word for word in quoted if word not in command and word not in ("allow", "access", "rackwright")]
        need(
            set(absent) <= {"pam-auth-update", "container_runtime", "network"},
            f"{id} names {absent}, and {command} is tried",
        )
    directory = log.empty_directory()
    with SystemdMachine(Path(directory)) as machine:
        before, _ = audit(machine)
        seeds = {key: command for key, command in UNDECLARED.items() if key.partition(" ")[0] in APPLIED}
        seeds |= MORE_SEEDS
        machine.run(
            "mkdir -p /var/lib/rackwright/owners; useradd -m rackwright; "
            "install -D /dev/null ~rackwright/.ssh/authorized_keys; systemctl daemon-reload",
            check=False,
        )
        for key, command in seeds.items():
            if command != FOLLOWS:
                log(f"{key}: {machine.run(command, check=False).strip()[-200:]}")
        seeded, _ = audit(machine)
        shown = [key for key in seeds if tuple(key.split(" ", 1)) in seeded - before]
        log(f"shown: {len(shown)} of {len(seeds)}, not shown: {sorted(set(seeds) - set(shown))}")
        for key in sorted(shown, key=lambda key: key.startswith(("RW-020", "RW-021"))):  # accounts at the end
            id, thing = key.split(" ", 1)
            path = thing.partition(":")[2]
            name = path.rpartition("/")[2]
            if id == "RW-031":
                path = next(
                    f"{folder}/{name}"
                    for folder in UNIT_FOLDERS
                    if machine.run(f"ls {folder}/{name}", check=False).strip() == f"{folder}/{name}"
                )
            log(f"{key}: {machine.run(APPLIED[id].format(path=path, name=name), check=False).strip()[-200:]}")
        after, _ = audit(machine)
        left = {tuple(key.split(" ", 1)) for key in shown} & after
        need(not left, f"the remedy does not end {sorted(left)}")
        things = {thing for _, thing in seeded}  # of a file that lost its rights, the rule about all files is left
        new = {each for each in after - before if each[0] in APPLIED and each[1] not in things}
        need(not new, f"a remedy begins {sorted(new)}")
        rules = {key.partition(" ")[0] for key in shown}
        need(rules == {*APPLIED} - {*UNSHOWN}, f"not shown: {sorted({*APPLIED} - rules)}")
    return (
        f"{len(shown)} remedies of {len(rules)} rules end their findings; not on a container: "
        f"{len(NOT_HERE)} rules ({', '.join(sorted(set(NOT_HERE.values())))}), by other checks: {len(ELSEWHERE)}"
    )


UNIT_FOLDERS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")


MASKED = (
    "man-db.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "apt-daily.timer",
    "systemd-tmpfiles-clean.timer",
)
SUDO = {
    "rule": ("eve ALL=(ALL) NOPASSWD: ALL", "RW-023"),
    "setting": ("Defaults !authenticate", "RW-023"),
    "comment": ("# eve ALL=(ALL) ALL", "RW-039"),
    "dot.conf": ("eve ALL=(ALL) NOPASSWD: ALL", "RW-039"),
    "tilde~": ("eve ALL=(ALL) NOPASSWD: ALL", "RW-039"),
    "alias": ("User_Alias PEOPLE = eve\nPEOPLE ALL=(ALL) NOPASSWD: ALL", "RW-023"),
}


TIMER = "man-db.timer"
QUIET = {
    "a timer stops and starts again": f"systemctl stop {TIMER}; systemctl start {TIMER}",
    "a timer is disabled and enabled": f"systemctl disable {TIMER}; systemctl enable --now {TIMER}",
    "a mask that was taken off": f"systemctl mask {TIMER}; systemctl unmask {TIMER}; systemctl start {TIMER}",
    "a mask until the next start, taken off": f"systemctl mask --runtime {TIMER}; systemctl unmask --runtime {TIMER}",
    "a unit as its package wants it": f"systemctl preset {TIMER}",
    "a setting that was taken back": "systemctl set-property systemd-logind.service TasksMax=99 && "
    "systemctl revert systemd-logind.service",
    "a unit that failed and was reset": "systemd-run --wait --unit=x-fails false || systemctl reset-failed",
    "systemd starts itself again": "systemctl daemon-reexec; systemctl daemon-reload",
    "a command as another account": "sudo -u games true; sudo -l -U games",
    "forgotten logins of sudo": "sudo -K",
    "an editor that changes nothing": "EDITOR=true visudo && EDITOR=true visudo -f /etc/sudoers.d/README",
    "touched files of sudo": "touch /etc/sudoers /etc/sudoers.d/README",
    "the same file of sudo written again": "cp -p /etc/sudoers /root/kept; cat /root/kept > /etc/sudoers; visudo -c",
    "a file of sudo that came and went": "echo 'eve ALL=(ALL) ALL' > /etc/sudoers.d/x; rm /etc/sudoers.d/x",
    "a mode that was put back": "chmod 0400 /etc/sudoers; chmod 0440 /etc/sudoers",
}
"""Changes of units and files of sudo by which nothing more is found."""


def _need_quiet(machine: SystemdMachine, log: Log) -> None:
    """Require that no change of QUIET adds or removes a finding."""
    before, _ = audit(machine)
    for name, command in QUIET.items():
        log(f"{name}: {machine.run(command).strip()[-200:]}")
        after, _ = audit(machine)
        need(after == before, f"{name}: {sorted(after ^ before)}")


@line("truth2", "remedies")
def test_a_mask_is_taken_off_and_a_file_of_sudo_is_named_by_its_effect(log: Log) -> str:
    """A unit that is masked until the next start is mended by its plan; files of sudo are judged as sudo does."""
    if lacks := systemd_machine.lacks():
        pytest.skip(lacks)
    with SystemdMachine(log.empty_directory()) as machine:
        _need_quiet(machine, log)
        for unit in MASKED:
            machine.run(f"systemctl stop {unit}; systemctl mask --runtime {unit}")
            need("masked" in machine.run(f"systemctl start {unit}", check=False), f"{unit} starts behind its mask")
            state = Difference(
                f"unit:{unit}", "state", "enabled", machine.run(f"systemctl is-enabled {unit}", check=False).strip()
            )
            planned = unmask(Plan(steps=(Command("start it", ("systemctl", "start", unit)),)), (state,))
            for step in planned.steps:
                machine.run(step.argv)
            need(machine.run(f"systemctl is-active {unit}").strip() == "active", f"{unit} does not run after its plan")
        machine.run("systemctl mask e2scrub_reap.service")
        lasting = machine.run("systemctl is-enabled e2scrub_reap.service", check=False).strip()
        need(
            unmask(Plan(steps=(Command("x", ("true",)),)), (Difference("unit:x", "state", "enabled", lasting),))
            .steps[0]
            .text
            == "x",
            "a lasting mask is the role's own work",
        )
        machine.run("useradd -m eve")
        for name, (text, rule) in SUDO.items():
            machine.run(
                ["sh", "-c", 'printf "%s\\n" "$1" > "$2"; chmod 0440 "$2"', "sh", text, f"/etc/sudoers.d/{name}"]
            )
            grants = "(ALL)" in machine.run("sudo -l -U eve", check=False)
            found = {id for id, thing in audit(machine)[0] if thing == f"file:/etc/sudoers.d/{name}"}
            need(found == {rule}, f"{name} is found by {sorted(found)}")
            need(grants == (rule == "RW-023" and name != "setting"), f"sudo itself judges {name} otherwise")
            machine.run(f"rm '/etc/sudoers.d/{name}'; visudo -c")
    return (
        f"{len(MASKED)} masked units run again by their plans; {len(SUDO)} files of sudo are judged as sudo judges "
        f"them; {len(QUIET)} changes silent"
    )
