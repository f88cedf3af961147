"""Files beside the packages, rights, schedules, archives and listeners of a fabricated machine."""

import hashlib

import pytest

from rackwright.facts.probe import archives, containers, kernel, packaged, processes, rights, schedules
from rackwright.facts.probe.observe import ReadError
from tests.support.fabricated_machine import FabricatedMachine

DPKG = "Package: dpkg\nStatus: install ok installed\nPriority: required\nArchitecture: amd64\nVersion: 1\n"


@pytest.fixture
def machine(tmp_path):
    return FabricatedMachine(tmp_path)


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class TestPackaged:
    def test_a_changed_a_missing_and_a_linked_file_of_a_package_are_distinguished(self, machine):
        paths = "".join(f" /etc/{name} {md5('x')}\n" for name in ("same", "changed", "missing", "link"))
        machine.write("var/lib/dpkg/status", f"{DPKG}Conffiles:\n{paths}\n")
        machine.write("etc/same", "x")
        machine.write("etc/changed", "y")
        (machine.root / "etc/link").symlink_to("same")

        assert packaged.changed_conffiles(machine.top) == {
            "/etc/changed": "changed",
            "/etc/missing": "missing",
            "/etc/link": "link",
        }

    def test_programs_of_the_base_system_are_known_by_both_of_their_paths(self, machine):
        other = "Package: nc\nStatus: install ok installed\nPriority: optional\nArchitecture: amd64\nVersion: 1\n"
        machine.write("var/lib/dpkg/status", f"{DPKG}\n{other}\n")
        machine.write("var/lib/dpkg/info/dpkg:amd64.list", "/sbin/dhclient\n/usr/bin/dpkg\n")
        machine.write("var/lib/dpkg/info/nc.list", "/usr/bin/nc\n")

        found = packaged.base_programs(machine.top, ["/usr/sbin/dhclient", "/usr/bin/dpkg", "/usr/bin/nc"])

        assert found == ["/usr/bin/dpkg", "/usr/sbin/dhclient"]


class TestRights:
    def test_the_rules_of_sudo_are_whole_lines_without_settings(self, machine):
        machine.write(
            "etc/sudoers",
            "# a comment\nDefaults env_reset\nroot ALL=(ALL:ALL) \\\n  ALL\n"
            "#includedir /etc/sudoers.d\n@include /opt/x\n",
        )
        machine.write("etc/sudoers.d/eve", "eve\tALL=(ALL) NOPASSWD: ALL # since 2024\n#1007 ALL=(ALL) ALL\n")
        machine.write("etc/sudoers.d/skipped.conf", "mallory ALL=(ALL) ALL\n")

        assert rights.sudoers(machine.top) == {
            "/etc/sudoers": ["root ALL=(ALL:ALL) ALL", "include /opt/x"],
            "/etc/sudoers.d/eve": ["eve ALL=(ALL) NOPASSWD: ALL", "#1007 ALL=(ALL) ALL"],
        }

    def test_the_modules_of_pam_are_those_of_lines_that_count(self, machine):
        machine.write(
            "etc/pam.d/su", "auth sufficient pam_rootok.so\n# auth required pam_wheel.so\n-auth optional pam_x.so a\n"
        )
        machine.write("usr/share/pam-configs/unix", "Auth:\n\t[success=end] pam_unix.so nullok\n")

        assert rights.pam_modules(machine.top) == {"/etc/pam.d/su": ["pam_rootok.so", "pam_x.so"]}
        assert rights.pam_profile_modules(machine.top) == ["pam_unix.so"]


class TestSchedules:
    def test_a_crontab_tells_how_many_commands_it_has_and_not_which(self, machine):
        machine.write("var/spool/cron/crontabs/root", "# x\nMAILTO=a\n\n* * * * * curl -u a:secret x\n@reboot true\n")

        assert schedules.crontabs(machine.top) == {"root": 2}

    def test_units_of_accounts_are_found_and_a_link_of_an_account_is_not_followed(self, machine):
        accounts = ("eve", "mallory", "plain")
        lines = [f"{name}:x:{1000 + index}:1000::/home/{name}:/bin/bash" for index, name in enumerate(accounts)]
        machine.write("etc/passwd", "\n".join((*lines, "svc:x:999:999::/home/eve:/usr/sbin/nologin")) + "\n")
        machine.write("home/eve/.config/systemd/user/x.timer", "")
        (machine.root / "home/mallory").mkdir()
        (machine.root / "home/mallory/.config").symlink_to("/root")
        (machine.root / "home/plain").mkdir()

        units = schedules.user_units(machine.top)

        assert units["eve"] == ["x.timer"]
        assert "links are not followed" in units["mallory"]["unknown"]
        assert {*units} == {"eve", "mallory"}


class TestArchives:
    def test_each_enabled_archive_is_reported_with_its_key(self, machine):
        machine.write(
            "etc/apt/sources.list",
            "deb http://deb.example/debian bookworm main\n# deb http://off.example x main\n"
            "deb [arch=amd64 trusted=yes] http://user:pw@x.example y main\n",
        )
        machine.write(
            "etc/apt/sources.list.d/a.sources",
            "Types: deb\nURIs: http://a.example\nSuites: s t\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n\n"
            "Types: deb\nURIs: http://b.example\nSuites: s\nEnabled: no\n",
        )
        found = [(row["uri"], row["suite"], row["key"], row["unchecked"]) for row in archives.archives(machine.top)]

        assert found == [
            ("http://deb.example/debian", "bookworm", None, False),
            ("http://***@x.example", "y", None, True),
            ("http://a.example", "s", "inline", False),
            ("http://a.example", "t", "inline", False),
        ]

    def lists(self, machine: FabricatedMachine, name: str, origin: str, *packages: str) -> None:
        machine.write(
            f"var/lib/apt/lists/{name}_InRelease", f"-----BEGIN PGP SIGNED MESSAGE-----\n\nOrigin: {origin}\n"
        )
        text = "\n".join(f"Package: {package}\nVersion: 1\n" for package in packages)
        machine.write(f"var/lib/apt/lists/{name}_main_binary-amd64_Packages", text)

    def test_a_package_that_the_distribution_has_not_is_foreign(self, machine):
        self.lists(machine, "deb.example_dists_bookworm", "Debian", "dpkg", "tar")
        self.lists(machine, "x.example_dists_s", "Vendor", "tool", "tar")
        installed = dict.fromkeys(("dpkg", "tar", "tool", "local", "libc6:i386"), "1")

        assert archives.foreign_packages(machine.top, installed) == {"libc6": "", "local": "", "tool": "Vendor"}

    def test_without_a_list_of_the_distribution_or_with_one_that_is_packed_nothing_is_known(self, machine):
        self.lists(machine, "x.example_dists_s", "Vendor", "tool")
        with pytest.raises(ReadError, match="no list of debian's packages"):
            archives.foreign_packages(machine.top, {"dpkg": "1"})

        machine.write("var/lib/apt/lists/d_dists_b_main_binary-amd64_Packages.lz4", b"\4\x22M\x18")
        with pytest.raises(ReadError, match="is compressed"):
            archives.foreign_packages(machine.top, {"dpkg": "1"})


class TestProcesses:
    def test_a_listener_is_reported_with_its_programs_and_units(self, machine):
        row = "   0: 00000000:115C 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1\n"
        machine.write(
            "proc/net/tcp", f"  sl  local_address\n{row}{row.replace('4711', '4712').replace('115C', '115D')}"
        )
        folder = machine.root / "proc/7/fd"
        folder.mkdir(parents=True)
        for number, target in enumerate(("socket:[4711]", "/dev/null", "/etc/x")):
            (folder / str(number)).symlink_to(target)
        (machine.root / "proc/7/exe").symlink_to("/usr/bin/nc")
        machine.write("proc/7/cgroup", "0::/system.slice/nc.service/inner\n")

        users = processes.open_files(machine.top)
        found = [
            (each["port"], each["programs"], each["units"])
            for each in processes.listeners(machine.top, users)
            if each["protocol"] == "tcp"
        ]

        assert users == {"socket:[4711]": [7], "/dev/null": [7]}
        assert found == [(0x115C, ["/usr/bin/nc"], ["nc.service"]), (0x115D, [], [])]

    def test_a_pod_without_a_unit_is_reported_with_its_control_group(self, machine):
        """
        Another group of such a name, below that of an account, is none.
        """
        pod = f"k8s.io/{'0a' * 32}"
        machine.write("proc/7/cgroup", f"1:name=systemd:/\n0::/{pod}\n")
        machine.write("proc/8/cgroup", f"0::/user.slice/{pod}\n")

        assert processes.unit(f"{machine.top}/proc/7") == pod
        assert processes.unit(f"{machine.top}/proc/8") == ""


def test_the_flags_of_modules_and_the_words_of_grub_are_reported(machine):
    machine.write("proc/modules", "ext4 1 0 - Live 0x0\nnvidia 1 0 - Live 0x0 (POE)\nold 1 0 - Live 0x0 (O+)\n")
    machine.write("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet iommu=pt"\nGRUB_TIMEOUT=5\n')
    machine.write("etc/default/grub.d/50-x.cfg", 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX console=ttyS0"\n')

    assert kernel.module_taints(machine.top) == {"nvidia": "POE", "old": "O"}
    assert kernel.grub_parameters(machine.top) == {
        "/etc/default/grub": ["iommu=pt", "quiet"],
        "/etc/default/grub.d/50-x.cfg": ["console=ttyS0"],
    }


def test_the_containers_of_podman_and_docker_are_reported_with_their_images(machine):
    store = "var/lib/containers/storage"
    machine.write(f"{store}/overlay-images/images.json", '[{"id": "1f", "names": ["docker.io/library/nginx:1"]}]')
    machine.write(f"{store}/overlay-containers/containers.json", '[{"id": "2f", "names": ["web"], "image": "1f"}]')
    machine.write("var/lib/docker/containers/3f/config.v2.json", '{"Name": "/db", "Config": {"Image": "postgres:17"}}')
    (machine.root / "var/lib/docker/containers/empty").mkdir()

    assert containers.containers(machine.top) == {
        "podman": [{"name": "web", "image": "docker.io/library/nginx:1"}],
        "docker": [{"name": "db", "image": "postgres:17"}],
        "containerd": [],
    }
