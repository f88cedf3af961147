"""The account of all files on a fabricated machine: packaged and unchanged, or listed with the reason."""

import hashlib
import os
import shutil
import struct
import subprocess
import time
from typing import Any

import pytest

from rackwright.facts.integrity import acl_entries, format_capabilities
from rackwright.facts.probe import digest_cache, file_integrity, file_walk, generated_files
from rackwright.facts.probe.file_integrity import COLLAPSED, ROWS_EACH
from rackwright.facts.probe.observe import attempt
from tests.support.fabricated_machine import FabricatedMachine

SALT = b"s" * 32
DPKG = "Package: dpkg\nStatus: install ok installed\nPriority: required\nArchitecture: amd64\nVersion: 1\n\n"
PACKAGED = ("usr/bin/tool", "usr/lib/tool/data", "etc/tool.conf", "usr/share/tool/icon")
NONE = 0xFFFFFFFF
"""Number of an entry of an access list without a name."""


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def machine(tmp_path):
    """A machine with one package, whose files are older than dpkg's list of them."""
    machine = FabricatedMachine(tmp_path)
    for path in PACKAGED:
        machine.write(path, path)
    (machine.root / "usr/bin/tool").chmod(0o755)
    (machine.root / "usr/bin/other").symlink_to("tool")
    machine.write("var/lib/dpkg/status", DPKG)
    sums = "".join(f"{md5(path)}  {path}\n" for path in PACKAGED)
    machine.write("var/lib/dpkg/info/tool.md5sums", sums)
    made = [str(path.relative_to(machine.root)) for path in machine.root.glob("etc/*")]
    lists = {f"/{path}" for path in (*PACKAGED, *made, "usr/bin/other")}
    folders = {folder for path in lists for folder in (path.rpartition("/")[0], path.rsplit("/", 2)[0])}
    machine.write("var/lib/dpkg/info/tool.list", "\n".join(["/.", *sorted(lists | folders), ""]))
    wait_for_the_clock(machine, "var/lib/dpkg/info/tool.list")
    return machine


def wait_for_the_clock(machine: FabricatedMachine, path: str) -> None:
    """Return when the kernel gives new files a later time than that of *path*: it counts in milliseconds."""
    probe = machine.root / "tick"
    while True:
        probe.write_text("")
        if probe.stat().st_ctime_ns > (machine.root / path).stat().st_mtime_ns:
            probe.unlink()
            return


def account(machine: FabricatedMachine) -> dict[str, Any]:
    found: dict[str, Any] = file_integrity.file_integrity(machine.top, SALT)
    return found


def states(machine: FabricatedMachine) -> dict[str, str]:
    found = account(machine)
    return {
        **dict.fromkeys(found["unpackaged"], "unpackaged"),
        **{path: row["state"] for path, row in found["files"].items()},
    }


def test_packaged_files_are_counted_and_not_listed(machine):
    found = account(machine)

    assert found["packaged"] > len(PACKAGED)
    assert (found["files"], found["unpackaged"], found["left_out"], found["pending"]) == ({}, [], {}, 0)


@pytest.mark.parametrize(
    "path",
    (
        "usr/bin/evil",
        "usr/lib/tool/evil.so",
        "etc/tool.conf.evil",
        "boot/evil",
        "var/spool/evil",
        "usr/local/bin/python3",
    ),
)
def test_a_file_of_no_package_is_listed_wherever_it_is(machine, path):
    machine.write(path, "evil")

    assert states(machine) == {f"/{path}": "unpackaged"}


@pytest.mark.parametrize(
    "path",
    (
        "run/systemd/system/evil.service",
        "run/systemd/system/ssh.service.d/evil.conf",
        "run/systemd/system.control/ssh.service.d/50-CPUQuota.conf",
        "run/systemd/journald.conf.d/evil.conf",
        "run/udev/rules.d/evil.rules",
        "run/modprobe.d/evil.conf",
        "run/sysctl.d/evil.conf",
        "run/tmpfiles.d/evil.conf",
        "run/NetworkManager/conf.d/evil.conf",
        "run/polkit-1/rules.d/evil.rules",
        "run/netplan/evil.yaml",
    ),
)
def test_a_setting_that_lasts_until_the_next_boot_is_listed(machine, path):
    machine.write(path, "evil")

    assert states(machine) == {f"/{path}": "unpackaged"}


def test_a_changed_file_differs_and_one_that_was_written_again_does_not(machine):
    machine.write("usr/bin/tool", "evil")
    machine.write("usr/lib/tool/data", "usr/lib/tool/data")

    assert states(machine) == {"/usr/bin/tool": "changed"}


def test_a_list_from_the_future_proves_nothing(machine):
    """The clock was wrong at the installation, or a person has set the time: digests decide."""
    later = time.time() + 30 * 86_400
    os.utime(machine.root / "var/lib/dpkg/info/tool.list", (later, later))
    assert states(machine) == {}

    machine.write("usr/bin/tool", "evil")
    assert states(machine) == {"/usr/bin/tool": "changed"}


def test_a_link_with_another_target_differs(machine):
    link = machine.root / "usr/bin/other"
    link.unlink()
    link.symlink_to("/tmp/evil")

    assert states(machine) == {"/usr/bin/other": "changed"}


def test_a_copied_system_is_judged_by_digests(machine, tmp_path_factory):
    """The kernel sets the times of changes of a copy; the list of the package came with the other files."""
    copy = FabricatedMachine(tmp_path_factory.mktemp("copy"))
    subprocess.run(["cp", "-a", f"{machine.top}/.", copy.top], check=True)
    os.utime(copy.root / "var/lib/dpkg/info/tool.list", (1e9, 1e9))

    assert states(copy) == {}

    copy.write("usr/share/tool/icon", "evil")
    assert states(copy) == {"/usr/share/tool/icon": "changed"}


def test_a_diverted_file_is_its_packages_and_one_in_its_place_is_not(machine):
    (machine.root / "usr/bin/tool").rename(machine.root / "usr/bin/tool.distrib")
    machine.write("usr/bin/tool", "evil")
    machine.write("var/lib/dpkg/diversions", "/usr/bin/tool\n/usr/bin/tool.distrib\n:\n")

    assert states(machine) == {"/usr/bin/tool": "unpackaged"}


def test_a_package_may_list_files_by_a_merged_path_and_through_a_link(machine):
    machine.write("usr/lib32/late.so", "")
    (machine.root / "lib32").symlink_to("usr/lib32")
    machine.write("usr/share/doc/real/copyright", "")
    (machine.root / "usr/share/doc/alias").symlink_to("real")
    text = "/lib32\n/lib32/late.so\n/usr/lib32\n/usr/share/doc\n/usr/share/doc/alias\n/usr/share/doc/real\n"
    text += "/usr/share/doc/alias/copyright\n"
    machine.write("var/lib/dpkg/info/late.list", text)

    assert states(machine) == {}


def test_bytecode_is_derived_if_it_names_its_packaged_source_as_it_stands(machine):
    machine.write("usr/lib/python3/x.py", "pass")
    machine.write("var/lib/dpkg/info/x.list", "/usr/lib/python3\n/usr/lib/python3/x.py\n")
    status = (machine.root / "usr/lib/python3/x.py").stat()
    header = b"\xa7\r\r\n" + struct.pack("<III", 0, int(status.st_mtime), status.st_size)
    machine.write("usr/lib/python3/__pycache__/x.cpython-311.pyc", header)
    machine.write("usr/lib/python3/__pycache__/y.cpython-311.pyc", header)

    found = account(machine)

    assert [*found["files"]] == ["/usr/lib/python3/__pycache__/y.cpython-311.pyc"]
    assert found["derived"] == 2

    machine.write("usr/lib/python3/__pycache__/x.cpython-311.pyc", header[:8] + b"\0" * 8)
    assert "/usr/lib/python3/__pycache__/x.cpython-311.pyc" in states(machine)


def test_a_large_directory_of_no_package_is_one_row_and_keeps_what_has_rights(machine):
    for number in range(COLLAPSED + 1):
        machine.write(f"usr/local/cuda/lib/{number}.so", "")
    machine.write("usr/local/cuda/bin/helper", "")
    (machine.root / "usr/local/cuda/bin/helper").chmod(0o4755)

    found = account(machine)["files"]

    assert {path: row.get("files") for path, row in found.items()} == {
        "/usr/local/cuda": COLLAPSED + 1,
        "/usr/local/cuda/bin/helper": None,
    }


def test_rows_that_are_left_out_are_counted(machine):
    for number in range(ROWS_EACH + 5):
        machine.write(f"boot/{number}", "")

    found = account(machine)

    assert (len(found["files"]), found["left_out"]) == (ROWS_EACH, {"/boot": 5})


@pytest.mark.parametrize(("limit", "reason"), (("ENTRIES_EACH", "it has more"), ("ENTRIES", "/var/spool has more")))
def test_a_directory_with_too_many_files_is_unread_and_all_others_are_judged(machine, monkeypatch, limit, reason):
    monkeypatch.setattr(file_walk, limit, 30)
    for number in range(31):
        machine.write(f"var/spool/mail-queue/{number}", "")
    machine.write("var/spool/evil", "")
    machine.write("etc/evil", "")

    found = account(machine)

    assert {path: row["state"] for path, row in found["files"].items() if row["state"] == "unread"} == {
        "/var/spool/mail-queue": "unread"
    }
    assert found["files"]["/var/spool/mail-queue"]["found"].startswith(reason)
    assert "/etc/evil" in found["unpackaged"] and "/var/spool/evil" in found["files"]


def test_without_lists_nothing_is_known(tmp_path):
    machine = FabricatedMachine(tmp_path)

    assert "has no lists" in attempt(file_integrity.file_integrity, machine.top, SALT)["unknown"]


class TestRights:
    @pytest.mark.parametrize("mode", (0o4755, 0o2755, 0o666, 0o775))
    def test_a_packaged_file_with_another_mode_is_listed(self, machine, mode):
        (machine.root / "usr/bin/tool").chmod(mode)

        [(path, row)] = account(machine)["files"].items()

        assert (path, row["state"], row["mode"]) == ("/usr/bin/tool", "packaged", f"{mode:04o}")

    @pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setcap"), reason="root and setcap")
    def test_a_capability_is_listed(self, machine):
        subprocess.run(["setcap", "cap_setuid,cap_net_raw=ep", machine.root / "usr/bin/tool"], check=True)

        row = account(machine)["files"]["/usr/bin/tool"]

        assert format_capabilities(bytes.fromhex(row["capabilities"])) == "cap_setuid,cap_net_raw"

    @pytest.mark.parametrize("path", ("etc", "usr/lib/tool", "usr/bin/tool"))
    def test_an_access_list_is_listed(self, machine, path):
        raw = struct.pack("<I", 2) + b"".join(
            struct.pack("<HHI", tag, rights, number)
            for tag, rights, number in (
                (1, 7, 0xFFFFFFFF),
                (2, 6, 1000),
                (4, 5, 0xFFFFFFFF),
                (16, 7, 0xFFFFFFFF),
                (32, 5, 0xFFFFFFFF),
            )
        )
        try:
            os.setxattr(machine.root / path, "system.posix_acl_access", raw)
        except OSError:
            pytest.skip("this filesystem has no access lists")

        row = account(machine)["files"][f"/{path}"]

        assert "user:1000:rw-" in [*acl_entries(bytes.fromhex(row["acl"]))]

    @pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("chattr"), reason="root and chattr")
    def test_an_attribute_that_keeps_root_from_changes_is_listed(self, machine):
        path = machine.root / "usr/bin/tool"
        if subprocess.run(["chattr", "+i", path], capture_output=True).returncode:
            pytest.skip("this filesystem has no attributes")
        try:
            assert account(machine)["files"]["/usr/bin/tool"]["flags"] == "immutable"
        finally:
            subprocess.run(["chattr", "-i", path], check=True)


class TestCache:
    @pytest.fixture(autouse=True)
    def settled(self, machine, monkeypatch):
        """Keep results of files that changed just now, as those of a fabricated machine."""
        if os.geteuid() != 0:
            pytest.skip("only root keeps a cache")
        (machine.root / "var/cache").mkdir(parents=True)
        monkeypatch.setattr(digest_cache, "SETTLED_SECONDS", -60.0)
        monkeypatch.setattr(digest_cache, "kept_devices", lambda: frozenset((machine.root.stat().st_dev,)))

    def test_the_next_probe_reads_neither_lists_nor_files_and_finds_the_same(self, machine, monkeypatch):
        machine.write("usr/bin/tool", "evil")
        machine.write("usr/bin/evil", "evil")
        first = account(machine)
        monkeypatch.setattr(file_integrity, "judge", None)

        assert account(machine) == first

    @pytest.mark.parametrize("change", ("content", "mode", "new", "gone", "database"))
    def test_each_change_is_found_beside_kept_results(self, machine, change):
        account(machine)
        path = machine.root / "usr/lib/tool/data"
        if change == "content":
            status = path.stat()
            machine.write("usr/lib/tool/data", "usr/lib/tool/datA")
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        elif change == "mode":
            path.chmod(0o4755)
        elif change == "new":
            machine.write("usr/lib/tool/new", "")
        elif change == "gone":
            path.unlink()
        else:
            (machine.root / "var/lib/dpkg/info/tool.list").unlink()
            machine.write("var/lib/dpkg/info/tool.list", "/usr/bin/tool\n")

        expected = {"content": {"changed"}, "mode": {"packaged"}, "new": {"unpackaged"}, "gone": {"missing"}}
        found = states(machine)
        if change == "database":
            assert found["/usr/lib/tool/data"] == "unpackaged"
        else:
            assert {*found.values()} == expected[change]


class TestRendered:
    def test_a_file_that_programs_write_from_packaged_ones_is_compared_with_these(self, machine, monkeypatch):
        monkeypatch.setattr(generated_files, "OWNER", (os.geteuid(), os.getegid()))
        for path in ("usr/share/base-files/motd", "etc/motd", "etc/environment"):
            machine.write(path, "" if path == "etc/environment" else "welcome\n").chmod(0o644)
        assert account(machine)["rendered"] == ["/etc/environment"]  # the source is of no package

        machine.write("var/lib/dpkg/info/base.list", "/usr/share/base-files\n/usr/share/base-files/motd\n")
        assert account(machine)["rendered"] == ["/etc/environment", "/etc/motd"]

        machine.write("var/lib/dpkg/info/base.md5sums", f"{md5('welcome')}  usr/share/base-files/motd\n")
        wait_for_the_clock(machine, "var/lib/dpkg/info/base.list")
        machine.write("usr/share/base-files/motd", "evil\n")
        machine.write("etc/motd", "evil\n")
        assert account(machine)["rendered"] == ["/etc/environment"]

    @pytest.mark.parametrize(
        ("line", "rows"),
        (
            ("127.0.1.1 alpha.example alpha", []),
            ("10.0.0.1 alpha", [["10.0.0.1", "alpha"]]),
            ("10.0.0.9 beta beta.example # hand", [["10.0.0.9", "beta", "beta.example"]]),
            ("203.0.113.66 localhost", [["203.0.113.66", "localhost"]]),
            ("203.0.113.66 ip6-localhost", [["203.0.113.66", "ip6-localhost"]]),
            ("127.0.0.1 ip6-allnodes", [["127.0.0.1", "ip6-allnodes"]]),
        ),
    )
    def test_names_at_addresses_that_are_not_the_hosts_own_are_listed(self, machine, line, rows):
        machine.write("proc/sys/kernel/hostname", "alpha\n")
        machine.write("etc/hosts", f"127.0.0.1 localhost\n::1 ip6-localhost\n{line}\n")

        assert account(machine)["names"] == rows

    @pytest.mark.parametrize("line", ("10.0.0.9 \rbeta", "10.0.0.9\x0b beta", "10.0.0.9", "10.0.0.9 b\\\neta"))
    def test_a_form_that_programs_read_in_different_ways_is_unknown(self, machine, line):
        machine.write("etc/hosts", f"127.0.0.1 localhost\n{line}\n")

        assert "unknown" in account(machine)["names"]

    def test_an_alternative_is_one_that_packages_registered(self, machine):
        database = "auto\n/usr/bin/awk\nawk.1\n/usr/share/man/awk.1\n\n/usr/bin/tool\n5\n/usr/lib/tool/data\n\n"
        machine.write("var/lib/dpkg/alternatives/awk", database)
        (machine.root / "etc/alternatives").mkdir()
        for path, target in (("usr/bin/awk", "/etc/alternatives/awk"), ("etc/alternatives/awk", "/usr/bin/tool")):
            (machine.root / path).symlink_to(target)
        assert states(machine) == {}

        (machine.root / "etc/alternatives/awk").unlink()
        (machine.root / "etc/alternatives/awk").symlink_to("/usr/bin/evil")
        assert states(machine) == {"/etc/alternatives/awk": "unpackaged"}
