"""Settings, modules and the command line of a fabricated kernel."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackwright.facts.probe import kernel
from rackwright.facts.probe.observe import attempt
from tests.support.fabricated_machine import FabricatedMachine


@pytest.fixture
def machine(tmp_path):
    return FabricatedMachine(tmp_path)


def test_settings_have_the_names_of_sysctl_and_single_blanks(machine):
    machine.write("proc/sys/vm/swappiness", "60\n")
    machine.write("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n")
    machine.write("proc/sys/net/ipv4/conf/all/rp_filter", "0\n")
    machine.write("proc/sys/dev/cdrom/info", "CD-ROM information\n\ndrive name:\t\t\n")
    machine.write("proc/sys/user/odd.name", "1\n")
    machine.write("proc/sys/kernel/modprobe", "\n")

    assert kernel.sysctls(machine.top) == {
        "vm.swappiness": "60",
        "net.ipv4.ip_local_port_range": "32768 60999",
        "net.ipv4.conf.all.rp_filter": "0",
        "dev.cdrom.info": "CD-ROM information drive name:",
        "user.odd/name": "1",
        "kernel.modprobe": "",
        "kernel.hostname": "gpu-01",
        "kernel.osrelease": "6.1.0-30-amd64",
    }


@pytest.mark.parametrize(
    "key",
    [
        "net/ipv4/conf/eth0/rp_filter",
        "net/ipv6/conf/eth0.100/mtu",
        "net/ipv4/neigh/allmulti0/gc_stale_time",
        "net/ipv6/neigh/default0/gc_stale_time",
        "net/ipv6/conf/default/stable_secret",
        "net/ipv4/tcp_fastopen_key",
        "net/netfilter/nf_conntrack_count",
        "kernel/random/uuid",
        "kernel/ns_last_pid",
        "kernel/pty/nr",
        "kernel/sched_domain/cpu0/domain0/flags",
        "fs/file-nr",
        "fs/dentry-state",
        "fs/quota/syncs",
        "fs/binfmt_misc/status",
        "vm/stat_refresh",
    ],
)
def test_what_is_of_one_interface_or_changes_by_itself_or_is_secret_is_left_out(machine, key):
    before = kernel.sysctls(machine.top)
    machine.write(f"proc/sys/{key}", "1\n")

    assert kernel.sysctls(machine.top) == before


@pytest.mark.parametrize(
    "key",
    [
        "fs/nr_open",
        "fs/aio-max-nr",
        "kernel/pty/max",
        "net/ipv4/neigh/default/gc_thresh1",
        "net/netfilter/nf_conntrack_max",
    ],
)
def test_what_only_looks_like_it_is_kept(machine, key):
    machine.write(f"proc/sys/{key}", "1\n")

    assert kernel.sysctls(machine.top)[key.replace("/", ".")] == "1"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe\n", "UnicodeDecodeError"),
        (b"a\0b\n", "not a text"),
        (b"1 " * kernel.SETTING_BYTES, "longer than 16384 bytes"),
    ],
)
def test_a_value_that_is_no_text_hides_no_other(machine, content, reason):
    machine.write("proc/sys/kernel/odd", content)

    found = kernel.sysctls(machine.top)

    assert found["kernel.odd"]["unknown"].startswith(reason)
    assert found["kernel.hostname"] == "gpu-01"


def test_what_can_only_be_written_is_no_value_and_what_may_not_be_read_is_unknown(machine, monkeypatch):
    machine.write("proc/sys/vm/compact_memory", "").chmod(0o200)
    machine.write("proc/sys/kernel/cad_pid", "1\n").chmod(0o600)
    opened = os.open

    def refuse(path, flags):
        """Refuse as the kernel does for /proc/sys, whoever asks."""
        if str(path).endswith(("compact_memory", "cad_pid")):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags)

    monkeypatch.setattr(os, "open", refuse)

    found = kernel.sysctls(machine.top)

    assert "vm.compact_memory" not in found
    assert "Permission denied" in found["kernel.cad_pid"]["unknown"]


def test_a_folder_of_settings_that_cannot_be_entered_is_not_empty(machine, monkeypatch):
    machine.write("proc/sys/vm/swappiness", "60\n")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/vm"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)

    found = kernel.sysctls(machine.top)

    assert "Permission denied" in found["vm"]["unknown"]
    assert found["kernel.hostname"] == "gpu-01"


def test_no_proc_means_no_setting_is_known(tmp_path):
    assert attempt(kernel.sysctls, str(tmp_path)).keys() == {"unknown"}


def test_modules_are_loaded_or_part_of_the_running_kernel(machine):
    machine.write("proc/modules", "nvidia_uvm 1 0 - Live 0x0 (OE)\nmd_mod 2 2 raid1,raid10, Live 0x0\n")
    machine.write("lib/modules/6.1.0-30-amd64/modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/lib/crc-t10dif.ko.xz\n")
    machine.write("lib/modules/6.1.0-29-amd64/modules.builtin", "kernel/fs/xfs/xfs.ko\n")

    assert kernel.modules(machine.top) == ["md_mod", "nvidia_uvm"]
    assert kernel.modules_builtin(machine.top) == ["crc_t10dif", "ext4"]


def test_a_kernel_whose_files_are_gone_does_not_know_what_is_built_in(machine):
    machine.write("proc/sys/kernel/osrelease", "6.1.0-31-amd64\n")

    assert "6.1.0-31-amd64/modules.builtin" in attempt(kernel.modules_builtin, machine.top)["unknown"]
    assert attempt(kernel.modules, machine.top) == ["raid10"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("root=/dev/vda  ro\tquiet\n", ["root=/dev/vda", "ro", "quiet"]),
        ('dyndbg="file drivers/* +p" quiet', ["dyndbg=file drivers/* +p", "quiet"]),
        ('"dyndbg=file x +p" quiet', ["dyndbg=file x +p", "quiet"]),
        ('a=b="c d" e', ['a=b="c d"', "e"]),
        ('a="open until the end', ["a=open until the end"]),
        ('a="" ""', ["a=", ""]),
    ],
)
def test_the_command_line_is_cut_as_the_kernel_cuts_it(machine, line, words):
    machine.write("proc/cmdline", line)

    assert kernel.kernel_parameters(machine.top) == words


PLAIN = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"='), min_size=1)


@given(st.lists(st.tuples(PLAIN, PLAIN)))
def test_a_value_is_the_same_with_and_without_quotes(pairs):
    bare = " ".join(f"{key}={value}" for key, value in pairs)
    quoted = " ".join(f'{key}="{value}"' for key, value in pairs)

    assert [kernel.unquote(word) for word in kernel.WORD.findall(quoted)] == bare.split()
