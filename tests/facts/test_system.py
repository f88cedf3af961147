"""Identity, hardware, packages and files of a fabricated machine."""

import os

import pytest

from rackwright.facts.digest import digest
from rackwright.facts.facts import Facts
from rackwright.facts.probe import system
from rackwright.facts.probe.observe import attempt
from rackwright.facts.view import UnknownFact
from tests.support.fabricated_machine import FabricatedMachine

SALT = bytes(range(32))


@pytest.fixture
def machine(tmp_path):
    return FabricatedMachine(tmp_path)


def test_identity_is_what_the_firmware_says(machine):
    machine.write("sys/class/dmi/id/product_serial", "CH-RW01\n")
    machine.write("sys/class/dmi/id/product_uuid", "4C4C4544-0042-3510-8054-B7C04F4D3532\n")

    assert system.identity(machine.top) == {
        "serial": "CH-RW01",
        "uuid": "4c4c4544-0042-3510-8054-b7c04f4d3532",
        "bmc_mac": None,
        "device_tree_serial": None,
        "hostname": "gpu-01",
        "machine_id": "0123456789abcdef0123456789abcdef",
    }


PLACEHOLDERS = """
None|Not Specified|To Be Filled By O.E.M.|Default string|System Serial Number|0|00000000|XXXXXXXX|. . .
00000000-0000-0000-0000-000000000000|ffffffff-ffff-ffff-ffff-ffffffffffff
"""


@pytest.mark.parametrize("text", ["", *PLACEHOLDERS.strip().replace("\n", "|").split("|")])
def test_a_placeholder_is_no_identity(text):
    assert system.without_placeholder(text) is None


def test_a_board_without_dmi_is_known_by_its_device_tree(machine):
    machine.write("proc/device-tree/serial-number", b"10000000abcdef01\0")

    assert system.identity(machine.top)["device_tree_serial"] == "10000000abcdef01"


def test_a_bmc_that_was_not_asked_is_not_absent(machine):
    machine.write("dev/ipmi0", "")

    assert system.identity(machine.top)["bmc_mac"] == {"unknown": "the probe does not query the BMC"}


def test_hardware_and_release(machine):
    assert system.hardware(machine.top) == {"cpus": 1, "memory_bytes": 16 << 20, "pci": ["10de:20b2", "10de:20b2"]}
    assert system.release(machine.top) == {"id": "debian", "version_id": "12"}


@pytest.mark.parametrize(
    ("path", "section", "key"),
    [
        ("proc/meminfo", system.hardware, "memory_bytes"),
        ("proc/bus/pci/devices", system.hardware, "pci"),
        ("etc/os-release", system.release, "version_id"),
        ("etc/machine-id", system.identity, "machine_id"),
        ("proc/sys/kernel/hostname", system.identity, "hostname"),
    ],
)
def test_what_is_not_there_to_be_read_is_unknown_and_takes_nothing_along(machine, path, section, key):
    before = section(machine.top)
    (machine.root / path).unlink()
    after = section(machine.top)

    changed = {key for key in before if before[key] != after[key]}
    assert key in changed <= {"id", "version_id"} | {key}
    assert after[key].keys() == {"unknown"}


STATUS = """\
Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.21.22
Description: the first line
 Version: of a description

Package: libc6
Status: hold ok installed
Architecture: amd64
Version: 2.36-9

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.36-9

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2024a

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: half
Status: install ok half-configured
Architecture: amd64
Version: 1
"""


def test_installed_packages_are_those_of_dpkg(machine):
    machine.write("var/lib/dpkg/status", f"{STATUS}\n")

    assert system.packages(machine.top) == {
        "dpkg": "1.21.22",
        "libc6": "2.36-9",
        "libc6:i386": "2.36-9",
        "tzdata": "2024a",
    }


def test_a_hold_counts_for_what_is_installed(machine):
    gone = "Package: gone\nStatus: hold ok config-files\nArchitecture: amd64\nVersion: 1\n"
    foreign = "Package: libgcc1\nStatus: hold ok installed\nArchitecture: i386\nVersion: 1\n"
    machine.write("var/lib/dpkg/status", "\n".join([STATUS, gone, foreign, ""]))

    assert system.held_packages(machine.top) == ["libc6", "libgcc1:i386"]


def test_without_dpkg_no_hold_is_known(machine):
    (machine.root / "var/lib/dpkg/status").unlink()

    assert attempt(system.held_packages, machine.top) == {"unknown": "rpm has no holds; versionlock is not read"}


def test_neither_dpkg_nor_rpm_means_packages_unknown(machine, monkeypatch):
    (machine.root / "var/lib/dpkg/status").unlink()
    monkeypatch.setattr("rackwright.facts.probe.observe.ENVIRONMENT", {"PATH": "/nowhere"})
    monkeypatch.setenv("PATH", "/nowhere")

    assert attempt(system.packages, machine.top) == {"unknown": "rpm is not installed"}


def test_files_carry_a_keyed_digest_mode_owner_and_time(machine):
    place = machine.write("etc/ssl/key.pem", "secret")
    place.chmod(0o640)
    os.utime(place, ns=(1, 1_700_000_000_123_456_789))
    place.with_name("link").symlink_to("key.pem")

    found, _ = system.tree(machine.top, SALT)

    assert found["/etc/ssl/key.pem"] == {
        "digest": digest(b"secret", SALT),
        "mode": "0640",
        "owner": system.owner_name(os.getuid(), os.getgid()),
        "mtime_ns": 1_700_000_000_123_456_789,
    }
    assert found["/etc/ssl/link"]["digest"] == "-> key.pem"
    assert system.tree(machine.top, b"another")[0]["/etc/ssl/key.pem"]["digest"] != digest(b"secret", SALT)


@pytest.mark.parametrize(
    ("target", "digest"),
    [
        ("/usr/share/zoneinfo/Zurich", "-> /usr/share/zoneinfo/Zurich, which does not exist"),
        ("/usr/share", "-> /usr/share"),
        ("/dev/null", "-> /dev/null"),
        # the probe follows no link to a place that may be a mount of a dead server
        ("/mnt/absent", "-> /mnt/absent"),
    ],
)
def test_a_link_that_leads_to_nothing_has_another_digest(machine, target, digest):
    machine.write("etc/hostname", "alpha").with_name("localtime").symlink_to(target)

    assert system.tree(machine.top, SALT)[0]["/etc/localtime"]["digest"] == digest


def test_what_has_no_digest_says_why(machine):
    machine.write("etc/big", b"x" * (system.FILE_BYTES + 1))
    machine.write("etc/largest", b"x" * system.FILE_BYTES)
    os.mkfifo(machine.root / "etc/fifo")

    found, _ = system.tree(machine.top, SALT)

    assert found["/etc/big"]["digest"] == {"unknown": "larger than 1 MiB"}
    assert found["/etc/fifo"]["digest"] == {"unknown": "neither a file nor a link"}
    assert isinstance(found["/etc/largest"]["digest"], str)


def test_a_folder_that_cannot_be_entered_is_not_empty(machine, monkeypatch):
    machine.write("etc/closed/file", "")
    machine.write("etc/open/file", "")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)

    found, _ = system.tree(machine.top, SALT)

    assert found["/etc/closed"] == {"unknown": "Permission denied"}
    assert "/etc/open/file" in found


def test_another_filesystem_is_not_entered():
    files: dict = {}
    directories: dict = {}
    system.walk("", "/proc/self/attr", -1, SALT, files, directories, system.Changes(system.NEVER))

    assert files == {"/proc/self/attr": {"unknown": "another filesystem is mounted here"}}
    assert directories["/proc/self/attr"]["mode"] == "0555"


def test_directories_are_there_from_the_roots_on_with_mode_and_owner(machine):
    machine.write("etc/ssl/private/key.pem", "secret")
    private = machine.root / "etc/ssl/private"
    private.chmod(0o2710)
    os.utime(private, ns=(1, 5))
    (machine.root / "etc/ssl/link").symlink_to("private")

    files, directories = system.tree(machine.top, SALT)

    assert list(directories) == ["/etc", "/etc/ssl", "/etc/ssl/private"]
    owner = system.owner_name(os.getuid(), os.getgid())
    assert directories["/etc/ssl/private"] == {"mode": "2710", "owner": owner, "mtime_ns": 5}
    assert "/etc/ssl/link" in files


def test_what_the_system_rewrites_is_listed_and_never_digested(machine):
    machine.write("var/lib/totp/trainee", "JBSWY3DP 30 1").chmod(0o400)

    files, directories = system.tree(machine.top, SALT)

    assert files["/var/lib/totp/trainee"]["digest"] == {"unknown": "rewritten by the system"}
    assert files["/var/lib/totp/trainee"]["mode"] == "0400"
    assert "/var/lib/totp" in directories


def test_of_a_locale_only_the_file_that_is_written_last_is_listed(machine):
    for name in ("LC_IDENTIFICATION", "LC_CTYPE", "LC_MESSAGES/SYS_LC_MESSAGES"):
        machine.write(f"usr/lib/locale/en_US.utf8/{name}", "x")
    machine.write("usr/lib/locale/de_DE.utf8/LC_CTYPE", "x")
    (machine.root / "usr/lib/locale/link.utf8").symlink_to("en_US.utf8")

    files, _ = system.tree(machine.top, SALT)

    assert {path for path in files if path.startswith(system.LOCALES)} == {
        "/usr/lib/locale/en_US.utf8/LC_IDENTIFICATION",
        "/usr/lib/locale/link.utf8",
    }


def test_locales_that_cannot_be_listed_are_unknown(machine):
    machine.write("usr/lib/locale", "a file")

    files, _ = system.tree(machine.top, SALT)

    assert files[system.LOCALES]["unknown"].endswith("Not a directory")


def test_links_among_the_plugins_for_pods_are_listed(machine):
    """
    A link to nothing says so: containerd would start no pod with it.
    """
    machine.write("usr/lib/cni/bridge", "x")
    machine.write("usr/local/lib/cni/teams", "x")
    for name, target in (("teams", "../../local/lib/cni/teams"), ("gone", "/usr/nowhere")):
        (machine.root / "usr/lib/cni" / name).symlink_to(target)

    files, _ = system.tree(machine.top, SALT)

    assert {
        path: files[path]["digest"] for path in files if path.startswith(system.PLUGINS) and "bridge" not in path
    } == {
        "/usr/lib/cni/gone": "-> /usr/nowhere, which does not exist",
        "/usr/lib/cni/teams": "-> ../../local/lib/cni/teams",
    }
    assert "/usr/lib/cni/bridge" in files


def test_an_owner_without_a_name_is_a_number():
    assert system.owner_name(4_000_000_001, 0) == "4000000001:root"
    assert system.owner_name(0, 4_000_000_002) == "root:4000000002"


def test_texts_are_brought_along_with_passwords_masked(machine):
    machine.write("etc/mdadm/mdadm.conf", "HOMEHOST <system>\n")
    machine.write("etc/mdadm/mdadm.conf.d/hot.conf", "ARRAY /dev/md/hot\r\n")
    machine.write("etc/mdadm/mdadm.conf.d/notes.txt", "not read")
    machine.write("etc/systemd/system/srv-smb.mount", "Options=rw,username=a,password=geheim,credentials=/etc/c\n")
    machine.write("etc/systemd/system/srv-odd.mount", b"\xff\xfe")
    (machine.root / "etc/systemd/system/srv-masked.mount").symlink_to("/dev/null")
    (machine.root / "etc/systemd/system/srv-folder.mount").mkdir()

    found = system.texts(machine.top)

    assert found.pop("/etc/systemd/system/srv-odd.mount")["unknown"].startswith("UnicodeDecodeError")
    assert found.pop("/etc/systemd/system/srv-folder.mount") == {"unknown": "neither a file nor a link to one"}
    assert found == {
        "/etc/mdadm/mdadm.conf": "HOMEHOST <system>\n",
        "/etc/mdadm/mdadm.conf.d/hot.conf": "ARRAY /dev/md/hot\r\n",
        "/etc/systemd/system/srv-smb.mount": "Options=rw,username=a,password=***,credentials=***\n",
        "/etc/systemd/system/srv-masked.mount": "",
    }


@pytest.mark.parametrize(
    ("path", "written", "expected"),
    [
        ("netplan/a.yaml", "  password: geheim\n  mtu: 9000\n", "  password: '***'\n  mtu: 9000\n"),
        ("netplan/a.yaml", '{ssid: x, password: "ge heim", mtu: 1}\n', "{ssid: x, password: '***', mtu: 1}\n"),
        ("netplan/a.yaml", "keys:\n  private: geheim=\n", "keys:\n  private: '***'\n"),
        ("netplan/a.yaml", "auth: {key: geheim}\nlink: a\n", "auth: {key: '***'}\nlink: a\n"),
        ("systemd/network/wg.netdev", "PrivateKey=geheim\nName=wg0\n", "PrivateKey='***'\nName=wg0\n"),
        ("network/interfaces", "  wpa-psk geheim haus\nauto eth0\n", "  wpa-psk '***'\nauto eth0\n"),
        ("network/interfaces.d/eth0", "iface eth0 inet dhcp\n", "iface eth0 inet dhcp\n"),
    ],
)
def test_of_network_files_all_is_brought_but_secrets(machine, path, written, expected):
    machine.write(f"etc/{path}", written)

    assert system.texts(machine.top) == {f"/etc/{path}": expected}


def test_owner_files_are_read_one_by_one(machine):
    machine.write("var/lib/rackwright/owners/tier-hot.json", '{"id": "gpu-01/hot", "phase": "ready"}')
    machine.write("var/lib/rackwright/owners/tier-cut.json", '{"id": "gpu')
    machine.write("var/lib/rackwright/owners/tier-list.json", "[]")

    found = system.owners(machine.top)

    assert found["tier-hot"] == {"id": "gpu-01/hot", "phase": "ready"}
    assert found["tier-cut"]["unknown"].startswith("JSONDecodeError")
    assert found["tier-list"] == {"unknown": "not a JSON object"}


def test_each_initramfs_of_an_installed_kernel_is_there(machine):
    for name in ("initrd.img-6.1.0-30-amd64", "initrd.img-6.1.0-29-amd64.old-dkms", "initrd.img.bak", "vmlinuz-6.1"):
        os.utime(machine.write(f"boot/{name}", ""), ns=(5, 5))

    assert system.initramfs(machine.top) == [{"path": "/boot/initrd.img-6.1.0-30-amd64", "mtime_ns": 5}]


def test_an_environment_of_python_is_reported_by_its_packages_and_not_by_its_files(machine):
    """
    A package that was cut off while it was installed is not there yet.
    """
    place = "opt/rackwright/mlflow/0123"
    machine.write(f"{place}/pyvenv.cfg", "home = /usr/bin\n")
    for name in ("Flask_WTF-1.3.0", "zope.interface-7.0", "huey-3.5.4", "huey-4.0"):
        machine.write(f"{place}/lib/python3.11/site-packages/{name}.dist-info/RECORD", "")
    machine.write(f"{place}/lib/python3.11/site-packages/cut_off-1.dist-info/METADATA", "")
    machine.write("opt/rackwright/mlflow/requirements.txt", "flask-wtf==1.3.0\n")
    files, directories = system.tree(machine.top, SALT)

    assert system.environments(machine.top) == {
        f"/{place}": {"flask-wtf": "1.3.0", "huey": "3.5.4, 4.0", "zope-interface": "7.0"}
    }
    assert [path for path in files if path.startswith("/opt/")] == [
        f"/{place}",
        "/opt/rackwright/mlflow/requirements.txt",
    ]
    assert "of which only the packages are read" in files[f"/{place}"]["unknown"]
    assert f"/{place}" in directories


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give directories away")
def test_a_directory_of_another_account_is_there_and_not_entered(machine):
    machine.write("var/lib/rackwright/runs/x/state.json", "{}")
    os.chown(f"{machine.top}/var/lib/rackwright/runs/x", 65534, 65534)
    files, directories = system.tree(machine.top, SALT)

    assert directories["/var/lib/rackwright/runs/x"]["owner"] == "nobody:nogroup"
    assert "/var/lib/rackwright/runs/x/state.json" not in files
    facts = Facts({"files": files, "directories": directories, "covers": {"files": system.FILE_ROOTS}})
    with pytest.raises(UnknownFact, match="is not entered"):
        facts.file("/var/lib/rackwright/runs/x/state.json")


def test_all_names_of_the_time_zone_are_known(machine):
    zones = machine.write("usr/share/zoneinfo/Etc/UTC", "TZif2 utc").parent.parent
    machine.write("usr/share/zoneinfo/Europe/Oslo", "TZif2 oslo")
    (zones / "UTC").symlink_to("Etc/UTC")
    (zones / "Zulu").hardlink_to(zones / "Etc/UTC")
    (zones / "gone").symlink_to("nowhere")
    machine.write("etc/hostname", "alpha").with_name("localtime").symlink_to("../usr/share/zoneinfo/UTC")

    found = system.tree(machine.top, SALT)[0]["/etc/localtime"]

    assert found["same_as"] == [f"/usr/share/zoneinfo/{name}" for name in ("Etc/UTC", "UTC", "Zulu")]
    assert "same_as" not in system.tree(machine.top, SALT)[0]["/etc/hostname"]
