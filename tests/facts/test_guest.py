"""The probe in a virtual machine, against what the system's own tools say there."""

import json
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from rackwright.facts import probe
from rackwright.facts.facts import Facts
from rackwright.facts.network import LinkFacts
from rackwright.facts.probe import block, system
from rackwright.facts.view import UnknownFact
from rackwright.twin import Twin, VirtualDrive, VirtualMachine, VirtualNic

pytestmark = pytest.mark.twin

DRIVES = (
    VirtualDrive("F1-BOOT", "virtio", 4 << 30, boot=True),
    VirtualDrive("F1-NVME0", "nvme", 256_000_000),
    VirtualDrive("F1-NVME1", "nvme", 256_000_000),
    VirtualDrive("F1-SAS0", "sas", 512_000_000, rotational=True, wwn="0x5000c50000000f10"),
    VirtualDrive("F1-SAS1", "sas", 256_000_000, rotational=True, wwn="0x5000c50000000f11"),
)
NICS = (VirtualNic("rack0", "52:54:00:01:00:01", 9000), VirtualNic("rack1", "52:54:00:01:00:02"))
STORAGE = """
set -e
by_serial() { lsblk --nodeps --noheadings --paths --output NAME,SERIAL | awk -v serial="$1" '$2 == serial {print $1}'; }
mdadm --create /dev/md/hot --run --homehost=gpu-01 --name=hot --level=1 --raid-devices=2 --bitmap=internal \
    "$(by_serial F1-NVME0)" "$(by_serial F1-NVME1)"
udevadm wait --timeout=300 /dev/md/hot  # mdadm itself waits for 5 s, which a busy computer needs longer than
mkfs.ext4 -q -E stride=16,stripe_width=32 /dev/md/hot
mkdir -p "/srv/with blank" && mount -o noatime /dev/md/hot "/srv/with blank"
mkfs.xfs -q "$(by_serial F1-SAS0)"
mdadm --create /dev/md/idle --run --force --homehost=gpu-01 --name=idle --level=0 --raid-devices=1 \
    "$(by_serial F1-SAS1)"
"""
NETWORK = """
set -e
modprobe -a bonding 8021q bridge
ip link add bond0 type bond mode active-backup
ip link set rack1 down
ip link set rack1 master bond0
ip link add link bond0 name bond0.30 type vlan id 30
ip link add br0 type bridge
ip link set rack0 master br0
for name in bond0 bond0.30 rack0 br0; do ip link set $name up; done
ip address add 10.30.0.11/24 dev bond0.30
ip address add 10.30.0.12/24 dev bond0.30
ip address add fd00:30::11/64 dev bond0.30 nodad
ip route add 10.40.0.0/16 via 10.30.0.1 dev bond0.30 metric 7
ip -6 route add fd00:40::/64 via fd00:30::1 dev bond0.30
mkdir /etc/rackwright
echo 10.30.0.11 10.30.0.12 1500 gpu-01 > /etc/rackwright/peers
"""
SOFTWARE = """
set -e
useradd --create-home --expiredate 2031-05-07 --groups adm,video --shell /bin/bash trainee
echo trainee:long-enough-a-word | chpasswd
useradd --no-create-home guest
passwd --delete guest
useradd --no-create-home locked
apt-mark hold mdadm
sysctl --write vm.swappiness=7 net.ipv4.ip_local_port_range="20000 60000"
"""
CLOCK = """
set -e
cat > /run/server.conf <<END
local stratum 8
port 1123
bindaddress 127.0.0.2
allow
bindcmdaddress /
cmdport 0
pidfile /run/server.pid
END
cat > /run/client.conf <<END
server 127.0.0.2 port 1123 iburst minpoll 0 maxpoll 0
maxdistance 30
END
chronyd -x -f /run/server.conf
chronyd -x -f /run/client.conf
chronyc -n waitsync 60 0 0 1
"""


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., bytes]]:
    """Return a function that runs a command as root in a machine with arrays, a bond, users and a held package."""
    twin = Twin(tmp_path_factory.mktemp("facts"), [VirtualMachine("gpu-01", "CHASSIS-F1", DRIVES, NICS)])
    twin.start(lambda text: None)
    with tempfile.TemporaryDirectory(prefix="ssh-") as directory:
        # each login costs the emulated processor a key exchange and a session
        ssh, *login = twin.ssh("gpu-01")
        shared = (ssh, "-S", f"{directory}/master")
        master = subprocess.Popen([*shared, "-M", "-N", *login], stdin=subprocess.DEVNULL)

        def run(*argv: str, given: bytes = b"") -> bytes:
            command = [*shared, *login, shlex.join(("sudo", "-n", *argv))]
            done = subprocess.run(command, input=given, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr.decode()
            return done.stdout

        try:
            run("bash", "-c", "\n".join((STORAGE, NETWORK, SOFTWARE, "udevadm settle")))
            yield run
        finally:
            master.terminate()
            master.wait()
            twin.stop(lambda text: None, grace_seconds=0)


def look(guest: Callable[..., bytes], account_of_files: bool = True) -> Facts:
    given = probe.stdin(b"salt", account_of_files=account_of_files)
    return probe.parse(guest(*probe.command(), given=given), "gpu-01")


@pytest.fixture(scope="module")
def facts(guest: Callable[..., bytes]) -> Facts:
    return look(guest)


@pytest.fixture(scope="module")
def later(guest: Callable[..., bytes], facts: Facts) -> Facts:
    """The facts after a write through the idle array, and while a chronyd follows another one on the same machine."""
    before = facts.drive("F1-SAS1")
    (array,) = (array for array in facts.arrays if array.md_name == "gpu-01:idle")
    start = int(guest("cat", f"/sys/block/{array.name}/md/dev-{before.name}/offset"))
    sector = block.sample_places(before.size_bytes)["data"][8] // 512 - start
    guest("dd", "if=/dev/urandom", f"of=/dev/{array.name}", f"seek={sector}", "count=1", "oflag=direct", "status=none")
    guest("bash", "-c", CLOCK)
    return look(guest, account_of_files=False)


def test_the_machine_is_known_by_its_chassis(facts):
    assert (facts.identity.serial, facts.identity.hostname) == ("CHASSIS-F1", "gpu-01")


def test_drives_are_those_of_lsblk(guest, facts):
    listed = json.loads(guest("lsblk", "--json", "--nodeps", "--bytes", "--output", "NAME,SERIAL,SIZE,ROTA,TRAN,TYPE"))
    disks = [disk for disk in listed["blockdevices"] if disk["type"] == "disk"]

    assert {(drive.name, drive.serial, drive.size_bytes, drive.rotational, drive.bus) for drive in facts.drives} == {
        (disk["name"], disk["serial"], disk["size"], disk["rota"], disk["tran"] or "virtio") for disk in disks
    }


def test_the_array_is_that_of_mdadm(guest, facts):
    shown = dict(re.findall(r"MD_(\w+)=(.*)", guest("mdadm", "--detail", "--export", "/dev/md/hot").decode()))
    (array,) = (array for array in facts.arrays if array.md_name == "gpu-01:hot")

    assert {"UUID": array.uuid, "NAME": array.md_name, "LEVEL": array.level}.items() <= shown.items()
    assert (array.devices, array.metadata) == (int(shown["DEVICES"]), shown["METADATA"])
    assert array.bitmap == "internal"
    for number in (0, 1):
        drive = facts.drive(f"F1-NVME{number}")
        examined = guest("mdadm", "--examine", "--export", drive.path).decode()
        assert f"MD_UUID={drive.superblock.array_uuid}\n" in examined
        assert drive.holders == (array.name,)


def test_the_mount_and_its_filesystem_are_those_of_findmnt(guest, facts):
    argv = ("findmnt", "--json", "--canonicalize", "--output", "SOURCE,FSTYPE,OPTIONS,UUID", "/srv/with blank")
    (shown,) = json.loads(guest(*argv))["filesystems"]
    (mount,) = (mount for mount in facts.mounts if mount.target == "/srv/with blank")
    (filesystem,) = (filesystem for filesystem in facts.filesystems if filesystem.device == mount.device)

    assert (f"/dev/{mount.device}", mount.type) == (shown["source"], shown["fstype"])
    assert set(mount.options) == set(shown["options"].split(","))
    assert (filesystem.uuid, filesystem.complete) == (shown["uuid"], True)
    assert filesystem.stripe_width_bytes == 2 * filesystem.stripe_unit_bytes > 0


def test_an_unused_drive_reports_its_content(facts):
    (signature,) = facts.drive("F1-SAS0").signatures

    assert facts.drive("F1-SAS0").content.startswith(f"xfs {signature.uuid} ")


def test_units_are_enabled_as_systemd_says(guest, facts):
    # an emulated processor may take longer for the walk than systemctl waits for an answer
    argv = ("env", "SYSTEMD_BUS_TIMEOUT=10min", "systemctl", "list-unit-files", "--no-legend", "--full", "--no-pager")
    printed = guest(*argv).decode()
    shown = {line.split()[0]: line.split()[1] for line in printed.splitlines()}

    assert {name: facts.unit(name).enabled for name in shown} == shown
    assert facts.unit("ssh.service").active == "active"


def test_settings_are_those_of_sysctl_and_stay_as_they_are(guest, facts):
    """
    sysctl is asked some time after the probe: a setting that changes by itself would show.
    """
    shown: dict[str, str] = {}
    for key, value in re.findall(r"^(\S+) =(.*)$", guest("sysctl", "--all", "--ignore").decode(), re.M):
        shown[key] = " ".join([shown.get(key, ""), *value.split()]).strip()
    left_out = {key for key in shown if key not in facts.read("sysctls")}

    assert {key: facts.sysctl(key) for key in shown if key not in left_out} == {
        key: shown[key] for key in shown if key not in left_out
    }
    for key in left_out:
        with pytest.raises(UnknownFact, match="does not read"):
            facts.sysctl(key)
    assert facts.sysctl("net.ipv4.ip_local_port_range") == "20000 60000"


def test_modules_are_those_of_lsmod_and_modprobe(guest, facts):
    loaded = [line.split()[0] for line in guest("lsmod").decode().splitlines()[1:]]

    assert sorted(loaded) == facts.read("modules")
    for name in ("ext4", "8021q", "binfmt-misc", "nouveau"):
        where = guest("sh", "-c", f"modinfo --field filename {name} 2>/dev/null || true").decode().strip()
        assert facts.module(name) == (name.replace("-", "_") in loaded or where == "(builtin)")
    assert facts.kernel_parameters == tuple(guest("cat", "/proc/cmdline").decode().split())
    assert facts.boot_id == guest("cat", "/proc/sys/kernel/random/boot_id").decode().strip()


def test_users_and_groups_are_those_of_getent(guest, facts):
    lines = [line.split(":") for line in guest("getent", "passwd").decode().splitlines()]

    assert {(user.name, user.uid, user.gid, user.home, user.shell) for user in facts.users} == {
        (name, int(uid), int(gid), home, shell) for name, _, uid, gid, _, home, shell in lines
    }
    for name in ("root", "trainee"):
        assert facts.user(name).groups == tuple(sorted(guest("id", "-Gn", name).decode().split()))
    assert {name: facts.user(name).password for name in ("trainee", "guest", "locked", "daemon")} == {
        "trainee": "set",
        "guest": "none",
        "locked": "locked",
        "daemon": "locked",
    }
    assert (facts.user("trainee").expires, facts.user("root").expires) == ("2031-05-07", None)
    for line in guest("getent", "group").decode().splitlines():
        name, _, gid, members = line.split(":")
        assert facts.group(name).gid == int(gid)
        assert set(filter(None, members.split(","))) <= set(facts.group(name).members)
    assert facts.group("trainee").members == ("trainee",)


def test_the_way_to_a_peer_takes_what_was_asked_for(facts):
    path = facts.path("10.30.0.12")

    assert (path.asked, path.passed) == (1500, 1500)


def test_holds_are_those_of_apt_mark(guest, facts):
    held = guest("apt-mark", "showhold").decode().split()

    assert [name for name in facts.packages if facts.package(name).held] == held == ["mdadm"]


def test_sockets_are_those_of_ss(guest, facts):
    rows = (
        line.split() for line in guest("ss", "--no-header", "--listening", "--numeric", "-tu").decode().splitlines()
    )
    shown = {(row[0], *row[4].rpartition(":")[::2]) for row in rows}

    assert {(found.protocol, found.address, found.port) for found in facts.sockets} == {
        (protocol, re.sub(r"%\w+|[\[\]]", "", address).replace("*", "::"), int(port))
        for protocol, address, port in shown
    }
    assert ("tcp", 22) in {(found.protocol, found.port) for found in facts.sockets}


def of_ip(link: dict[str, Any], links: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a link of ip in the terms of the facts."""
    info = link.get("linkinfo", {})
    kind = info.get("info_kind") or ("loopback" if link["link_type"] == "loopback" else "physical")
    addresses = (found for found in link["addr_info"] if found["scope"] == "global")
    return {
        "kind": kind,
        "mac": link["address"],
        "permanent_mac": link.get("permaddr", link["address"]),
        "mtu": link["mtu"],
        "up": "UP" in link["flags"] and link["operstate"] in ("UP", "UNKNOWN"),
        "carrier": "LOWER_UP" in link["flags"],
        "addresses": tuple(sorted(f"{found['local']}/{found['prefixlen']}" for found in addresses)),
        "master": link.get("master"),
        "slaves": tuple(sorted(port["ifname"] for port in links if port.get("master") == link["ifname"])),
        "vlan_id": info["info_data"]["id"] if kind == "vlan" else None,
        "parent": link["link"] if kind == "vlan" else None,
        "bond_mode": info["info_data"]["mode"] if kind == "bond" else None,
    }


def ours(link: LinkFacts, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(link, name) for name in names}


def test_links_are_those_of_ip(guest, facts):
    shown = json.loads(guest("ip", "-json", "-details", "address"))
    expected = {link["ifname"]: of_ip(link, shown) for link in shown}
    links = {link.name: link for link in facts.links}

    assert {name: ours(link, expected[name]) for name, link in links.items()} == expected
    assert {links[name].kind for name in ("bond0", "bond0.30", "br0", "rack0")} == {
        "bond",
        "vlan",
        "bridge",
        "physical",
    }
    for name in ("rack0", "rack1"):
        place = guest("readlink", "-f", f"/sys/class/net/{name}/device/..").decode().strip()
        assert links[name].pci_address == place.rpartition("/")[2]
    assert links["bond0"].pci_address is None


def test_routes_and_resolvers_are_those_of_ip_and_resolv_conf(guest, facts):
    shown = [*json.loads(guest("ip", "-json", "route")), *json.loads(guest("ip", "-json", "-6", "route"))]

    assert {(route.destination, route.gateway, route.link, route.metric) for route in facts.routes} == {
        (route["dst"], route.get("gateway"), route["dev"], route.get("metric", 0))
        for route in shown
        if route.get("protocol") != "kernel"
    }
    assert {"default", "10.40.0.0/16", "fd00:40::/64"} == {route.destination for route in facts.routes}
    assert " ".join(facts.resolvers) in guest("cat", "/etc/resolv.conf").decode()


def test_directories_are_those_of_stat(guest, facts):
    listed = guest("find", "/etc", "-xdev", "-type", "d", "-printf", "%p %m %u:%g\n").decode()

    for path, mode, owner in map(str.split, listed.splitlines()):
        assert (facts.directory(path).mode, facts.directory(path).owner) == (mode.zfill(4), owner)
    assert facts.listing("/etc/ssh") == tuple(sorted(guest("ls", "-A", "/etc/ssh").decode().split()))


UNTOLD = ("units", "drives", "measures", "gpus", "gpu_driver", "foreign_packages")
OF_FREE_DRIVES = ("sample", "witnesses", "parts", "held")
"""What is read of drives that nobody uses."""
UNASKED = [("health", bus) for bus in ("sas", "sata", "virtio")]
"""Of QEMU's drives those on NVMe alone have a log."""


def test_nothing_is_unknown_that_the_machine_can_tell(facts):
    """
    What stays unknown is what a drive in use, one without SMART, a unit that is not loaded, no chronyd, no GPU
    or an apt without lists cannot tell, and the content of files that the system rewrites.
    """
    places = {key: facts.read(key) for key in facts.raw if key not in UNTOLD}
    files = places["files"]
    rewritten = (*system.REWRITTEN_ROOTS, system.LOCALES)
    places["files"] = {path: files[path] for path in files if not path.startswith(rewritten)}
    account = places["integrity"]
    rows = {path: {**row, "digest": ""} for path, row in account["files"].items()}  # large files that programs make
    places["integrity"] = {**account, "files": rows}
    drives = [
        {key: value for key, value in drive.items() if key not in OF_FREE_DRIVES and (key, drive["bus"]) not in UNASKED}
        for drive in facts.read("drives")
    ]

    assert '"unknown"' not in json.dumps([places, drives])


def test_what_is_written_through_an_idle_array_changes_what_its_member_carries(facts, later):
    """
    It goes past the page cache of the member, which still holds what the first probe read there. RAID0: no other level
    leaves the superblock as it was.
    """
    before, after = facts.drive("F1-SAS1"), later.drive("F1-SAS1")

    assert before.content.startswith("linux_raid_member ")
    assert after.content != before.content
    assert after.superblock.events == before.superblock.events, "what changed is the data alone"


def test_the_clock_is_that_of_chronyc(guest, facts, later):
    """
    The first probe had none to ask.
    """
    with pytest.raises(UnknownFact, match="506 Cannot talk to daemon"):
        facts.measure("chrony.offset_seconds")

    assert later.measure("chrony.stratum") == 9
    assert 0 <= later.measure("chrony.offset_seconds") < 1
    assert "Stratum         : 9" in guest("chronyc", "-n", "tracking").decode()
