"""How each property of each claim can cease to hold, and how it can cease to be known, in raw facts.

A row of a property has ``differ``, which changes the facts so that this property and no other differs, and ``hide``,
which removes the value that it is read from. A property that follows from one value of the facts needs no row: the
contract suite finds that value.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from rackwright.facts.view import View
from tests.support.raw_facts import (
    INTERFACES,
    ONE_MORE,
    Raw,
    account,
    add_shadowing_route,
    array,
    blacken,
    built_modules,
    change_after_start,
    copy,
    credential,
    declare_other_gpus,
    directory,
    divert,
    drive,
    file_entry,
    filesystem,
    header,
    header_made_anew,
    health,
    leave_autoscaler,
    listener,
    lock_to_other_tpm,
    lose_pods,
    mapping,
    model,
    mount,
    newer_kernel,
    newer_kernel_without,
    note_gpus,
    one_place_more,
    opened_as_another,
    path_to,
    record_refusal,
    rewrite,
    set_otherwise,
    share_gpus,
    stop_run,
    stop_sshd,
    toggle,
    with_a_key_more,
    without,
    write,
)

Change = Callable[[Raw, str], Any]


class Row(NamedTuple):
    differ: Change
    hide: Change


def setting(find: Callable[[Raw, str], Raw], name: str, change: Callable[[Any], Any]) -> Row:
    """A row for a value that stands by itself: change it, or take it away."""
    return Row(
        lambda raw, key: find(raw, key).__setitem__(name, change(find(raw, key)[name])),
        lambda raw, key: find(raw, key).pop(name),
    )


def values_read(observe: Callable[[], object]) -> list[tuple[Raw, str]]:
    """Return the single values that *observe* reads from facts, each as the mapping that has it and its key."""
    places: dict[tuple[int, str], tuple[Raw, str]] = {}
    original = View.read

    def read(view: View, key: str) -> Any:
        value = original(view, key)
        if not any(isinstance(each, dict) for each in (value if isinstance(value, list) else [value])):
            places[id(view._raw), key] = view._raw, key
        return value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(View, "read", read)
        observe()
    return list(places.values())


def another(value: Any) -> Any:
    """Return another value of the same type; a number far from *value*, beyond each tolerance."""
    match value:
        case bool():
            return not value
        case int() | float():
            return 2 * value + 100
        case list():
            return [*value, "another"]
    return "another"


CONTENT = Row(rewrite, blacken)
FILE = {
    "mode": setting(file_entry, "mode", lambda mode: "0666"),
    "owner": setting(file_entry, "owner", lambda owner: "games:root"),
    "content": CONTENT,
}


def unreadable(table: str) -> Change:
    """Return a change that makes a table of the facts unknown."""
    return lambda raw, key: raw.__setitem__(table, {"unknown": "no permission"})


def stored(raw: Raw, key: str) -> Raw:
    found: Raw = raw["s3"]["buckets"][key]
    return found


def tried(raw: Raw, key: str, value: Any) -> None:
    bucket, _, user = key.partition("/")
    stored(raw, bucket)["rights"][user] = value


def tagged(raw: Raw, key: str, **tags: str) -> None:
    stored(raw, key)["tags"].update(tags)


ROWS: dict[str, dict[str, Row]] = {
    "nftables": {"rules": Row(lambda raw, key: raw["nftables"][key].pop(), lambda raw, key: raw.pop("nftables"))},
    "endpoint": {
        "clock_is_right": setting(lambda raw, key: raw["s3"], "clock_skew_seconds", lambda seconds: 1200),
        "listing": Row(
            lambda raw, key: (
                raw["s3"].__setitem__("server", "another"),
                raw["s3"]["buckets"]["models"].__setitem__("listing", "by_byte"),
            ),
            lambda raw, key: raw["s3"].__setitem__("server", {"unknown": "no answer"}),
        ),
    },
    "rights": {
        "allowed": Row(
            lambda raw, key: tried(raw, key, ["list"]),
            lambda raw, key: tried(raw, key, {"unknown": "InvalidAccessKeyId"}),
        ),
    },
    "bucket": {
        "owner": Row(
            lambda raw, key: tagged(raw, key, **{"rackwright-owner": "another"}),
            lambda raw, key: stored(raw, key).__setitem__("tags", {"unknown": "AccessDenied"}),
        ),
        "tags": Row(
            lambda raw, key: tagged(raw, key, by="hand"),
            lambda raw, key: stored(raw, key).__setitem__("tags", {"unknown": "AccessDenied"}),
        ),
        **{
            name: setting(stored, name, lambda days: (days or 0) + 1)
            for name in ("retention_days", "current_days", "earlier_days", "uploads_days")
        },
        "retention_mode": setting(stored, "retention_mode", lambda mode: "compliance"),
        "encryption": setting(stored, "encryption", lambda encryption: "sse-kms"),
        "restore_test_age_days": setting(stored, "restore_test", lambda test: {**test, "passed": False}),
        "other_rules": setting(stored, "other_rules", lambda rules: ["by-hand"]),
        "cors": setting(stored, "cors", lambda rules: ["GET from *"]),
        "policy": setting(stored, "policy", lambda lines: [*lines, "Allow * s3:GetObject arn:aws:s3:::models/*"]),
        "ownership": setting(stored, "ownership", lambda owner: "ObjectWriter"),
        "grants": setting(stored, "grants", lambda grants: ["AllUsers READ"]),
        "versioning": setting(stored, "versioning", lambda found: "enabled" if found == "never" else "suspended"),
    },
    "host": {
        "serial": setting(lambda raw, key: raw["identity"], "serial", lambda serial: "ANOTHER"),
        "device_tree_serial": setting(lambda raw, key: raw["identity"], "device_tree_serial", lambda serial: "ANOTHER"),
        "os": setting(lambda raw, key: raw["os"], "version_id", lambda version: "13"),
    },
    "drives": {
        "serials": Row(
            lambda raw, key: raw["drives"].append({**raw["drives"][0], "serial": "STRANGER", "name": "sdz"}),
            lambda raw, key: raw.pop("drives"),
        ),
    },
    "drive": {
        "present": Row(
            lambda raw, key: without(raw["drives"], serial=key),
            lambda raw, key: raw.__setitem__("drives", {"unknown": "no permission"}),
        ),
        "bus": setting(drive, "bus", lambda bus: "usb"),
        "size_bytes": setting(drive, "size_bytes", lambda size: size * 97 // 100),
        "health": setting(health, "passed", lambda passed: False),
        "pending_sectors": setting(health, "pending_sectors", lambda sectors: 8),
        "media_errors": setting(health, "media_errors", lambda errors: 1),
        "wear_percent": setting(health, "wear_percent", lambda percent: 91),
    },
    "nic": {
        "present": Row(
            lambda raw, key: without(raw["links"], permanent_mac=key),
            lambda raw, key: raw.__setitem__("links", {"unknown": "no /sys/class/net"}),
        ),
    },
    "addon": {
        "version": Row(
            lambda raw, key: raw["kubernetes_cluster"]["addons"].update({key: "v1.36.4"}),
            lambda raw, key: raw["kubernetes_cluster"].update(addons={"unknown": "the API does not answer"}),
        ),
    },
    "admission": {
        "plugins": Row(
            lambda raw, key: raw["kubernetes_cluster"]["admission"].update(another=["NodeRestriction"]),
            lambda raw, key: raw["kubernetes_cluster"].update(admission={"unknown": "the API does not answer"}),
        ),
    },
    "cluster": {
        "nodes": Row(
            lambda raw, key: raw["kubernetes_cluster"]["nodes"].update(stranger={}),
            lambda raw, key: raw.__setitem__("kubernetes_cluster", {"unknown": "the API does not answer"}),
        ),
    },
    "node": {
        "hostname": Row(
            lambda raw, key: raw["kubernetes_cluster"]["nodes"][key]["labels"].update({"kubernetes.io/hostname": "x"}),
            lambda raw, key: raw["kubernetes_cluster"]["nodes"][key].pop("labels"),
        ),
        "labels": Row(
            lambda raw, key: raw["kubernetes_cluster"]["nodes"][key]["labels"].update(team="b"),
            lambda raw, key: raw["kubernetes_cluster"]["nodes"][key].pop("labels"),
        ),
    },
    "memory": {"bytes": setting(lambda raw, key: raw["hardware"], "memory_bytes", lambda size: 64_000_000_000)},
    "gpus": {
        model: Row(
            lambda raw, key, pci=pci: raw["hardware"]["pci"].remove(pci),
            lambda raw, key: raw["hardware"].pop("pci"),
        )
        for model, pci in (("a100-80gb", "10de:20b2"), ("t4", "10de:1eb8"))
    },
    "md": {
        "level": setting(array, "level", lambda level: "raid4"),
        "members": Row(
            lambda raw, key: array(raw, key)["members"][0].__setitem__("name", "gone0n1"),
            lambda raw, key: array(raw, key).pop("members"),
        ),
        "spares_waiting": Row(
            lambda raw, key: array(raw, key)["members"].append({"name": "gone0n1", "slot": None, "state": ["spare"]}),
            lambda raw, key: array(raw, key).pop("members"),
        ),
        "mismatch_count": setting(array, "mismatch_count", lambda sectors: 8),
        "scrub": setting(array, "sync_min", lambda sectors: 4096),
        "sync_limit": setting(array, "sync_max", lambda limit: "8192"),
        "member_flags": Row(
            lambda raw, key: array(raw, key)["members"][0]["state"].append("write_mostly"),
            lambda raw, key: array(raw, key).pop("members"),
        ),
        "devices": Row(one_place_more, lambda raw, key: array(raw, key).pop("devices")),
        "metadata": setting(array, "metadata", lambda version: "1.0"),
        "array_size": setting(array, "array_size", lambda size: "1024"),
        "superblocks_lost": Row(
            lambda raw, key: array(raw, key)["members"][0].update(names_array=None),
            lambda raw, key: array(raw, key)["members"][0].update(names_array={"unknown": "an I/O error"}),
        ),
        "state": Row(
            lambda raw, key: array(raw, key).update(degraded=1), lambda raw, key: array(raw, key).pop("array_state")
        ),
        "chunk_kib": setting(array, "chunk_bytes", lambda size: size * 2),
        "bitmap": setting(array, "bitmap", lambda kind: "none"),
        "ppl": setting(array, "ppl", lambda kept: not kept),
        "member_kib": setting(array, "member_bytes", lambda size: size - ONE_MORE),
        "sync_speed_max_kib": setting(array, "sync_speed_max_kib", lambda speed: 1000),
    },
    "scrubs": {
        "of_others": Row(
            lambda raw, key: raw["units"]["mdcheck_start.timer"].update(active="active", enabled="enabled"),
            unreadable("units"),
        )
    },
    "luks": {
        "version": setting(header, "version", lambda version: 1),
        "noted": Row(header_made_anew, lambda raw, key: header(raw, key).pop("uuid")),
        "mapping": Row(opened_as_another, unreadable("mappings")),
        "fills_array": setting(mapping, "size_bytes", lambda size: size - (8 << 20)),
        "key_slots": setting(header, "key_slots", lambda count: 2),
        "copied": setting(copy, "sequence", lambda sequence: sequence - 1),
    },
    "credential": {
        "sealed_by": setting(credential, "sealed_by", lambda by: "other"),
        "opens": Row(lock_to_other_tpm, lambda raw, key: credential(raw, key).pop("opens")),
        "content": setting(credential, "digest", lambda digest: "of the key before"),
    },
    "filesystem": {
        "type": setting(filesystem, "type", lambda kind: "btrfs"),
        "stripe_kib": setting(filesystem, "stripe_unit_bytes", lambda size: size + 4096),
        "width_kib": setting(filesystem, "stripe_width_bytes", lambda size: size + 4096),
        "fills_array": setting(filesystem, "size_bytes", lambda size: size - (64 << 20)),
    },
    "run": {"outcome": Row(stop_run, unreadable("runs"))},
    "model": {
        "files": Row(lambda raw, key: model(raw, key, "model.onnx is not there"), unreadable("servers")),
        "manifest": Row(
            lambda raw, key: raw["servers"][key.partition("/")[0]]["manifests"].update({key.partition("/")[2]: "0f"}),
            unreadable("servers"),
        ),
    },
    "server_files": {
        "others": Row(lambda raw, key: raw["servers"][key].update(others=["models/x"]), unreadable("servers")),
        "state": Row(lambda raw, key: raw["servers"][key].update(has_state=False), unreadable("servers")),
        "rows": Row(lambda raw, key: raw["servers"][key]["canary_rows"].clear(), unreadable("servers")),
    },
    "server": {
        "outcome": Row(lambda raw, key: raw["servers"][key].update(ready=False), unreadable("servers")),
        "version": Row(lambda raw, key: raw["servers"][key].update(version="aaaaaaaaaaaa"), unreadable("servers")),
        "release": Row(lambda raw, key: raw["servers"][key].update(release="aaaaaaaaaaaa"), unreadable("servers")),
        "refused": Row(record_refusal, unreadable("servers")),
    },
    "door": {"outcome": Row(stop_sshd, unreadable("units"))},
    "mounts": {
        "undeclared": Row(
            lambda raw, key: raw["mounts"].append({**raw["mounts"][0], "target": f"{key}/reads-00000000"}),
            unreadable("mounts"),
        ),
    },
    "mount": {
        "present": Row(lambda raw, key: without(raw["mounts"], target=key), unreadable("mounts")),
        "source": setting(mount, "device", lambda device: "sdz"),
        "path": setting(mount, "root", lambda path: "/elsewhere"),
        "access": setting(mount, "options", lambda options: [*(set(options) - {"ro"}), "rw"]),
        "type": setting(mount, "type", lambda kind: "btrfs"),
        "undeclared_options": setting(mount, "options", lambda options: [*options, "nobarrier"]),
        "swap_files": Row(
            lambda raw, key: raw["swaps"].append({"path": f"{key}/swapfile", "type": "file"}), unreadable("swaps")
        ),
        "options": setting(mount, "options", lambda options: [*(set(options) - {"noatime"}), "relatime"]),
    },
    "file": {
        **FILE,
        "present": Row(lambda raw, key: write(raw, key, "by hand"), unreadable("files")),
        "initramfs": Row(
            lambda raw, key: raw["initramfs"].append({"path": "/boot/initrd.img", "mtime_ns": 1}),
            lambda raw, key: raw.pop("initramfs"),
        ),
    },
    "unit": {
        **FILE,
        "state": setting(
            lambda raw, key: raw["units"][key], "enabled", lambda state: "masked" if state != "masked" else "enabled"
        ),
        "active": setting(lambda raw, key: raw["units"][key], "active", lambda state: "failed"),
    },
    "read": {name: Row(change_after_start, unreadable("loads")) for name in ("version", "version_at_start")},
    "state": {
        "mode": Row(
            lambda raw, key: raw["state_directories"][key].update(mode="0777"), unreadable("state_directories")
        ),
        "owner": Row(
            lambda raw, key: raw["state_directories"][key].update(owner="root:root"), unreadable("state_directories")
        ),
        "access_list": Row(
            lambda raw, key: raw["state_directories"][key].update(access_list=True), unreadable("state_directories")
        ),
        "open": Row(lambda raw, key: raw["state_directories"][key].update(open=["x"]), unreadable("state_directories")),
    },
    "variables": {
        "names": Row(lambda raw, key: raw["service_variables"][key].append("X"), unreadable("service_variables")),
    },
    "certificate": {
        "names": Row(
            lambda raw, key: raw["service_certificates"][key].update(names=["other"]),
            unreadable("service_certificates"),
        ),
        "valid_for_30_days": Row(
            lambda raw, key: raw["service_certificates"][key].update(not_after=1), unreadable("service_certificates")
        ),
        "has_key": Row(
            lambda raw, key: raw["service_certificates"][key].update(has_key=False), unreadable("service_certificates")
        ),
    },
    "package": {
        "installed": Row(lambda raw, key: toggle(raw["packages"], key), unreadable("packages")),
        "version": Row(lambda raw, key: raw["packages"].__setitem__(key, "0~other"), unreadable("packages")),
        "held": Row(lambda raw, key: raw["held"].remove(key), unreadable("held")),
    },
    "module": {
        "loaded": Row(
            lambda raw, key: raw["modules"].remove(key) if key in raw["modules"] else raw["modules"].append(key),
            unreadable("modules"),
        ),
        "version": Row(lambda raw, key: raw["module_versions"].__setitem__(key, "1.0"), unreadable("module_versions")),
    },
    "built_module": {
        "versions": Row(
            lambda raw, key: [module.update(version="1.0") for module in built_modules(raw, key)], unreadable("kernels")
        ),
        "missing_for": Row(newer_kernel, unreadable("kernels")),
    },
    "library": {
        "versions": Row(
            lambda raw, key: raw["libraries"][key].append(f"/usr/local/lib/{key}.9"), unreadable("libraries")
        )
    },
    "dkms": {
        "versions": Row(lambda raw, key: raw["dkms"][key].__setitem__("1.0-old", []), unreadable("dkms")),
        "missing_for": Row(newer_kernel_without, unreadable("kernels")),
    },
    "reading": {"value": Row(lambda raw, key: raw["readings"].__setitem__(key, "0.1"), unreadable("readings"))},
    "bridges": {
        "redirecting": Row(
            lambda raw, key: raw["redirecting_bridges"].append("0000:00:01.0"), unreadable("redirecting_bridges")
        )
    },
    "gpu_assignment": {
        "present": Row(note_gpus, unreadable("gpu_assignments")),
        "gpus": Row(declare_other_gpus, unreadable("gpu_assignments")),
        "shared_with": Row(share_gpus, unreadable("gpu_assignments")),
        "changed": Row(lambda raw, key: raw["gpus"][0].update(uuid="GPU-of-another-board"), unreadable("gpus")),
    },
    "gpu": {"setting": Row(set_otherwise, unreadable("gpus"))},
    "cdi": {
        "by": Row(lambda raw, key: raw["cdi"].append({**raw["cdi"][0], "path": "/run/cdi/2.json"}), unreadable("cdi")),
        "lacking": Row(lambda raw, key: raw["cdi"][0]["devices"].pop(0), unreadable("gpus")),
        **{
            name: setting(lambda raw, key: raw["cdi"][0], name, lambda paths: ["/gone"])
            for name in ("missing_files", "missing_devices")
        },
    },
    "image": {
        "podman": Row(lambda raw, key: raw["images"]["podman"].clear(), unreadable("images")),
        "present": Row(lambda raw, key: raw["images"]["containerd"].clear(), unreadable("images")),
    },
    "pods": {
        "outcome": Row(lose_pods, unreadable("kubernetes_cluster")),
        "others": Row(leave_autoscaler, unreadable("kubernetes_cluster")),
    },
    "directory": {
        "mode": setting(directory, "mode", lambda mode: "0777"),
        "owner": setting(directory, "owner", lambda owner: "games:games"),
        "names": Row(lambda raw, key: write(raw, f"{key}/zz-by-hand", ""), unreadable("files")),
        "prom_names": Row(lambda raw, key: write(raw, f"{key}/zz-by-hand.prom", ""), unreadable("files")),
    },
    "sysctl": {"value": Row(lambda raw, key: raw["sysctls"].__setitem__(key, "61"), unreadable("sysctls"))},
    "kernel_parameter": {
        "present": Row(lambda raw, key: raw["kernel_parameters"].remove(key), unreadable("kernel_parameters"))
    },
    "user": {
        "present": Row(lambda raw, key: raw["users"].pop(key), unreadable("users")),
        "groups": setting(account, "groups", lambda groups: [*groups, "sudo"]),
        "shell": setting(account, "shell", lambda shell: "/bin/zsh"),
        "password": setting(account, "password", lambda password: "set"),
        "home": setting(account, "home", lambda home: "/home/another"),
    },
    "group": {
        "present": Row(lambda raw, key: raw["groups"].pop(key), unreadable("groups")),
        "members": setting(lambda raw, key: raw["groups"][key], "members", lambda members: [*members, "games"]),
    },
    "authorized_keys": {
        "command": setting(lambda raw, key: raw["login_keys"][key], "command", lambda command: "/usr/local/bin/keys"),
        "added": Row(with_a_key_more, unreadable("login_keys")),
    },
    "socket": {"listening": Row(listener, unreadable("sockets"))},
    "link": {
        "files_of_others": Row(
            lambda raw, key: write(raw, "/etc/netplan/99.yaml", f"network: {{ethernets: {{{key}: {{mtu: 1400}}}}}}\n"),
            lambda raw, key: write(raw, "/etc/netplan/99.yaml", "network: {"),
        ),
    },
    "route": {
        "preferred": Row(add_shadowing_route, lambda raw, key: raw.pop("dead_routes")),
        "chosen": Row(divert, unreadable("chosen_routes")),
    },
    "path": {"mtu": setting(path_to, "passed", lambda size: size - 28)},
    "devices": {
        "left_over": Row(
            lambda raw, key: (
                raw["owners"]["network"]["made"].append("old"),
                raw["links"].append({**raw["links"][0], "name": "old", "kind": "vlan"}),
            ),
            lambda raw, key: raw["owners"].__setitem__("network", {"unknown": "it is not JSON"}),
        ),
    },
    "ifupdown": {
        "interfaces": Row(
            lambda raw, key: write(raw, INTERFACES, "auto lo eth9\niface eth9 inet dhcp\n"),
            lambda raw, key: write(raw, INTERFACES, "source /elsewhere/*\n"),
        ),
        "at_boot": Row(
            lambda raw, key: raw["units"].__setitem__("networking.service", {"enabled": "enabled"}),
            lambda raw, key: raw.__setitem__("units", {"unknown": "no systemd"}),
        ),
    },
    "owner": {
        name: Row(
            lambda raw, key, name=name: raw["owners"][key].__setitem__(name, "another"),
            lambda raw, key: raw["owners"].__setitem__(key, {"unknown": "it is not JSON"}),
        )
        for name in ("id", "fleet", "phase")
    },
}
