"""For every rule a change of a converged host that it finds, and the things that it finds then."""

from collections.abc import Callable
from typing import Any

from rackwright.kinds.shared.guard import service_text, timer_text, units_of

Change = Callable[[dict[str, Any]], object]
FILE = {"digest": "0f", "mode": "0644", "owner": "root:root", "mtime_ns": 1}
LOGIN = {"uid": 1007, "gid": 1007, "home": "/home/eve", "shell": "/bin/bash", "password": "locked"}
LOGIN |= {"expires": None, "groups": ["eve"]}
KEY = "SHA256:of-eve"
WITHOUT_EFFECT = {"ignored": None, "settings": []}
UUID = "GPU-0a"
BOARD = {"index": 0, "uuid": UUID, "mig": False, "mig_pending": False, "ecc": True, "ecc_pending": True}
GPU = {"pci": ["10de:2330", "10de:2330"]}


def unpackaged(path: str, digest: str = "0f") -> Change:
    """Return the change that puts a file at *path*."""

    def change(raw: dict[str, Any]) -> None:
        raw["unpackaged"].append(path)
        raw["files"][path] = {**FILE, "digest": digest}

    return change


def odd_file(path: str, **row: Any) -> Change:
    """Return the change that gives *path* a row of the account of files."""
    return lambda raw: raw["integrity"]["files"].__setitem__(path, {**FILE, **row})


def put(key: str, value: Any, *path: str) -> Change:
    """Return the change that appends to the list, or sets the entry, at *path* of the facts."""

    def change(raw: dict[str, Any]) -> None:
        place = raw
        for name in path:
            place = place[int(name)] if isinstance(place, list) else place[name]
        if isinstance(place.get(key), list):
            place[key].append(value)
        else:
            place[key] = value

    return change


def entry(table: str, name: str, value: Any) -> Change:
    return lambda raw: raw[table].__setitem__(name, value)


def several(*changes: Change) -> Change:
    return lambda raw: [change(raw) for change in changes]


def trial(**others: object) -> Change:
    """Return the change that arms a rescue timer as rackwright does; *others* are other values of its record."""
    service, timer = units_of("role-access")
    state = {"load": "loaded", "active": "active", "enabled": "enabled"}

    def change(raw: dict[str, Any]) -> None:
        record = {
            "state": "waiting",
            "until": 1796000200,
            "boot": raw["boot_id"],
            "service": service_text("role-access", patient=True),
            "timer": timer_text(),
            "deadline": "[Timer]\nOnStartupSec=\nOnStartupSec=900\n",
        }
        raw["trials"] = {"role-access": {**record, **others}}
        for unit in (service, timer):
            unpackaged(f"/etc/systemd/system/{unit}")(raw)
            raw["units"][unit] = state
        unpackaged(f"/etc/systemd/system/timers.target.wants/{timer}", f"-> /etc/systemd/system/{timer}")(raw)

    return change


def driver(raw: dict[str, Any]) -> None:
    raw["hardware"].update(GPU)
    raw["module_versions"]["nvidia"] = "550.54.15"
    raw["modules"].append("nvidia")
    raw["module_taints"]["nvidia"] = "OE"
    raw["gpus"] = [{**BOARD, "mig_instances": []}]
    raw["packages"] |= {"libnvidia-compute": "550.54.15-1", "nvidia-driver": "550.54.15-1"}
    raw["libraries"]["libcuda.so.1"] = ["/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15"]
    raw["units"]["nvidia-persistenced.service"] = {"load": "loaded", "active": "active", "enabled": "enabled"}


def kernel(*modules: str) -> dict[str, Any]:
    rows = [{"path": f"/lib/modules/x/{name}.ko", "name": name, "version": None} for name in modules]
    return {"bootable": True, "modules": rows}


ARCHIVE = {"path": "/etc/apt/sources.list.d/x.list", "uri": "http://apt.example", "suite": "x", "unchecked": False}
SOCKET = {"protocol": "tcp", "address": "::", "port": 4444, "programs": ["/usr/bin/nc"], "units": ["nc.service"]}
ARRAY = {"md_name": "other:data", "uuid": "a:b:c:d", "level": "raid1", "devices": 2}
LINK = {"name": "eth7", "kind": "physical", "addresses": ["203.0.113.7/24"]}
ROUTE = {"destination": "203.0.113.0/24", "gateway": "10.32.0.9", "link": "fabric0", "metric": 0}
MOUNT = {"target": "/mnt", "device": "md7", "type": "xfs", "options": []}
SUPERBLOCK = {"array_uuid": "a:b:c:d", "array_name": "other:data"}
CDI = {"path": "/etc/cdi/nvidia.yaml", "kind": "nvidia.com/gpu", "devices": ["0"], "missing_files": []}


def signature(type: str) -> Change:
    return put("signatures", {"type": type, "uuid": "u-1", "label": None}, "drives", "0")


def entry_of_log_chain(breaks: list[dict[str, Any]], hashes: str = "f" * 32) -> Change:
    chain = {"id": "c0", "number": 7, "time": "2026-11-29T08:00:00Z", "hashes": hashes, "breaks": breaks}
    return lambda raw: raw.__setitem__("log_chain", chain)


RULE_OF_MARK = "routing_rule:IPv4 100: from all fwmark 7 lookup 100"


FOUND: dict[str, tuple[Change, str]] = {
    "RW-001": (entry("foreign_packages", "localthing", ""), "package:localthing"),
    "RW-002": (put("archives", {**ARCHIVE, "key": "/root/key.asc"}), "archive:http://apt.example x"),
    "RW-003": (unpackaged("/etc/apt/trusted.gpg.d/x.asc"), "file:/etc/apt/trusted.gpg.d/x.asc"),
    "RW-004": (unpackaged("/etc/apt/apt.conf.d/99-x"), "file:/etc/apt/apt.conf.d/99-x"),
    "RW-005": (put("held", "tar"), "hold:tar"),
    "RW-006": (
        several(driver, entry("packages", "libnvidia-ml1", "535.161.07-1")),
        "package:libnvidia-ml1",
    ),
    "RW-010": (put("arrays", ARRAY), "md:other:data"),
    "RW-011": (signature("LVM2_member"), "drive:SDA"),
    "RW-012": (signature("crypto_LUKS"), "drive:SDA"),
    "RW-013": (signature("ext4"), "drive:SDA"),
    "RW-014": (put("mounts", MOUNT), "mount:/mnt"),
    "RW-015": (
        put("nfs_exports", {"path": "/etc/exports", "directory": "/srv", "clients": ["*(rw)"]}),
        "export:/srv",
    ),
    "RW-020": (entry("users", "eve", LOGIN), "user:eve"),
    "RW-021": (entry("users", "toor", {**LOGIN, "uid": 0}), "user:toor"),
    "RW-022": (
        several(entry("users", "eve", LOGIN), entry("groups", "docker", {"gid": 7, "members": ["eve"]})),
        "group:docker/eve",
    ),
    "RW-023": (entry("changed_conffiles", "/etc/sudoers.d/README", "changed"), "file:/etc/sudoers.d/README"),
    "RW-024": (put("/root/.ssh/authorized_keys", [KEY], "login_keys", "root", "files"), "authorized_keys:root"),
    "RW-025": (put("/etc/ssh/ca", [KEY], "login_keys", "root", "authorities"), "file:/etc/ssh/ca"),
    "RW-026": (put("/etc/pam.d/common-auth", "pam_x.so", "pam_modules"), "file:/etc/pam.d/common-auth"),
    "RW-027": (
        entry("changed_conffiles", "/etc/ssh/sshd_config.d/x.conf", "changed"),
        "file:/etc/ssh/sshd_config.d/x.conf",
    ),
    "RW-028": (entry("users", "eve", {**LOGIN, "password": "none"}), "user:eve"),
    "RW-029": (put("/etc/ssh/names", ["eve"], "login_keys", "root", "principals"), "file:/etc/ssh/names"),
    "RW-030": (put("listeners", SOCKET), "socket:tcp:[::]:4444"),
    "RW-031": (unpackaged("/etc/systemd/system/x.service"), "unit:x.service"),
    "RW-032": (
        unpackaged("/etc/systemd/system/cron.service.d/x.conf"),
        "file:/etc/systemd/system/cron.service.d/x.conf",
    ),
    "RW-033": (entry("user_units", "eve", ["x.timer"]), "user_unit:eve/x.timer"),
    "RW-034": (entry("crontabs", "root", 1), "crontab:root"),
    "RW-035": (put("at_jobs", "a01"), "at:a01"),
    "RW-036": (unpackaged("/etc/ld.so.preload"), "file:/etc/ld.so.preload"),
    "RW-037": (
        entry("units", "backdoor.service", {"load": "loaded", "active": "active", "enabled": "transient"}),
        "unit:backdoor.service",
    ),
    "RW-039": (
        several(
            entry("changed_conffiles", "/etc/sudoers.d/README", "changed"),
            lambda raw: raw.update(sudo_settings={"/etc/sudoers.d/README": WITHOUT_EFFECT}),
        ),
        "file:/etc/sudoers.d/README",
    ),
    "RW-038": (trial(), "trial:role-access"),
    "RW-040": (entry("module_taints", "rootkit", "OE"), "module:rootkit"),
    "RW-041": (put("kernel_parameters", "mitigations=off"), "kernel_parameter:mitigations=off"),
    "RW-042": (unpackaged("/etc/sysctl.d/99-x.conf"), "file:/etc/sysctl.d/99-x.conf"),
    "RW-043": (unpackaged("/etc/udev/rules.d/99-x.rules"), "file:/etc/udev/rules.d/99-x.rules"),
    "RW-050": (unpackaged("/etc/systemd/network/x.network"), "file:/etc/systemd/network/x.network"),
    "RW-051": (put("links", LINK), "link:eth7"),
    "RW-052": (put("routes", ROUTE), "route:203.0.113.0/24"),
    "RW-053": (entry("changed_conffiles", "/etc/nftables.conf", "changed"), "file:/etc/nftables.conf"),
    "RW-054": (put("packet_filters", "inet sniff"), "packet_filter:inet sniff"),
    "RW-060": (entry("files", "/usr/local/bin/x", {**FILE, "mode": "4755"}), "file:/usr/local/bin/x"),
    "RW-061": (entry("files", "/opt/rackwright/x", FILE), "file:/opt/rackwright/x"),
    "RW-062": (
        entry("owners", "role-old", {"id": "alpha/old", "fleet": "software", "phase": "ready"}),
        "owner:role-old",
    ),
    "RW-063": (unpackaged("/etc/security/limits.d/x.conf"), "file:/etc/security/limits.d/x.conf"),
    "RW-064": (unpackaged("/etc/ld.so.conf.d/x.conf"), "file:/etc/ld.so.conf.d/x.conf"),
    "RW-065": (
        several(
            entry("directories", "/usr/local/share/ca-certificates", {"mode": "0755", "owner": "root:root"}),
            entry("files", "/usr/local/share/ca-certificates/x.crt", FILE),
        ),
        "file:/usr/local/share/ca-certificates/x.crt",
    ),
    "RW-070": (put("docker", {"name": "web", "image": "nginx:1"}, "containers"), "container:docker/web"),
    "RW-071": (put("podman", {"names": ["nginx:1"], "digests": []}, "images"), "image:nginx:1"),
    "RW-072": (unpackaged("/etc/docker/daemon.json"), "file:/etc/docker/daemon.json"),
    "RW-074": (put("shadowing_programs", "/usr/local/bin/python3"), "file:/usr/local/bin/python3"),
    "RW-080": (odd_file("/usr/local/bin/python3", state="unpackaged"), "file:/usr/local/bin/python3"),
    "RW-081": (odd_file("/usr/bin/ls", state="changed"), "file:/usr/bin/ls"),
    "RW-082": (
        odd_file("/usr/bin/python3.11", state="packaged", capabilities="0100000280000000000000000000000000000000"),
        "file:/usr/bin/python3.11",
    ),
    "RW-083": (entry("changed_conffiles", "/etc/default/cron", "changed"), "file:/etc/default/cron"),
    "RW-094": (
        put("odd_lines", {"file": "/etc/passwd", "line": 9, "name": "+", "reason": "a line for NIS"}, "account_files"),
        "user:+",
    ),
    "RW-095": (put("docker", {"administrators": ["eve"]}, "account_files", "group_rights"), "group:docker"),
    "RW-096": (put("rackwright", {"expires": 20000}, "account_files", "dates"), "user:rackwright"),
    "RW-097": (odd_file("/usr/bin/ls", state="packaged", lost=True, mode="0644"), "file:/usr/bin/ls"),
    "RW-098": (
        put("/var/lib/dpkg/info/ls.postinst", "it changed", "package_database", "altered_files"),
        "file:/var/lib/dpkg/info/ls.postinst",
    ),
    "RW-099": (
        put("diversions", {"path": "/usr/bin/ls", "to": "/usr/bin/ls.distrib", "by": "a person"}, "package_database"),
        "diversion:/usr/bin/ls",
    ),
    "RW-101": (
        several(driver, entry("libraries", "libnvidia-ml.so.1", ["/usr/lib/libnvidia-ml.so.535.161.07"])),
        "library:libnvidia-ml.so.1",
    ),
    "RW-102": (
        several(
            entry("kernels", "6.1.0-50-amd64", kernel("nvidia")),
            entry("kernels", "6.1.0-51-amd64", kernel()),
        ),
        "kernel:6.1.0-51-amd64",
    ),
    "RW-103": (
        several(driver, put("nvidia", "P", "module_taints"), put("pci", "10de:2901", "hardware")),
        "module:nvidia",
    ),
    "RW-104": (several(driver, put("modules", "nouveau")), "module:nouveau"),
    "RW-105": (
        several(
            lambda raw: raw.update(secure_boot=True),
            entry("kernels", "6.1.0-51-amd64", {"bootable": True, "modules": [{"name": "nvidia", "signed": False}]}),
        ),
        "kernel:6.1.0-51-amd64",
    ),
    "RW-106": (
        several(driver, entry("packages", "nvidia-fabricmanager-550", "550.54.14-1")),
        "package:nvidia-fabricmanager-550",
    ),
    "RW-107": (several(driver, put("pci", "10de:22a3", "hardware")), "unit:nvidia-fabricmanager.service"),
    "RW-108": (
        several(driver, put("active", "failed", "units", "nvidia-persistenced.service")),
        "unit:nvidia-persistenced.service",
    ),
    "RW-109": (several(driver, put("mig_pending", True, "gpus", "0")), f"gpu:{UUID}"),
    "RW-110": (
        several(driver, put("kernel_parameters", "vfio-pci.ids=10de:2330")),
        "kernel_parameter:vfio-pci.ids=10de:2330",
    ),
    "RW-111": (
        several(driver, entry("gpus", 0, {**BOARD, "mig": True, "mig_pending": True, "mig_instances": []})),
        f"gpu:{UUID}",
    ),
    "RW-113": (
        several(
            entry("packages", "podman", "4.3.1"),
            put("cdi", {**CDI, "missing_devices": ["/dev/char/195:0"]}),
        ),
        "cdi:nvidia.com/gpu",
    ),
    "RW-114": (entry("kernel_names", "/etc/fstab", ["/dev/sda1"]), "device:/etc/fstab:/dev/sda1"),
    "RW-115": (put("superblock", SUPERBLOCK, "drives", "1"), "drive:SDB"),
    "RW-121": (several(driver, put("redirecting_bridges", "0000:00:01.0")), "bridges"),
    "RW-122": (unpackaged("/etc/nccl.conf"), "file:/etc/nccl.conf"),
    "RW-124": (several(driver, put("kernel.numa_balancing", "1", "sysctls")), "sysctl:kernel.numa_balancing"),
    "RW-125": (put("chrony.offset_seconds", -0.2, "measures"), "fact:chrony.offset_seconds"),
    "RW-130": (put("clock_offset_seconds", -3600.4), "fact:clock_offset_seconds"),
    "RW-140": (
        entry_of_log_chain(
            [{"sort": "edited", "number": 3, "place": "/var/log/audit/audit.log, the lines before noon"}]
        ),
        "audit_log:3",
    ),
    "RW-141": (entry_of_log_chain([], hashes="0" * 32), "audit_log:chain"),
    "RW-142": (put("routing_rules", "IPv4 100: from all fwmark 7 lookup 100"), RULE_OF_MARK),
    "RW-143": (
        put("10.32.0.9/32 of the table local", "local on lo", "odd_routes"),
        "route:10.32.0.9/32 of the table local",
    ),
    "RW-144": (
        put("10.32.0.9 on fabric0", "fixed to 52:54:00:00:00:09", "fixed_neighbours"),
        "neighbour:10.32.0.9 on fabric0",
    ),
    "RW-145": (put("fabric0", ["up", "noarp"], "link_states"), "link:fabric0"),
    "RW-146": (put("fabric0", ["netem root"], "traffic_control"), "traffic_control:fabric0"),
    "RW-147": (
        put("net.ipv4.conf.all.accept_local", "1", "diverting_settings"),
        "sysctl:net.ipv4.conf.all.accept_local",
    ),
    "RW-148": (entry("service_processes", "cron.service", ["stopped: cron"]), "unit:cron.service"),
    "RW-149": (put("manager_environment", "LD_PRELOAD"), "environment:LD_PRELOAD"),
    "RW-150": (entry("filesystem_states", "/srv", ["frozen"]), "mount:/srv"),
    "RW-151": (entry("device_states", "sda", ["read-only"]), "device:sda"),
    "RW-152": (odd_file("/usr/bin/ls", state="missing", package="coreutils"), "file:/usr/bin/ls"),
    "RW-153": (
        put("mounts", {"line": 9, "what": "/root/x.img", "where": "/mnt", "type": "ext4", "options": "loop"}, "boot"),
        "mount_line:/mnt",
    ),
    "RW-154": (
        put("/var/lib/extensions/x", {"sort": "extension", "owner": "root:root"}, "boot", "additions"),
        "file:/var/lib/extensions/x",
    ),
    "RW-155": (
        several(
            put("kernel_parameters", "BOOT_IMAGE=/vmlinuz"),
            lambda raw: raw.update(grub_parameters={"/etc/default/grub": ["audit=1"]}),
        ),
        "kernel_parameter:audit=1",
    ),
    "RW-156": (
        put("/etc/mdadm/mdadm.conf", f"ARRAY /dev/md/x metadata=1.2 UUID={':'.join(['0a1b2c3d'] * 4)}\n", "texts"),
        "array_line:/dev/md/x",
    ),
    "RW-157": (
        put("/etc/network/interfaces", "iface eth0 inet static\n  gateway 203.0.113.1\n", "texts"),
        "interfaces_line:gateway 203.0.113.1",
    ),
    "RW-158": (
        entry("other_environments", "/opt/workloads", ["bin/zeug: no package lists it"]),
        "environment:/opt/workloads",
    ),
    "RW-170": (
        entry("units", "tidy.service", {"load": "loaded", "active": "failed", "enabled": "static"}),
        "unit:tidy.service",
    ),
    "RW-127": (unpackaged("/etc/pip.conf"), "file:/etc/pip.conf"),
    "RW-129": (
        put("methods", "publickey,keyboard-interactive", "login_keys", "rackwright"),
        "user:rackwright",
    ),
    "RW-126": (entry("dkms", "amdgpu", {"6.2": [], "6.3": ["6.1.0-50-amd64"]}), "dkms:amdgpu"),
}
"""For each rule: a change of a converged host, and the thing that the rule finds then."""
