"""Links of systemd and files of its generators: each is that of its own unit and its own line, and no other passes."""

import os
import subprocess
from pathlib import Path

import pytest

from rackwright.facts.probe import generated_files
from rackwright.facts.probe.generated_files import is_rendered, names
from rackwright.facts.probe.observe import ReadError, attempt
from rackwright.facts.probe.sources import System
from tests.support.genuine_system import CDI, MOUNT, SYSV, make_system

VENDOR = "/usr/lib/systemd/system"
UNITS = {
    "good.service": "[Service]\nExecStart=/usr/bin/good\n[Install]\nWantedBy=multi-user.target\nAlias=well.service\n",
    "evil.service": "[Service]\nExecStart=/bin/sh\n[Install]\nWantedBy=sysinit.target\n",
    "brings.service": "[Install]\nAlso=brought.service\nWantedBy=multi-user.target\n",
    "brought.service": "[Install]\nWantedBy=network-online.target\n",
    "nftables.service": "[Install]\nWantedBy=sysinit.target\n",
    "getty@.service": "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n",
    "serial-getty@.service": "[Service]\n",
    "static.service": "[Service]\n",
    "systemd-networkd.service": "[Service]\n",
}


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(generated_files, "OWNER", (os.geteuid(), os.getegid()))
    system = make_system(tmp_path)
    for name, text in UNITS.items():
        write(system, f"{VENDOR}/{name}", text)
    preset = "enable good.service\ndisable evil.service\ndisable brought.service\n"
    write(system, "/usr/lib/systemd/system-preset/90-x.preset", preset)
    return system


def write(system: System, path: str, text: str) -> None:
    place = Path(f"{system.root}{path}")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    place.chmod(0o644)


def passes(system: System, path: str) -> bool:
    return attempt(is_rendered, system, path) is True


@pytest.mark.parametrize(
    ("path", "target", "is_fine"),
    (
        ("/etc/systemd/system/multi-user.target.wants/good.service", "/lib/systemd/system/good.service", True),
        ("/etc/systemd/system/well.service", "/usr/lib/systemd/system/good.service", True),
        ("/etc/systemd/system/network-online.target.wants/brought.service", f"{VENDOR}/brought.service", True),
        ("/etc/systemd/system/getty.target.wants/getty@tty1.service", f"{VENDOR}/getty@.service", True),
        ("/etc/systemd/system/multi-user.target.wants/gone.service", f"{VENDOR}/gone.service", True),
        ("/etc/systemd/system/gone.service", "/dev/null", True),
        ("/etc/systemd/system/sysinit.target.wants/good.service", f"{VENDOR}/good.service", False),
        ("/etc/systemd/system/multi-user.target.requires/good.service", f"{VENDOR}/good.service", False),
        ("/etc/systemd/system/multi-user.target.wants/nftables.service", f"{VENDOR}/good.service", False),
        ("/etc/systemd/system/sysinit.target.wants/evil.service", f"{VENDOR}/evil.service", False),
        ("/etc/systemd/system/multi-user.target.wants/static.service", f"{VENDOR}/static.service", False),
        ("/etc/systemd/system/nftables.service", f"{VENDOR}/good.service", False),
        ("/etc/systemd/system/nftables.service", f"{VENDOR}/gone.service", False),
        ("/etc/systemd/system/nftables.service", "/run/systemd/generator.late/old.service", False),
        ("/etc/systemd/system/nftables.service", "/dev/null", False),
        ("/etc/systemd/system/getty@tty1.service", "/dev/null", False),
        ("/etc/systemd/system/getty.target.wants/getty@tty9.service", f"{VENDOR}/getty@.service", False),
        ("/etc/systemd/user/default.target.wants/good.service", f"{VENDOR}/good.service", False),
        ("/etc/apparmor.d/disable/usr.sbin.x", "/etc/apparmor.d/usr.sbin.x", False),
        ("/etc/apparmor.d/disable/usr.bin.thunderbird", "/etc/apparmor.d/usr.bin.thunderbird", True),
        (
            "/run/systemd/generator/getty.target.wants/serial-getty@ttyS0.service",
            f"{VENDOR}/serial-getty@.service",
            True,
        ),
        (
            "/run/systemd/generator/multi-user.target.wants/systemd-networkd.service",
            "../systemd-networkd.service",
            True,
        ),
        ("/run/systemd/generator/multi-user.target.wants/nftables.service", "../nftables.service", False),
        ("/run/systemd/generator/multi-user.target.wants/rc-local.service", "../systemd-networkd.service", False),
        ("/run/systemd/generator/local-fs.target.requires/srv.mount", "../srv.mount", True),
        ("/run/systemd/generator/local-fs.target.requires/tmp.mount", "../srv.mount", False),
        ("/run/systemd/generator/local-fs.target.requires/x.mount", "../x.mount", False),
        ("/run/systemd/generator/multi-user.target.wants/evil.service", f"{VENDOR}/evil.service", False),
        ("/run/systemd/generator/nftables.service", f"{VENDOR}/good.service", False),
        ("/run/systemd/generator.early/nftables.service", "/dev/null", False),
        ("/run/systemd/generator.late/other.service", "old.service", True),
        ("/run/systemd/generator.late/nftables.service", "old.service", False),
        ("/run/systemd/generator.early/other.service", "../generator.late/old.service", False),
    ),
)
def test_a_link_is_what_its_own_unit_asks_for(system, path, target, is_fine):
    place = Path(f"{system.root}{path}")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)

    assert passes(system, path) == is_fine


FSTAB = "UUID=4c0a11f5 /srv ext4 nodev,nosuid,noexec,ro,x-systemd.device-timeout=5 0 2\n"
OPTIONS = "Options=nodev,nosuid,noexec,ro"


@pytest.mark.parametrize(
    ("path", "text", "is_fine"),
    (
        ("generator/srv.mount", MOUNT.replace("Options=noatime", OPTIONS), True),
        ("generator/srv.mount", MOUNT.replace("Options=noatime", "Options=nodev,nosuid,noexec"), False),
        ("generator/srv.mount", MOUNT.replace("Options=noatime", f"{OPTIONS},exec"), False),
        ("generator/srv.mount", MOUNT.replace("Options=noatime\n", ""), False),
        ("generator/srv.mount", MOUNT.replace("Options=noatime", f"{OPTIONS}\nOptions=rw"), False),
        ("generator/tmp.mount", MOUNT.replace("Options=noatime", OPTIONS), False),
        ("generator.early/srv.mount", MOUNT.replace("Options=noatime", OPTIONS), False),
        ("generator/auditd.service", MOUNT.replace("Options=noatime", OPTIONS), False),
        ("generator/srv.mount", MOUNT.replace("Options=noatime", OPTIONS).replace("Type=ext4\n", ""), False),
        ("generator/srv.mount", MOUNT.replace("[Mount]", "ConditionPathExists=/no\n[Mount]"), False),
        ("generator/srv.mount", MOUNT.replace("[Mount]", "Conflicts=auditd.service\n[Mount]"), False),
        (
            "generator/home.mount",
            "# Automatically generated by systemd-gpt-auto-generator\n[Mount]\nWhat=/dev/sdb\nWhere=/home\nType=ext4\n",
            False,
        ),
        (
            "generator/nftables.service.d/10.conf",
            "# Automatically generated by systemd-fstab-generator\n[Unit]\nConditionPathExists=/no\n",
            False,
        ),
        (
            r"generator/dev-disk-by\x2duuid-4c0a11f5.device.d/50-device-timeout.conf",
            "# Automatically generated by systemd-fstab-generator\n[Unit]\nJobRunningTimeoutSec=5\n",
            True,
        ),
        (
            "generator/dev-sdz.device.d/50-device-timeout.conf",
            "# Automatically generated by systemd-fstab-generator\n[Unit]\nJobRunningTimeoutSec=5\n",
            False,
        ),
        ("generator.late/old.service", SYSV, True),
        ("generator.late/old.service", SYSV.replace("[Service]", "Conflicts=auditd.service\n[Service]"), False),
        ("generator.late/old.service", SYSV.replace("network-online.target", "auditd.service"), False),
        ("generator.late/other.service", SYSV, False),
        ("generator.early/auditd.service", SYSV, False),
        ("generator/old.service", SYSV, False),
    ),
)
def test_a_file_of_a_generator_is_that_of_its_own_line(system, path, text, is_fine):
    write(system, "/etc/fstab", FSTAB)
    write(system, f"/run/systemd/{path}", text)

    assert passes(system, f"/run/systemd/{path}") == is_fine


def test_a_script_whose_name_a_packaged_unit_has_gives_no_unit(system):
    write(system, "/etc/init.d/nftables", "")
    write(system, "/run/systemd/generator.late/nftables.service", SYSV.replace("init.d/old", "init.d/nftables"))

    assert not passes(system, "/run/systemd/generator.late/nftables.service")


@pytest.mark.parametrize(
    ("key", "options"),
    (("-", "luks,discard"), ("/root/key", "luks"), ("/root/key", ""), ("/other", "luks,discard")),
)
def test_a_mapping_has_the_key_and_the_options_of_its_line(system, key, options):
    path = "/run/systemd/generator/systemd-cryptsetup@crypt1.service"
    text = Path(f"{system.root}{path}").read_text()
    write(system, "/etc/crypttab", "crypt1 UUID=aa-bb /root/key luks,discard\n")
    write(system, path, text.replace("'/root/key' 'luks'", "'/root/key' 'luks,discard'"))
    assert passes(system, path)

    write(system, path, text.replace("'/root/key' 'luks'", f"'{key}' '{options}'"))
    assert not passes(system, path)


@pytest.mark.parametrize(
    ("old", "new"),
    (
        ("path: /dev/nvidia0", "path: /dev/sda"),
        ("path: /dev/nvidia0", "path: /dev/mem"),
        ("path: /dev/nvidia0", "path: /dev/nvidia0\n      hostPath: /dev/sda"),
        ("path: /dev/nvidia0", "path: /dev/nvidia0\n      type: b"),
        ("path: /dev/nvidia0", "path: /dev/nvidia0\n      major: 8\n      minor: 0"),
        ("    - ro\n", ""),
        ("    - ro\n", "    - rw\n"),
        ("hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.1", "hostPath: /dev/mapper/vg-root"),
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.1", "/usr/local"),
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.1", "/usr/../etc/shadow"),
        ("containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.1", "containerPath: /usr/bin/sh"),
        ("  env:\n", "  additionalGids:\n  - 0\n  env:\n"),
        ("path: /usr/bin/nvidia-ctk", "path: /bin/sh"),
        ("hookName: createContainer", "hookName: poststop"),
        (
            "    - ro\n    - nosuid\n",
            "    - nosuid\n  - hostPath: /usr/bin/nvidia-smi\n    options:\n    - ro\n    - ro\n",
        ),
    ),
)
def test_a_specification_of_devices_has_those_of_gpus_and_files_of_drivers_alone(system, old, new):
    assert old in CDI and passes(system, "/etc/cdi/nvidia.yaml")
    write(system, "/etc/cdi/nvidia.yaml", CDI.replace(old, new))

    assert not passes(system, "/etc/cdi/nvidia.yaml")


@pytest.mark.parametrize("lines", ("192.0.2.1 a\n" * 201, f"203.0.113.1 {' x' * 65}\n", f"203.0.113.1 {'x' * 300}\n"))
def test_names_for_which_the_facts_have_no_place_are_unknown(system, lines):
    write(system, "/etc/hosts", f"127.0.0.1 localhost\n{lines}")

    with pytest.raises(ReadError):
        names(system.root)
    assert not passes(system, "/etc/hosts")


@pytest.mark.parametrize("name", ("gpu-01.attacker.example", "gpu-01.example.attacker", "evil"))
def test_mail_has_a_name_that_the_host_has(system, name):
    assert passes(system, "/etc/mailname")
    write(system, "/etc/mailname", f"{name}\n")

    assert not passes(system, "/etc/mailname")


@pytest.mark.parametrize("folder", ("/etc/needrestart/hook.d", "/etc/NetworkManager/dispatcher.d", "/etc/x.d"))
@pytest.mark.parametrize("end", ("dpkg-old", "ucf-old"))
@pytest.mark.parametrize("mode", (0o644, 0o755))
def test_a_former_version_passes_in_no_directory_whose_programs_run(system, folder, end, mode):
    with Path(f"{system.root}/var/lib/dpkg/status").open("a") as file:
        file.write(f"Package: x\nStatus: install ok installed\nConffiles:\n {folder}/x {'0' * 32}\n\n")
    write(system, f"{folder}/x.{end}", "#!/bin/sh\nid\n")
    Path(f"{system.root}{folder}/x.{end}").chmod(mode)

    assert not passes(system, f"{folder}/x.{end}")


def test_a_former_version_that_may_be_executed_passes_nowhere(system):
    path = "/etc/other.conf.dpkg-old"
    assert passes(system, path)
    Path(f"{system.root}{path}").chmod(0o755)

    assert not passes(system, path)


GENERATORS = Path("/usr/lib/systemd/system-generators")
TABLE = """\
UUID=4c0a11f5 / ext4 errors=remount-ro 0 1
UUID=aa-bb /boot/efi vfat umask=0077 0 1
UUID=4c0a11f6 /srv ext4 noatime,nodev,x-systemd.device-timeout=5 0 2
/dev/md0 /data-x/.y xfs defaults,nofail,x-systemd.before=foo.service 0 2
LABEL=x /t auto defaults,x-systemd.automount,noauto 0 0
server:/x /nfs nfs4 rw,_netdev 0 0
tmpfs /tmp tmpfs nosuid,nodev 0 0
/bind /var/b none bind,x-systemd.growfs 0 0
"""
MAPPINGS = """\
crypt1 UUID=aa-bb /root/key luks,discard,x-systemd.device-timeout=3
crypt-2 /dev/sdx none luks,noauto
crypt3 UUID=cc - luks,keyfile-timeout=5s,nofail
crypts /dev/sdy /dev/urandom swap,cipher=aes-xts-plain64
"""


@pytest.mark.skipif(not (GENERATORS / "systemd-cryptsetup-generator").exists(), reason="needs systemd's generators")
def test_what_the_generators_of_this_machine_write_passes(system, tmp_path):
    write(system, "/etc/fstab", TABLE)
    write(system, "/etc/crypttab", MAPPINGS)
    for name in ("systemd-fsck-root.service", "systemd-remount-fs.service", "systemd-fsck@.service"):
        write(system, f"{VENDOR}/{name}", "")
    folders = [Path(f"{system.root}/run/systemd/generator{end}") for end in ("", ".early", ".late")]
    for folder in folders:
        for path in folder.glob("*") if folder.exists() else ():
            path.unlink()
        folder.mkdir(exist_ok=True)
    tables = {"SYSTEMD_FSTAB": f"{system.root}/etc/fstab", "SYSTEMD_CRYPTTAB": f"{system.root}/etc/crypttab"}
    for sort in ("fstab", "cryptsetup"):
        subprocess.run([GENERATORS / f"systemd-{sort}-generator", *folders], env=tables, check=True, timeout=20)
    found = [path for path in Path(f"{system.root}/run/systemd").rglob("*") if path.is_symlink() or path.is_file()]
    for path in found:
        if not path.is_symlink():
            path.write_text(path.read_text().replace(f"SourcePath={system.root}", "SourcePath="))
            path.chmod(0o644)
    refused = [str(path) for path in found if not passes(system, str(path)[len(system.root) :])]

    assert len(found) > 20
    assert not refused
