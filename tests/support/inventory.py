"""The facts that the rules for undeclared things read, of a host that has nothing beside its packages."""

import copy
from typing import Any

from rackwright.facts.probe.generated_files import CHECKS

INTEGRITY: dict[str, Any] = {
    "roots": ["/etc", "/usr"],
    "files": {},
    "left_out": {},
    "packaged": 7594,
    "derived": 1204,
    "pending": 0,
    "rendered": sorted({"/etc/apparmor.d/local/usr.sbin.chronyd", *CHECKS}),
    "reasons": {},
    "names": [],
}
"""The account of the files of a host on which each one is packaged and unchanged."""
BEHAVIOUR: dict[str, Any] = {
    "routing_rules": [],
    "odd_routes": {},
    "fixed_neighbours": {},
    "link_states": {"lo": ["up"]},
    "traffic_control": {},
    "ipsec": [],
    "virtual_servers": [],
    "diverting_settings": {},
    "configured_settings": {},
    "service_processes": {},
    "group_limits": {},
    "manager_environment": [],
    "filesystem_states": {},
    "device_states": {},
    "rebuild_speed_kib": 200000,
}
"""What leads packets elsewhere, what holds processes back, and how devices differ, of an unchanged host."""
ACCOUNT_FILES: dict[str, Any] = {
    "odd_lines": [],
    "duplicates": [],
    "group_rights": {},
    "dates": {},
    "homes": {},
    "base_users": {"root": {"uid": 0, "gid": 0, "home": "/root", "shell": "/bin/bash"}},
}
PACKAGE_DATABASE: dict[str, Any] = {
    "altered_files": {},
    "odd_states": {},
    "diversions": [],
    "rights": {},
    "choices": {},
}
BOOT: dict[str, Any] = {
    "mounts": [{"line": 3, "what": "UUID=0a-1", "where": "/", "type": "ext4", "options": "errors=remount-ro"}],
    "mappings": [],
    "additions": {},
}
NOTHING: dict[str, Any] = {
    "other_environments": {},
    "integrity": INTEGRITY,
    "account_files": ACCOUNT_FILES,
    "package_database": PACKAGE_DATABASE,
    "boot": BOOT,
    "containers": {"podman": [], "docker": [], "containerd": []},
    "listeners": [],
    "base_programs": [],
    "unpackaged": [],
    "shadowing_programs": [],
    "changed_conffiles": {},
    "archives": [],
    "foreign_packages": {},
    "sudoers": {},
    "pam_modules": {},
    "pam_profile_modules": [],
    "crontabs": {},
    "at_jobs": [],
    "trials": {},
    "step_units": {},
    "sudo_settings": {},
    "lingering": [],
    "user_units": {},
    "module_taints": {},
    "grub_parameters": {},
    "nfs_exports": [],
    "packet_filters": [],
    **BEHAVIOUR,
    "dead_routes": [],
    "mappings": [],
    "kernel_names": {},
    "secure_boot": None,
}
"""Facts that the probe reads for these rules alone."""
ROOT_FILE = {"mode": "0644", "owner": "root:root", "mtime_ns": 1}
OTHERS: dict[str, Any] = {
    "other_environments": {},
    "held": [],
    "images": {"podman": [], "docker": [], "containerd": []},
    "users": {
        "root": {
            "uid": 0,
            "gid": 0,
            "home": "/root",
            "shell": "/bin/bash",
            "password": "locked",
            "expires": None,
            "groups": ["root"],
        }
    },
    "groups": {"root": {"gid": 0, "members": ["root"]}},
    "login_keys": {},
    "sysctls": {"kernel.osrelease": "6.1.0-50-amd64", "kernel.numa_balancing": "0"},
    "kernels": {},
    "dkms": {},
    "modules": [],
    "modules_builtin": [],
    "module_versions": {},
    "units": {"-.mount": {"load": "loaded", "active": "active", "enabled": "generated"}},
    "cdi": [],
    "links": [{"name": "lo", "kind": "loopback", "addresses": [], "up": True, "master": None}],
    "routes": [],
    "texts": {},
    "libraries": {},
    "packages": {"dpkg": "1.21.22"},
    "mounts": [{"target": "/", "device": None, "type": "overlay", "options": ["rw", "relatime"]}],
    "drives": [],
    "arrays": [],
    "owners": {},
    "files": {"/etc/passwd": {**ROOT_FILE, "digest": "of the accounts"}},
    "directories": {"/etc": {**ROOT_FILE, "mode": "0755"}},
    "redirecting_bridges": [],
    "kernel_parameters": [],
    "measures": {"chrony.offset_seconds": 0.0},
    "clock_offset_seconds": 0.0,
    "log_chain": None,
    "hardware": {"cpus": 2, "memory_bytes": 1 << 30, "pci": []},
}
"""Facts that kinds read as well."""


def with_nothing_more(raw: dict[str, Any], *parts: dict[str, Any]) -> dict[str, Any]:
    """Return *raw* with the values of *parts* where it has none, such as facts of an earlier probe."""
    for part in parts or (NOTHING,):
        for name, value in copy.deepcopy(part).items():
            raw.setdefault(name, value)
    for login in raw.get("login_keys", {}).values():
        for name, value in {"authorities": {}, "principals": {}, "principals_command": "none", "methods": []}.items():
            login.setdefault(name, value)
    raw.setdefault("covers", {"files": [], "texts": [], "sysctls_left_out": []})
    raw["covers"].setdefault("sysctls_left_out", [])
    return raw
