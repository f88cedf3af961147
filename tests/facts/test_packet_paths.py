"""Paths of packets, changed in a network namespace by ip and tc: each change is found, and usual ones are not."""

import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rackwright.audit.undeclared.rule import Finding
from rackwright.audit.undeclared.search import apply
from rackwright.audit.undeclared.table import RULES
from rackwright.facts.facts import Facts
from rackwright.facts.probe import bpf_programs, netlink, packet_paths
from rackwright.facts.probe.block import CONTAINER_MARKS
from tests.support.converged_host import converged, declared
from tests.support.packet_paths import DIVERTED, IDS, REMEDIES, SILENT, facts_after, found


@pytest.fixture(scope="module")
def after() -> dict[str, dict[str, list[Finding]]]:
    """The findings of the rules after each change, by its name."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    changes = {**{name: change for name, (_, change) in DIVERTED.items()}, **SILENT}
    changes |= {f"{name}, mended": f"{changes[name]}; {remedy}" for name, remedy in REMEDIES.items()}
    return {name: found(raw) for name, raw in zip(changes, facts_after(changes.values()), strict=True)}


@pytest.mark.parametrize("name", DIVERTED)
def test_a_change_of_where_packets_go_is_found(after: dict[str, dict[str, list[Finding]]], name: str) -> None:
    assert [*after[name]] == [DIVERTED[name][0]]


@pytest.mark.parametrize("name", SILENT)
def test_a_usual_change_is_not_found(after: dict[str, dict[str, list[Finding]]], name: str) -> None:
    assert after[name] == {}


@pytest.mark.parametrize("name", REMEDIES)
def test_the_remedy_of_a_rule_ends_its_finding(after: dict[str, dict[str, list[Finding]]], name: str) -> None:
    assert after[f"{name}, mended"] == {}


def test_each_rule_about_packets_has_a_remedy_that_was_tried() -> None:
    assert {DIVERTED[name][0] for name in REMEDIES} == {*IDS} - {"RW-052"}


def test_a_long_list_names_its_first_rows_and_counts_the_others() -> None:
    rows = packet_paths.first_rows([str(number) for number in range(1000)])

    assert (len(rows), rows[-1]) == (packet_paths.MOST_ROWS + 1, "and 488 more")


def test_a_kernel_without_a_part_has_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr(packet_paths, "has_module", lambda root, name: True)
    monkeypatch.setattr(netlink, "dump", refuse)

    assert packet_paths.ipsec("") == []
    assert packet_paths.virtual_servers("/nowhere") == []


ATTACH = Path(__file__).parents[1] / "support" / "attach_bpf.py"
READ_BPF = """
import json
from rackwright.facts.probe import bpf_programs as reader
from rackwright.facts.probe.network import link_names
rows = reader.programs("", link_names(""))
reader.with_descriptor("/tmp/x", reader.OF_GROUPS, reader.CONTROL_GROUPS, rows)
print(json.dumps(rows))
"""


@pytest.mark.skipif(os.geteuid() != 0 or os.uname().machine != "x86_64", reason="root attaches programs, by x86's call")
def test_programs_of_bpf_at_links_and_control_groups_are_found() -> None:
    script = f"""set -e; mount --make-rprivate /; mount -t tmpfs tmpfs /tmp; mount -t sysfs sysfs /sys
    ip link add fabric0 type veth peer name far0
    mkdir /tmp/groups; mount -t cgroup2 none /tmp/groups; mkdir /tmp/groups/{os.getpid()}
    ln -s /tmp/groups/{os.getpid()} /tmp/x
    trap 'rmdir /tmp/groups/{os.getpid()}' EXIT
    {sys.executable} {ATTACH} $(cat /sys/class/net/fabric0/ifindex) 46
    {sys.executable} {ATTACH} /tmp/x 10
    {sys.executable} -c '{READ_BPF}'"""
    done = subprocess.run(["unshare", "--net", "--mount", "sh", "-c", script], capture_output=True, text=True)
    if "Invalid argument" in done.stderr:
        pytest.skip("a kernel before 6.6 has no programs at links")

    assert json.loads(done.stdout) == {
        "fabric0": ["a program of BPF for arrivals"],
        "control groups": ["a program of BPF for connect"],
    }, done.stderr


def test_in_a_container_programs_are_those_of_its_computer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(bpf_programs, "count", refuse)
    with pytest.raises(PermissionError):
        bpf_programs.programs(str(tmp_path), {2: "fabric0"})
    mark = Path(f"{tmp_path}{CONTAINER_MARKS[0]}")
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert bpf_programs.programs(str(tmp_path), {2: "fabric0"}) == {}


def test_a_filter_on_the_queue_of_the_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def row(handle: int, kind: bytes) -> bytes:
        return struct.pack("=4xiIII", 2, handle, 0xFFFFFFFF, 0) + struct.pack("=HH", 4 + len(kind), 1) + kind

    answers = {packet_paths.GET_QDISCS: [row(0, b"fq_codel\0")], packet_paths.GET_FILTERS: [row(0, b"bpf\0")]}
    monkeypatch.setattr(packet_paths, "link_names", lambda root: {2: "fabric0"})
    monkeypatch.setattr(netlink, "dump", lambda request, body: answers[request])
    monkeypatch.setattr(bpf_programs, "programs", lambda root, links: {})

    assert packet_paths.traffic_control("") == {"fabric0": ["filter bpf"]}


def test_balanced_addresses_are_read(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    head = (
        "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port\n"
    )
    (tmp_path / "proc/net/ip_vs").write_text(f"{head}TCP  0A200001:1F90 rr\n  -> 0A200009:1F90 Masq 1 0 0\n")

    assert packet_paths.virtual_servers(str(tmp_path)) == ["TCP 0A200001:1F90"]


def test_names_of_settings_may_have_slashes(tmp_path: Path) -> None:
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    (tmp_path / "etc/sysctl.d/a.conf").write_text(
        "# net.ipv4.ip_forward = 1\n-net.ipv4.conf.all.proxy_arp=1\nnet/ipv4/conf/eth0.7/arp_ignore = 1\nvm.x = 1\n"
    )
    (tmp_path / "etc/sysctl.conf").write_text("net.ipv4.conf.*.rp_filter = 2\n")

    assert packet_paths.configured_settings(str(tmp_path)) == {
        "net.ipv4.conf.all.proxy_arp": ["1"],
        "net.ipv4.conf.eth0/7.arp_ignore": ["1"],
        "net.ipv4.conf.*.rp_filter": ["2"],
    }


def test_links_of_pods_and_settings_of_their_programs_are_those_of_a_cluster() -> None:
    raw = {
        **converged(),
        "link_states": {"cni0": ["up", "kind bridge", "promiscuous"], "kube-ipvs0": ["kind dummy", "noarp", "up"]},
        "fixed_neighbours": {"10.244.1.7 on veth7": "fixed to 52:54:00:00:00:09"},
        "traffic_control": {"veth7": ["tbf root"]},
        "virtual_servers": ["TCP 0A600001:01BB"],
        "diverting_settings": {
            "net.ipv4.ip_forward": "1",
            "net.ipv4.conf.all.forwarding": "1",
            "net.ipv4.conf.all.route_localnet": "1",
            "net.ipv4.conf.cni0.proxy_arp": "1",
            "net.ipv4.conf.veth7.proxy_arp": "1",
        },
    }
    cluster = replace(declared(), host=declared().host.model_copy(update={"roles": {"kubernetes_node": {}}}))
    assert found(raw, cluster) == {}
    assert [*found(raw)] == ["RW-144", "RW-145", "RW-146", "RW-147"]

    raw["diverting_settings"]["net.ipv4.conf.fabric0.proxy_arp"] = "1"
    raw["fixed_neighbours"]["10.32.0.9 on fabric0"] = "fixed to 52:54:00:00:00:09"
    raw["traffic_control"]["fabric0"] = ["clsact ingress"]
    raw["link_states"]["fabric0"] = ["up", "promiscuous"]
    assert [*found(raw, cluster)] == ["RW-144", "RW-145", "RW-146", "RW-147"]


def test_a_setting_that_a_file_asks_for_is_left_to_the_rule_about_that_file() -> None:
    raw = {**converged(), "diverting_settings": {"net.ipv4.conf.fabric0.arp_filter": "1"}}
    assert [*found(raw)] == ["RW-147"]

    raw["configured_settings"] = {"net.ipv4.conf.*.arp_filter": ["0"]}
    assert [*found(raw)] == ["RW-147"]
    raw["configured_settings"] = {"net.ipv4.conf.*.arp_filter": ["1"]}
    assert found(raw) == {}


def test_what_is_unknown_is_never_fine() -> None:
    unread = {name: {"unknown": "no permission"} for name in packet_paths.READERS}
    rows = [
        row for id in IDS if id != "RW-052" for row in apply(RULES[id], Facts({**converged(), **unread}), declared())
    ]

    assert [is_unknown for _, is_unknown in rows] == [True] * 6
