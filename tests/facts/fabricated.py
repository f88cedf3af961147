"""A machine made of files: the parts of /sys, /proc and /dev that the probe reads, below a directory."""

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
        self.write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n")
        self.write("proc/meminfo", "MemTotal:       16384 kB\n")
        self.write("proc/bus/pci/devices", "0000\t10de20b2\t0\n0010\t10de20b2\t0\n")
        self.write("proc/sys/kernel/hostname", "gpu-01\n")
        self.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        self.write("etc/os-release", 'PRETTY_NAME="Debian"\nID=debian\nVERSION_ID="12"\n')
        self.write("var/lib/dpkg/status", "")

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
        }.items():
            self.write(f"{real.relative_to(self.root)}/{name_of}", f"{text}\n")
        (real / "device").symlink_to("../..")
        self._link(f"sys/block/{name}", real)
        self._link(f"sys/class/block/{name}", real)
        self._link(f"sys/dev/block/{(real / 'dev').read_text().strip()}", real)
        return self._image(name, size)

    def partition(self, disk: str, name: str, size: int) -> Path:
        real = (self.root / "sys/block" / disk).resolve() / name
        (real / "holders").mkdir(parents=True)
        number = next(self._numbers)
        for name_of, text in {"partition": 1, "size": size // 512, "dev": number}.items():
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

    def _image(self, name: str, size: int) -> Path:
        image = self.root / "dev" / name
        with image.open("wb") as file:
            file.truncate(size)
        return image

    def _link(self, path: str, target: Path) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(target, place.parent))
