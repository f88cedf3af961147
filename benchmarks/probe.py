"""What a look at a host costs: one of 24 drives and 3,000 packages beside a small one, in processor time.

    python -m benchmarks.probe

Few computers have 24 drives, so the hosts are files: /sys, /proc, /dev and /etc in the form in which facts were
recorded, with sysctls and versions from there, real superblocks and filesystems on images, and as many files as a whole
system has, those of its packages included. The probe is what is sent to hosts, in a process of its own; only where it
looks is another place. It
finds the digests of an earlier probe; the figure without them stands beside it. What no
file tells is left out: systemd and the network answer for this computer, and an image has no health to be asked about.
"""

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks import children_seconds, start
from rackwright.facts import probe
from rackwright.facts.probe.kernel import DOTS_FOR_SLASHES
from tests.support.drive_content import ACTIVE, page_80
from tests.support.fabricated_machine import MIB, FabricatedMachine
from tests.support.recorded_facts import TODAY, raw

REPEATS = 9
FILES = 20_000
"""In /etc of both hosts."""
FILES_EACH = 30
"""Files below /usr of each package, which its list names."""
AIM_MS = 250
"""Processor milliseconds of a probe of the large host on an idle core."""
MEMBERS = 4
"""Of each array, where there are so many drives."""
ANYWHERE = probe.LOADER.replace(
    "module.main(job)",
    'module.write_facts({"format": job["format"], **module.collect(job["root"], bytes.fromhex(job["salt"]))})',
)
"""The probe, looking below a root that the job names."""
CACHE = 'sys.modules["rackwright.facts.probe.digest_cache"]'
SETTLED = ANYWHERE.replace("module.write_facts", f"{CACHE}.SETTLED_SECONDS = 0\nmodule.write_facts")
"""The same, which keeps digests of files that changed just now, as those of the fabricated host."""
FIRST = ANYWHERE.replace("module.write_facts", f"{CACHE}.kept_devices = frozenset\nmodule.write_facts")
"""The same, without digests of an earlier probe."""
NOWHERE = probe.LOADER.replace("module.main(job)", "")
STANZA = """\
Package: {name}
Status: install ok installed
Priority: optional
Section: libs
Installed-Size: 12986
Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>
Architecture: amd64
Multi-Arch: same
Source: glibc
Version: {version}
Replaces: libc6-amd64
Depends: libgcc-s1, libcrypt1 (>= 1:4.4.10-10~)
Recommends: libidn2-0 (>= 2.0.5~)
Suggests: glibc-doc, debconf | debconf-2.0, libc-l10n, locales, libnss-nis, libnss-nisplus
Breaks: busybox (<< 1.30.1-6), fakechroot (<< 2.19-3.5), firefox (<< 91~), locales (<< 2.36), nocache (<< 1.1-1~)
Conffiles:
 /etc/ld.so.conf.d/x86_64-linux-gnu.conf d4e7a7b88a71b5ffd9e2644e71a0cfab
Description: GNU C Library: Shared libraries
 Contains the standard libraries that are used by nearly all programs on
 the system. This package includes shared versions of the standard C library
 and the standard math library, as well as many others.
Homepage: https://www.gnu.org/software/libc/libc.html

"""


@dataclass(frozen=True)
class Size:
    drives: int
    packages: int


SMALL, LARGE = Size(2, 300), Size(24, 3_000)


def recorded(root: Path, size: Size) -> FabricatedMachine:
    """Return the files of a host; the same at every call."""
    chance, facts, machine = random.Random(8), raw(TODAY), FabricatedMachine(root)
    for name, value in facts["sysctls"].items():
        if isinstance(value, str):
            machine.write(f"proc/sys/{name.translate(DOTS_FOR_SLASHES)}", f"{value}\n")
    for number in range(FILES):
        content = chance.randbytes(chance.randrange(100, 4_000))
        machine.write(f"etc/application-{number // 20}/{number}.conf", content)
    versions = [*facts["packages"].values()]
    machine.write(
        "var/lib/dpkg/status",
        "".join(
            STANZA.format(name=f"library{number}" if number else "dpkg", version=versions[number % len(versions)])
            for number in range(size.packages)
        ),
    )
    _install(machine, size.packages)
    _fill(machine, size.drives)
    (machine.root / "var/cache").mkdir(parents=True)
    return machine


def _install(machine: FabricatedMachine, packages: int) -> None:
    """Add the files of the packages, and then dpkg's lists of them, as dpkg does."""
    for number in range(packages):
        name = f"library{number}" if number else "dpkg"
        folders = [f"usr/lib/{name}", f"usr/share/doc/{name}"]
        for folder in folders:
            (machine.root / folder).mkdir(parents=True)
        paths = [f"{folders[each % 2]}/{each}" for each in range(FILES_EACH)]
        for path in paths:
            (machine.root / path).write_bytes(b"packaged")
        lines = ["/.", "/usr", "/usr/lib", "/usr/share", "/usr/share/doc", *(f"/{path}" for path in (*folders, *paths))]
        machine.write(f"var/lib/dpkg/info/{name}.list", "\n".join([*lines, ""]))


def _fill(machine: FabricatedMachine, count: int) -> None:
    """Add drives, one half NVMe and one half SAS, and arrays over them that are mounted."""
    names = [_nvme(machine, number) if number % 2 else _sas(machine, number) for number in range(count)]
    member = json.loads(Path(__file__).parents[1].joinpath("tests/facts/md_superblocks.json").read_text())["1.2 raid10"]
    for number, first in enumerate(range(0, count, MEMBERS)):
        members = names[first : first + MEMBERS]
        for name in members:
            with (machine.root / "dev" / name).open("r+b") as image:
                image.seek(member["offset"])
                image.write(bytes.fromhex(member["superblock"]))
            machine.hold(name, f"md{number}")
        files = {**ACTIVE, "raid_disks": str(len(members))}
        slots = {name: (str(slot), "in_sync") for slot, name in enumerate(members)}
        array = machine.array(f"md{number}", files, slots)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-U", str(UUID(int=number + 1)), array], check=True)
        machine.mount(f"md{number}", f"/srv/tier{number}")


def _sas(machine: FabricatedMachine, number: int) -> str:
    name, target = f"sd{chr(ord('a') + number)}", f"0:0:{number}"
    hba = "pci0000:00/0000:00:05.0/host0"
    place = f"{hba}/port-0:{number}/end_device-0:{number}/target{target}/{target}:0"
    machine.device(name, 64 * MIB, place)
    machine.write(f"sys/devices/{place}/vpd_pg80", page_80(b"RW-SAS%d" % number))
    machine.write(f"sys/devices/{place}/model", "ST600MM0088     \n")
    machine.write(f"sys/devices/{place}/wwid", f"naa.5000c500000001{number:02x}\n")
    return name


def _nvme(machine: FabricatedMachine, number: int) -> str:
    name, place = f"nvme{number}n1", f"pci0000:00/0000:00:{16 + number:02x}.0/nvme/nvme{number}"
    machine.device(name, 64 * MIB, place)
    machine.write(f"sys/devices/{place}/serial", f"RW-NVME{number}\n")
    machine.write(f"sys/devices/{place}/model", "SAMSUNG MZQL23T8HCLS-00A07\n")
    return name


def main() -> None:
    salt = random.Random(8).randbytes(32)
    job = json.loads(probe.stdin(salt))
    with tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        roots = {size: recorded(Path(directory, str(size.drives)), size).top for size in (SMALL, LARGE)}
        looks = {size: json.dumps({**job, "root": root}).encode() for size, root in roots.items()}
        answers = {size: _run(SETTLED, stdin) for size, stdin in looks.items()}
        for size, answer in answers.items():
            _prove(size, probe.parse(answer, "recorded").raw)
        cases = {
            "Python alone": ("pass", b""),
            "the probe, before it looks": (NOWHERE, probe.stdin(salt)),
            **{_named(size): (SETTLED, stdin) for size, stdin in looks.items()},
            "the first probe": (FIRST, looks[LARGE]),
        }
        taken: dict[str, list[float]] = {case: [] for case in cases}
        waited: dict[str, list[float]] = {case: [] for case in cases}
        for number in range(REPEATS):
            for case, (source, stdin) in [*cases.items()][:: 1 if number % 2 == 0 else -1]:
                before, began = children_seconds(), time.monotonic()
                _run(source, stdin)
                taken[case].append(1000 * (children_seconds() - before))
                waited[case].append(1000 * (time.monotonic() - began))
    _report(_medians(taken), _medians(waited), looks[LARGE], answers[LARGE])


def _medians(figures: Mapping[str, list[float]]) -> dict[str, float]:
    return {case: statistics.median(each) for case, each in figures.items()}


def _named(size: Size) -> str:
    return f"{size.drives} drives, {size.packages} packages"


def _run(source: str, stdin: bytes) -> bytes:
    argv = (sys.executable, *probe.command()[1:-1], source)
    return subprocess.run(argv, input=stdin, stdout=subprocess.PIPE, check=True).stdout


def _prove(size: Size, facts: Mapping[str, Any]) -> None:
    """Raise AssertionError unless the probe has seen all that is there."""
    serials = {drive["serial"] for drive in facts["drives"] if drive["superblock"]["level"] == "raid10"}
    found = len(serials), len(facts["packages"]), sum(len(array["members"]) for array in facts["arrays"])
    if found != (size.drives, size.packages, size.drives) or len(facts["files"]) < FILES:
        raise AssertionError(f"drives, packages, members: {found} and {len(facts['files'])} files of {size}")
    if facts["integrity"]["packaged"] < size.packages * FILES_EACH:
        raise AssertionError(f"{facts['integrity']['packaged']} packaged files of {size}")


def _report(milliseconds: Mapping[str, float], waited: Mapping[str, float], sent: bytes, answer: bytes) -> None:
    unseen = [name for name, found in probe.parse(answer, "recorded").raw.items() if _is_unknown(found)]
    here = f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}"
    print(f"milliseconds of processors, user and system, and of the clock, of a probe; median of {REPEATS}")
    print(f"{here}, Python {platform.python_version()}")
    print(f"{FILES} files in /etc, and {FILES_EACH} of each package below /usr")
    for case, figure in milliseconds.items():
        print(f"{case:>30}{figure:>10.0f}{waited[case]:>10.0f}")
    print(f"{len(sent) >> 10} KiB are sent, and {len(answer) >> 10} KiB come back of the large one")
    print(f"not seen here: drives' health, {', '.join(unseen)}")
    small, large = (milliseconds[_named(size)] for size in (SMALL, LARGE))
    print(f"{'ok' if large <= AIM_MS else 'short':<6} {large:.0f} ms for the large host; the goal is {AIM_MS}")
    rounded = {case: round(figure, 1) for case, figure in milliseconds.items()}
    figures = {"large_ms": round(large, 1), "of_small": round(large / small, 2), "answer_bytes": len(answer)}
    clock = {case: round(figure, 1) for case, figure in waited.items()}
    print(json.dumps({"ms": rounded, "clock_ms": clock, **figures}))


def _is_unknown(found: Any) -> bool:
    return isinstance(found, dict) and found.keys() == {"unknown"}


if __name__ == "__main__":
    start(main, (globals(), {"REPEATS": 1, "FILES": 20, "LARGE": Size(4, 400)}))
