"""A machine made of files: the parts of /sys, /proc, /dev and /etc that the probe reads, below a directory."""

import os
from itertools import count
from pathlib import Path

MIB = 1 << 20


class FabricatedMachine:
    """Files below *root*. A new one has no drives, no arrays, no units, and is otherwise plain."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._numbers = (f"254:{minor}" for minor in count())
        for folder in ("sys/block", "sys/class/block", "sys/class/net", "sys/devices/system/cpu/cpu0", "dev", "etc"):
            (root / folder).mkdir(parents=True)
        self.write("proc/self/mountinfo", "22 1 0:5 / /dev rw,relatime - devtmpfs udev rw,mode=755\n")
        self.write("proc/1/stat", f"1 (systemd) S {' '.join(['0'] * 30)}\n")
        (self.root / "proc/1/fd").mkdir()
        self.write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n")
        self.write("proc/meminfo", "MemTotal:       16384 kB\n")
        self.write("proc/bus/pci/devices", "0000\t10de20b2\t0\n0010\t10de20b2\t0\n")
        self.write("proc/sys/kernel/hostname", "gpu-01\n")
        self.write("proc/sys/kernel/random/boot_id", "5f3c1a2b-0000-4000-8000-000000000000\n")
        self.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        self.write("etc/os-release", 'PRETTY_NAME="Debian"\nID=debian\nVERSION_ID="12"\n')
        self.write("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
        self.write("etc/shadow", "root:*:19000:0:99999:7:::\n")
        self.write("etc/group", "root:x:0:\n")
        self.write("etc/resolv.conf", "nameserver 10.0.2.3\nsearch rack.example\n")
        self.write("proc/sys/kernel/osrelease", "6.1.0-30-amd64\n")
        self.write("proc/modules", "raid10 65536 1 - Live 0x0000000000000000\n")
        self.write("proc/cmdline", "root=/dev/vda quiet\n")
        self.write("lib/modules/6.1.0-30-amd64/modules.builtin", "kernel/fs/ext4/ext4.ko\n")
        dpkg = "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21.22\n\n"
        self.write("var/lib/dpkg/status", dpkg)
        self.sockets("tcp")
        self.sockets("udp")

    @property
    def top(self) -> str:
        """The root as the probe's functions take it."""
        return str(self.root)

    def write(self, path: str, content: str | bytes) -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        return place

    def device(self, name: str, size: int, place: str = "pci0000:00/virtual0", number: str = "") -> Path:
        """Add a block device of zeros, its hardware at *place* of the device tree; return its image."""
        real = self.root / "sys/devices" / place / "block" / name
        (real / "holders").mkdir(parents=True)
        for name_of, text in {
            "size": size // 512,
            "dev": number or next(self._numbers),
            "removable": 0,
            "queue/rotational": 0,
            "stat": "8 0 64 0 0 0 0 0 0 0 0",
        }.items():
            self.write(f"{real.relative_to(self.root)}/{name_of}", f"{text}\n")
        (real / "device").symlink_to("../..")
        self._link(f"sys/block/{name}", real)
        self._link(f"sys/class/block/{name}", real)
        self._link(f"sys/dev/block/{(real / 'dev').read_text().strip()}", real)
        return self._image(name, size)

    def partition(self, disk: str, name: str, size: int, start: int = MIB, index: int = 1) -> Path:
        """Add a partition of a drive; its image is a file of its own, and not a part of the drive's."""
        real = (self.root / "sys/block" / disk).resolve() / name
        (real / "holders").mkdir(parents=True)
        number = next(self._numbers)
        files = {"partition": index, "size": size // 512, "start": start // 512, "dev": number}
        for name_of, text in files.items():
            self.write(f"{real.relative_to(self.root)}/{name_of}", f"{text}\n")
        self._link(f"sys/class/block/{name}", real)
        self._link(f"sys/dev/block/{number}", real)
        return self._image(name, size)

    def hold(self, device: str, holder: str) -> None:
        (self.root / "sys/class/block" / device / "holders" / holder).mkdir()

    def mount(self, device: str, target: str, kind: str = "ext4", options: str = "rw", more: str = "rw") -> None:
        number = (self.root / "sys/class/block" / device / "dev").read_text().strip()
        with (self.root / "proc/self/mountinfo").open("a") as mountinfo:
            mountinfo.write(f"30 22 {number} / {target} {options} shared:1 - {kind} /dev/{device} {more}\n")

    def mapping(self, name: str, mapped_name: str, uuid: str, on: str, size: int = 32 * MIB) -> Path:
        """Add a device of the device mapper that stands on another."""
        image = self.device(name, size, f"virtual/{name}")
        folder = f"sys/block/{name}"
        self.write(f"{folder}/dm/name", f"{mapped_name}\n")
        self.write(f"{folder}/dm/uuid", f"{uuid}\n")
        (self.root / folder / "slaves" / on).mkdir(parents=True)
        self.hold(on, name)
        return image

    def array(
        self, name: str, files: dict[str, str], members: dict[str, tuple[str, str]], size: int = 64 * MIB
    ) -> Path:
        """Add an md array; *files* are those of its md folder, *members* their slots and states."""
        image = self.device(name, size, f"virtual/{name}")
        md = f"sys/block/{name}/md"
        for file, text in files.items():
            self.write(f"{md}/{file}", f"{text}\n")
        for member, (slot, state) in members.items():
            self.write(f"{md}/dev-{member}/slot", f"{slot}\n")
            self.write(f"{md}/dev-{member}/state", f"{state}\n")
        return image

    def link(self, name: str, index: int = 2, place: str = "virtual", **files: str) -> Path:
        """Add a network link that is up, its hardware at *place* of the device tree; return its folder."""
        real = self.root / "sys/devices" / place / "net" / name
        plain = {
            "address": "52:54:00:01:00:01",
            "addr_assign_type": "0",
            "carrier": "1",
            "flags": "0x1003",
            "ifindex": str(index),
            "mtu": "1500",
            "operstate": "up",
            "type": "1",
            "uevent": f"INTERFACE={name}",
        }
        for file, text in (plain | files).items():
            self.write(f"{real.relative_to(self.root)}/{file}", f"{text}\n")
        if place != "virtual":
            (real / "device").symlink_to("../..")
        self._link(f"sys/class/net/{name}", real)
        return real

    def stack(self, upper: str, lower: str, port: bool = True) -> None:
        """Put one link on another: as its port, or as what a VLAN stands on."""
        net = self.root / "sys/class/net"
        (net / upper / f"lower_{lower}").symlink_to(os.path.relpath((net / lower).resolve(), (net / upper).resolve()))
        if port:
            (net / lower / "master").symlink_to(os.path.relpath((net / upper).resolve(), (net / lower).resolve()))

    def sockets(self, table: str, *rows: tuple[str, str]) -> None:
        """Write a table of sockets; a row is the local address as the kernel prints it, and the state."""
        lines = (
            f"{number:4}: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 1\n"
            for number, (local, state) in enumerate(rows)
        )
        self.write(f"proc/net/{table}", "".join(["  sl  local_address rem_address   st\n", *lines]))

    def _image(self, name: str, size: int) -> Path:
        image = self.root / "dev" / name
        with image.open("wb") as file:
            file.truncate(size)
        return image

    def _link(self, path: str, target: Path) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(target, place.parent))
