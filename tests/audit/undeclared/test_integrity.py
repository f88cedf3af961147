"""The account of files: known files are narrow, one row for each file, and nothing that is unread passes for fine."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rackwright.audit.undeclared.generated import CAPABILITIES, KNOWN_FILES, PRIVILEGES, maker_of
from rackwright.audit.undeclared.search import apply, search
from rackwright.audit.undeclared.table import RULES
from rackwright.facts.facts import Facts
from rackwright.facts.probe.generated_files import CHECKS
from tests.support.converged_host import converged, declared, with_more
from tests.support.rule_cases import FILE, odd_file, unpackaged

PLANTED = "planted-by-hand"


def found(raw: dict[str, Any], **wants: Any) -> list[str]:
    return [f"{rule.id} {finding.thing}" for rule, finding, _ in search(Facts(raw), declared(**wants))]


def folder_of(pattern: str) -> str:
    """Return the directory of the files that *pattern* names, with an example for each part that is no plain text."""
    part = re.split(r"[\\(\[]", pattern)[0]
    return part.rpartition("/")[0]


@pytest.mark.parametrize("entry", KNOWN_FILES, ids=lambda entry: entry.pattern)
def test_a_file_beside_those_of_a_pattern_is_found(entry):
    """No pattern has a whole directory of /etc; the spools of mail and of jobs are judged by other rules."""
    path = f"{folder_of(entry.pattern)}/{PLANTED}"
    if (
        re.fullmatch(r"/var/spool/.*|/usr/lib/locale/.*|/usr/share/mime/.*|/run/sendsigs.*", path)
        and entry.check != "link"
    ):
        assert entry.reason
        return
    raw = converged()
    odd_file(path, state="unpackaged")(raw)

    assert f"RW-080 file:{path}" in found(raw)


def test_patterns_are_counted_and_each_has_a_program_and_a_reason():
    assert len(KNOWN_FILES) == len({entry.pattern for entry in KNOWN_FILES}) > 50
    assert all(entry.program and entry.reason for entry in KNOWN_FILES)


@pytest.mark.parametrize(
    ("path", "target", "is_found"),
    (
        (
            "/etc/systemd/system/multi-user.target.wants/debug-shell.service",
            "/lib/systemd/system/debug-shell.service",
            True,
        ),
        ("/etc/systemd/system/x.service", "/lib/systemd/system/getty@.service", True),
        ("/etc/systemd/system/ssh.service", "/lib/systemd/system/getty@.service", True),
        ("/etc/systemd/system/multi-user.target.wants/chrony.service", "/lib/systemd/system/getty@.service", True),
        ("/etc/systemd/system/fstrim.service", "/dev/null", True),
        ("/etc/systemd/system/ssh.service", "/dev/null", False),
        ("/etc/systemd/system/getty.target", "/dev/null", False),
        ("/etc/tmpfiles.d/tmp.conf", "/dev/null", True),
        ("/etc/apparmor.d/disable/usr.sbin.x", "/etc/apparmor.d/usr.sbin.x", True),
        ("/etc/ssl/certs/0a1b2c3d.0", "ssl-cert-snakeoil.pem", True),
        ("/etc/systemd/system/multi-user.target.wants/x.service", "/opt/x.service", True),
        ("/etc/systemd/system/multi-user.target.wants/x.service", None, True),
        ("/etc/rc3.d/S01ssh", "../init.d/ssh", False),
        ("/etc/rc3.d/S01x", "/home/x/x", True),
        ("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC", False),
        ("/etc/dpkg/origins/default", "/tmp/zone", True),
        ("/etc/mtab", "../proc/self/mounts", False),
        ("/etc/mtab", "/tmp/mounts", True),
        ("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf", False),
        ("/etc/resolv.conf", "/tmp/resolv.conf", True),
        ("/etc/systemd/system/x.service", "/etc/x.dpkg-old", True),
        ("/etc/systemd/system/x.service", "/usr/share/doc/x/examples/x.service", True),
        ("/etc/systemd/system/x.service", "/usr/lib/systemd/system/../../../../tmp/x.service", True),
        ("/etc/ssl/certs/0a1b2c3d.0", "x.pem", False),
        ("/etc/ssl/certs/0a1b2c3d.0", "/usr/share/doc/x/test-authority.pem", True),
        ("/boot/grub/grub.cfg", "/tmp/grub.cfg", True),
        ("/boot/initrd.img-6.1.0", "/usr/share/x", True),
        ("/etc/fstab", "/tmp/fstab", True),
        ("/usr/share/info/dir", "/usr/share/x", True),
        ("/etc/ssl/certs/x.pem", "/usr/share/ca-certificates/mozilla/x.crt", False),
        ("/etc/ssl/certs/x.pem", None, True),
        ("/etc/ssl/certs/x.pem", "/usr/share/ca-certificates/x.crt, which does not exist", True),
    ),
)
def test_a_link_is_known_by_where_it_leads(path, target, is_found):
    raw = converged()
    digest = "0f" if target is None else f"-> {target}"
    unpackaged(path, digest)(raw)

    assert bool(found(raw)) == is_found


@pytest.mark.parametrize(
    "row",
    (
        {"state": "unpackaged", "mode": "4755", "rights": True},
        {"state": "changed", "mode": "4755", "rights": True},
        {"state": "changed", "acl": "02000000"},
    ),
)
def test_a_file_has_one_row(row):
    raw = converged()
    odd_file("/usr/bin/ls", **row)(raw)

    assert len(found(raw)) == 1


def test_what_a_program_makes_from_files_that_are_not_read_yet_is_unknown():
    """
    The first audits of a copied system read its packaged files part by part.
    """
    raw = converged()
    unpackaged("/etc/pam.d/common-auth")(raw)
    unpackaged("/etc/x.conf")(raw)
    raw["integrity"]["rendered"] = [path for path in raw["integrity"]["rendered"] if "common-auth" not in path]
    assert found(raw) == ["RW-080 file:/etc/pam.d/common-auth", "RW-080 file:/etc/x.conf"]
    raw["integrity"]["pending"] = 8539

    *known, (unread, is_unknown) = apply(RULES["RW-080"], Facts(raw), declared())

    assert [finding.thing for finding, _ in known] == ["file:/etc/x.conf"]
    assert is_unknown and unread.found == "/etc/pam.d/common-auth: 8539 packaged files are not read yet"


def test_a_rule_that_says_more_keeps_its_file():
    raw = converged()
    unpackaged("/etc/cron.d/x")(raw)
    raw["changed_conffiles"]["/etc/ssh/sshd_config.d/x.conf"] = "changed"

    assert found(raw) == ["RW-027 file:/etc/ssh/sshd_config.d/x.conf", "RW-034 file:/etc/cron.d/x"]


@pytest.mark.parametrize("path", [*PRIVILEGES])
def test_the_rights_that_packages_give_are_known_and_others_are_found(path):
    mode, owner = PRIVILEGES[path]
    raw = converged()
    odd_file(path, state="packaged", rights=True, mode=mode, owner=owner)(raw)
    assert found(raw) == []

    odd_file(path, state="packaged", rights=True, mode="0777", owner=owner)(raw)
    assert found(raw) == [f"RW-082 file:{path}"]


@pytest.mark.parametrize(("mode", "owner"), [("0644", "root:root"), ("0640", "root:users"), ("0640", "axel:shadow")])
def test_hashes_of_passwords_that_accounts_can_read_are_found(mode, owner):
    """
    Plain rights for other files, which the probe does not list for them.
    """
    raw = converged()
    raw["files"]["/etc/shadow"] = {**raw["files"]["/etc/shadow"], "mode": "0600", "owner": "root:root"}
    assert found(raw) == []

    raw["files"]["/etc/shadow"] |= {"mode": mode, "owner": owner}
    assert found(raw) == ["RW-082 file:/etc/shadow"]


def test_capabilities_that_packages_give_are_known():
    raw = converged()
    odd_file("/usr/bin/ping", state="packaged", capabilities="0100000200200000000000000000000000000000")(raw)

    assert found(raw) == []
    assert CAPABILITIES["/usr/bin/ping"] == "cap_net_raw"


def test_a_claim_on_mode_and_owner_is_compared_there_and_an_access_list_is_not():
    raw = converged()
    odd_file("/etc/x", state="unpackaged", rights=True, mode="0640", owner="root:adm")(raw)
    declaration = with_more(declared(), "file:/etc/x", "mode", "owner")
    assert [*apply(RULES["RW-082"], Facts(raw), declaration)] == []

    odd_file("/etc/x", state="unpackaged", acl="0200000002000600e8030000")(raw)
    [(finding, _)] = apply(RULES["RW-082"], Facts(raw), declaration)
    assert finding.found == "access list user:1000:rw-"


@pytest.mark.parametrize(
    ("change", "rule"),
    (
        (lambda account: account.update(left_out={"/usr/lib/x": 7}), "RW-080"),
        (lambda account: account["files"].update({"/etc/x": {"state": "unread", "found": "mounted"}}), "RW-080"),
        (lambda account: account.update(pending=3), "RW-081"),
    ),
)
def test_files_that_were_not_read_are_unknown(change, rule):
    raw = converged()
    change(raw["integrity"])

    assert [is_unknown for _, is_unknown in apply(RULES[rule], Facts(raw), declared())] == [True]


def extra(raw: dict[str, Any]) -> list[str]:
    """Return what the rule about files that no resource declares finds, without the other rules."""
    return [finding.thing for finding, _ in apply(RULES["RW-080"], Facts(raw), declared())]


@pytest.mark.parametrize("path", sorted(CHECKS))
def test_a_file_that_the_probe_compares_is_found_if_it_is_not_as_its_program_writes_it(path):
    raw = converged()
    raw["integrity"]["rendered"].remove(path)
    odd_file(path, state="unpackaged")(raw)

    assert extra(raw) == ([] if declared().declares_path(path) else [f"file:{path}"])


@pytest.mark.parametrize(
    "path",
    (
        "/etc/nginx/sites-enabled/evil.dpkg-new",
        "/etc/network/interfaces.d/evil",
        "/etc/console-setup/cached_setup_font.sh",
        "/boot/grub/x86_64-efi/evil.mod",
        "/usr/lib/locale/evil/backdoor",
        "/usr/lib/modules/6.1.0/modules.dep.bin",
        "/usr/lib/modules/6.1.0/modules.evil",
        "/var/spool/postfix/lib/libc.so.6",
        "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache",
        "/usr/lib/x86_64-linux-gnu/gio/modules/giomodule.cache",
        "/run/systemd/generator/evil.service",
        "/etc/apparmor.d/local/usr.sbin.x",
        "/etc/cdi/nvidia.yaml",
    ),
)
def test_no_name_of_a_file_suffices(path):
    raw = converged()
    odd_file(path, state="unpackaged")(raw)

    assert extra(raw) == [f"file:{path}"]


def test_names_of_other_machines_are_found_with_their_addresses():
    raw = converged()
    raw["integrity"]["rendered"].remove("/etc/hosts")
    raw["files"]["/etc/hosts"] = FILE
    raw["unpackaged"].append("/etc/hosts")
    raw["integrity"]["names"] = [["127.0.2.1", "mirror.example"], ["192.0.2.1", "alpha.example", "alpha"]]
    assert found(raw) == []

    for row in (
        ["10.0.0.9", "gpu-02"],
        ["203.0.113.66", "alpha"],
        ["192.0.2.1", "alpha", "gpu-02"],
        ["203.0.113.66", "localhost"],
    ):
        raw["integrity"]["names"] = [row]
        assert extra(raw) == ["file:/etc/hosts"]
    for names in ([], {"unknown": "another form"}):
        raw["integrity"]["names"] = names
        assert extra(raw) == ["file:/etc/hosts"]


def test_a_finding_about_names_has_a_bound():
    raw = converged()
    raw["integrity"]["rendered"].remove("/etc/hosts")
    odd_file("/etc/hosts", state="unpackaged")(raw)
    raw["integrity"]["names"] = [["203.0.113.1", *(f"{'a' * 300}{number}" for number in range(10_000))]] * 9
    [(finding, _)] = apply(RULES["RW-080"], Facts(raw), declared())

    assert len(finding.found) < 2_000
    assert "9997 names more" in finding.found


def node_of_cluster() -> Any:
    plain = declared()
    return replace(plain, host=plain.host.model_copy(update={"roles": {**plain.host.roles, "kubernetes_node": {}}}))


@pytest.mark.parametrize(
    ("path", "is_found"),
    (
        ("/etc/kubernetes/pki/etcd/peer.key", False),
        ("/etc/kubernetes/pki/sa.pub", False),
        ("/etc/kubernetes/manifests/etcd.yaml", True),
        ("/etc/kubernetes/manifests/kube-apiserver.yaml", True),
        ("/etc/kubernetes/kubelet.conf", True),
        ("/etc/kubernetes/pki/apiserver-kubelet-client.crt", True),
        ("/etc/kubernetes/manifests/evil.yaml", True),
        ("/etc/kubernetes/manifests/etcd.yaml.bak", True),
        ("/etc/kubernetes/manifests/.etcd.yaml", True),
        ("/etc/kubernetes/manifests/more/etcd.yaml", True),
        ("/etc/kubernetes/evil.conf", True),
        ("/etc/kubernetes/pki/evil.crt", True),
        ("/etc/cni/net.d/00-evil.conf", True),
    ),
)
def test_keys_of_a_node_are_known_by_name_and_other_files_by_their_content(path, is_found):
    raw = converged()
    odd_file(path, state="unpackaged")(raw)

    assert bool([*apply(RULES["RW-080"], Facts(raw), node_of_cluster())]) == is_found
    assert [*apply(RULES["RW-080"], Facts(raw), declared())]


def test_a_file_of_kubeadm_is_known_by_the_probe_and_named_with_the_reason_otherwise():
    path = "/etc/kubernetes/manifests/etcd.yaml"
    raw = converged()
    odd_file(path, state="unpackaged")(raw)
    raw["integrity"]["reasons"] = {path: "hostPath /"}
    [(finding, _)] = apply(RULES["RW-080"], Facts(raw), node_of_cluster())
    assert finding.found == "it is not what its program writes: hostPath /"

    raw["integrity"]["rendered"].append(path)
    assert [*apply(RULES["RW-080"], Facts(raw), node_of_cluster())] == []


def test_files_of_kubeadm_in_the_facts_of_an_earlier_probe_are_unknown():
    raw = converged()
    odd_file("/etc/kubernetes/manifests/etcd.yaml", state="unpackaged")(raw)
    del raw["integrity"]["reasons"]

    assert [is_unknown for _, is_unknown in apply(RULES["RW-080"], Facts(raw), node_of_cluster())] == [True]


def test_facts_of_an_earlier_probe_that_compared_less_are_unknown():
    raw = converged()
    raw["integrity"]["generated"] = raw["integrity"].pop("rendered")

    assert [is_unknown for _, is_unknown in apply(RULES["RW-080"], Facts(raw), declared())] == [True]


def test_files_that_nothing_judges_are_documented_with_their_reasons():
    text = (Path(__file__).parents[3] / "docs" / "guides" / "undeclared.md").read_text()
    for entry in KNOWN_FILES:
        if entry.check == "unjudged":
            assert entry.reason in text, entry.pattern


def test_only_links_have_targets_and_each_link_has_them():
    assert all(entry.targets for entry in KNOWN_FILES if entry.check == "link")
    assert {entry.pattern for entry in KNOWN_FILES if entry.targets and entry.check != "link"} == {r"/etc/resolv\.conf"}


def test_the_maker_of_a_file_is_known():
    maker = maker_of("/etc/chrony/chrony.drift")
    assert maker is not None and maker.program == "chronyd"
    assert maker_of("/etc/chrony/chrony.drift.x") is None


def test_many_missing_files_of_a_package_are_one_finding():
    raw = converged()
    for number in range(30):
        odd_file(f"/usr/share/x/{number:02}", state="missing", package="x")(raw)
    odd_file("/usr/bin/cksum", state="missing", package="coreutils")(raw)

    assert found(raw) == ["RW-152 package:x", "RW-152 file:/usr/bin/cksum"]


@pytest.mark.parametrize("path", ["/etc/sudoers", "/etc/sudoers.d/README"])
@pytest.mark.parametrize(("mode", "owner", "is_found"), [
    ("0440", "root:root", False), ("0400", "root:root", True), ("0440", "root:games", True),
])  # fmt: skip
def test_a_file_of_sudo_that_an_editor_has_closed_has_the_rights_of_its_package(path, mode, owner, is_found):
    """Its package gives it no rights for all accounts, so that each later change of the file looks like their loss."""
    raw = converged()
    odd_file(path, state="packaged", lost=True, mode=mode, owner=owner)(raw)

    without_access = replace(declared(), wants={})  # the role claims the mode
    rows = [finding.thing for finding, _ in apply(RULES["RW-097"], Facts(raw), without_access)]
    assert rows == ([f"file:{path}"] if is_found else [])
