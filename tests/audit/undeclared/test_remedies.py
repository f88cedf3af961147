"""Advice about a file that the host needs is never to remove it, and advice about the unknown is to find out."""

import re

import pytest

from rackwright.audit.undeclared.generated import KNOWN_FILES, PRIVILEGES
from rackwright.audit.undeclared.remedies import BY_PATH, COPIES, REMEDY_UNKNOWN, needed_file, remedy_of
from rackwright.audit.undeclared.rule import Finding
from rackwright.audit.undeclared.search import search
from rackwright.audit.undeclared.table import RULES
from rackwright.facts.facts import Facts
from rackwright.facts.probe import generated_files, kubeadm_files, netplan_files
from tests.support.converged_host import converged, declared
from tests.support.rule_cases import odd_file, unpackaged

EXAMPLES = {
    r"/etc/apparmor\.d/local/[\w.-]+": "/etc/apparmor.d/local/usr.sbin.chronyd",
    r"/etc/cdi/(?:nvidia|rackwright-jetson)\.(?:yaml|json)": "/etc/cdi/nvidia.yaml",
    r"/etc/console-setup/cached_setup_\w+\.sh": "/etc/console-setup/cached_setup_font.sh",
    r"/etc/network/interfaces\.d/[\w.-]+": "/etc/network/interfaces.d/eth0",
    r"/usr/lib/[\w-]+/g[\w.+/-]+/(?:loaders|giomodule)\.cache": "/usr/lib/x86_64-linux-gnu/gio/modules/giomodule.cache",
    r"/usr/lib/modules/[\w.+-]+/modules\.dep\.bin": "/usr/lib/modules/6.1.0-50-amd64/modules.dep.bin",
    generated_files.GRUB.pattern: "/boot/grub/x86_64-efi/normal.mod",
    generated_files.MAIL_COPY.pattern: "/var/spool/postfix/etc/hosts",
    r"/etc/kubernetes/manifests/(?:etcd|kube-apiserver|kube-controller-manager|kube-scheduler)\.yaml": (
        "/etc/kubernetes/manifests/etcd.yaml"
    ),
    r"/etc/kubernetes/(?:admin|super-admin|controller-manager|scheduler|kubelet)\.conf": "/etc/kubernetes/admin.conf",
    rf"/etc/kubernetes/pki/(?:{'|'.join(kubeadm_files.CERTIFICATES)})\.crt": "/etc/kubernetes/pki/etcd/ca.crt",
    r"/run/systemd/generator(?:\.early|\.late)?/(?:[^/]+/)?[^/]+": "/run/systemd/generator/boot.mount",
    r"/run/udev/rules\.d/99-netplan-[\w.-]+\.rules": "/run/udev/rules.d/99-netplan-x.rules",
    netplan_files.NAME.pattern: "/run/systemd/network/10-netplan-x.network",
}
"""A file of each pattern of the probe."""
REMOVES = re.compile(r"Remove the file\b(?!,? then run `dpkg-divert)")


@pytest.mark.parametrize("path", [*generated_files.CHECKS, *EXAMPLES.values()])
def test_no_file_that_a_program_needs_is_to_be_removed(path):
    finding = Finding(f"file:{path}", "it is not what its program writes")

    assert not REMOVES.search(remedy_of(RULES["RW-080"], finding)), path
    assert remedy_of(RULES["RW-080"], finding).endswith("or admit it under `allow`")


def test_each_pattern_of_the_probe_has_an_example():
    assert generated_files.PATTERNS.keys() - EXAMPLES.keys() == {generated_files.LEFTOVER.pattern}
    assert all(re.fullmatch(pattern, path) for pattern, path in EXAMPLES.items())


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/etc/pam.d/common-auth", "pam-auth-update"),
        ("/etc/nsswitch.conf", "cp /usr/share/libc-bin/nsswitch.conf /etc/nsswitch.conf"),
        ("/etc/subuid", "usermod --del-subuids"),
        ("/etc/mdadm/mdadm.conf", "update-initramfs"),
        ("/etc/fstab", "Correct the lines"),
        ("/etc/crypttab", "Correct the lines"),
        ("/etc/shadow", "vipw"),
        ("/run/systemd/generator/x.service", "systemctl daemon-reload"),
    ],
)
def test_the_remedy_names_the_command_for_the_file(path, word):
    assert word in needed_file(path)


@pytest.mark.parametrize("path", ["/etc/cron.d/x", "/etc/x.conf", "/usr/bin/x", "/usr/local/bin/ls", "/etc/hosts.x"])
def test_a_file_that_nothing_needs_is_removed(path):
    assert needed_file(path) == ""
    assert remedy_of(RULES["RW-080"], Finding(f"file:{path}", "x")) == RULES["RW-080"].remedy


def test_a_copy_of_a_packaged_file_is_named_as_the_probe_compares_it():
    assert COPIES == generated_files.COPIES
    assert all("{" not in needed_file(path) for path in COPIES)
    assert len({pattern.pattern for pattern, _ in BY_PATH}) == len(BY_PATH) > 25


@pytest.mark.parametrize("id", RULES)
def test_what_is_unknown_is_to_be_found_out(id):
    text = remedy_of(RULES[id], Finding(RULES[id].subject, "permission denied"), is_unknown=True)

    assert text.startswith("Find out") and text != RULES[id].remedy
    assert REMEDY_UNKNOWN.startswith("Find out")


@pytest.mark.parametrize("id", [id for id, rule in RULES.items() if "restore the packaged one" in rule.remedy])
def test_a_changed_packaged_file_is_to_be_restored_and_an_extra_one_to_be_removed(id):
    changed = remedy_of(RULES[id], Finding("file:/etc/x", "it differs from the file of its package"))
    extra = remedy_of(RULES[id], Finding("file:/etc/x", "no package installed it"))

    assert "apt-get install --reinstall" in changed and "Remove" not in changed
    assert extra.startswith("Remove the file") and "restore" not in extra


def test_the_audit_shows_the_remedy_of_the_file():
    raw = converged()
    raw["integrity"]["rendered"].remove("/etc/nsswitch.conf")
    unpackaged("/etc/nsswitch.conf")(raw)
    raw["integrity"]["left_out"] = {"/usr/lib/x": 7}

    rows = {
        finding.thing: remedy_of(rule, finding, unknown) for rule, finding, unknown in search(Facts(raw), declared())
    }

    assert rows["file:/etc/nsswitch.conf"].startswith("Run `cp ")
    assert rows[RULES["RW-080"].subject] == REMEDY_UNKNOWN


def test_files_that_are_known_by_their_names_and_needed_have_a_remedy():
    """
    A link in the place of such a file is a finding of the rule about all files.
    """
    needed = ("/etc/passwd", "/etc/shadow", "/etc/fstab", "/etc/crypttab", "/boot/initrd.img-6.1.0-50-amd64")

    assert all(needed_file(path) for path in needed)
    assert all(any(re.fullmatch(entry.pattern, path) for entry in KNOWN_FILES) for path in needed)


def test_a_file_in_the_place_of_a_diverted_program_is_not_only_removed():
    """Without the last command, the host has no such program."""
    path = "/usr/bin/my ls"
    raw = converged()
    odd_file(path, state="unpackaged")(raw)
    raw["package_database"]["diversions"] = [{"path": path, "to": f"{path}.distrib", "by": "a person"}]

    remedies = {
        f"{rule.id} {finding.thing}": remedy_of(rule, finding) for rule, finding, _ in search(Facts(raw), declared())
    }

    assert {*remedies} == {f"RW-080 file:{path}", f"RW-099 diversion:{path}"}
    assert all("`dpkg-divert --rename --remove '/usr/bin/my ls'`" in text for text in remedies.values())


def test_rights_that_a_person_set_are_taken_back_by_the_path():
    raw = converged()
    raw["package_database"]["rights"] = {"/usr/bin/x;id": {"mode": "4755", "owner": "root:root"}}
    [(rule, finding, _)] = search(Facts(raw), declared())

    assert (rule.id, finding.thing) == ("RW-099", "statoverride:/usr/bin/x;id")
    assert "`dpkg-statoverride --remove '/usr/bin/x;id'`" in remedy_of(rule, finding)


@pytest.mark.parametrize("path", ["/etc/ssl/private", "/usr/lib/dbus-1.0/dbus-daemon-launch-helper"])
def test_rights_that_scripts_of_packages_set_are_known(path):
    raw = converged()
    mode, owner = PRIVILEGES[path]
    raw["package_database"]["rights"] = {path: {"mode": mode, "owner": owner}}

    assert [*search(Facts(raw), declared())] == []
