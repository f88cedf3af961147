"""Hosts as they are declared, with the facts recorded of their twins once everything was made."""

import copy
import json
import pickle
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from rackwright.access.totp import OPTIONS
from rackwright.facts import program
from rackwright.fleet import load_fleet
from rackwright.kinds.model_server.files import files as files_of_server
from rackwright.kinds.model_server.files import release_of
from rackwright.kinds.pods import PodFilesSpec, PodsSpec
from rackwright.kinds.shared.service_account import owner
from rackwright.kinds.tier import boot, luks, scrub
from rackwright.kinds.tier.spec import TierSpec
from rackwright.kinds.training_run.files import files as files_of_run
from rackwright.kinds.training_run.spec import TrainingSpec
from rackwright.schema.secret import derive_value
from rackwright.stack import declare, load_stack
from rackwright.stack.clusters import clusters
from tests.support import pod_facts
from tests.support.firewall_facts import with_table
from tests.support.inventory import with_nothing_more
from tests.support.raw_facts import choose_routes, load_services

HERE = Path(__file__).parents[1] / "kinds"
SALT = b"recorded"
"""Salt of the digests in the recorded facts."""
SECRET = derive_value("training_key")
"""Secret from which a twin derives the keys of runs."""
SECRETS = {name: derive_value(name) for name in ("training_key", "digits_app", "hot_key", "warm_key")}
OTHERS = ("wired.yaml", "furnished.yaml", "accelerated.yaml", "trained.yaml", "served.yaml", "kept.yaml", "sealed.yaml")
WRITES = "8 sectors written since 5f3c1a2b"
FACTOR = {"key": "of a key", "options": sorted(OPTIONS), "codes": 5, "other_lines": 0}
FREE: dict[str, Any] = {"witnesses": ["9c1e"], "parts": [], "held": [], "writes": WRITES}
"""Facts of an unused drive, with one signature that has a witness."""
_LAB = load_stack("lab", HERE.parents[1])
STACK = replace(_LAB, endpoints={}, salt=SALT, repository=replace(_LAB.repository, salt=SALT, secrets=SECRETS))
ALSO = [replace(STACK, fleet=load_fleet(HERE / name, STACK.repository.roles)) for name in OTHERS]
CLUSTERED = replace(STACK, fleet=load_fleet(HERE / "clustered.yaml", STACK.repository.roles))
PODDED = replace(STACK, fleet=load_fleet(HERE / "podded.yaml", STACK.repository.roles))
RESOURCES = {declared.name: declared for stack in (STACK, *ALSO, PODDED) for declared in declare(stack)} | {
    declared.name: declared for declared in clusters(CLUSTERED)
}
_STORED = load_fleet(HERE / "stored.yaml", STACK.repository.roles)
STORED = replace(STACK, fleet=_STORED, store_urls={name: store.url for name, store in _STORED.object_stores.items()})
SHARED = replace(STACK, fleet=load_fleet(HERE / "shared.yaml", STACK.repository.roles), twin=None)
AT_ENDPOINTS = {declared.name: declared for stack in (STORED, SHARED) for declared in declare(stack)}
"""Resources whose facts are those of an endpoint."""


def recorded(host: str) -> dict[str, Any]:
    """Return raw facts recorded on the twin, with the GPUs and memory that its profile asks for and it has not.

    The probe, the workloads, the unit of a server and the udev rules that stand on it are today's. When these were
    recorded no drive was asked about its health and partitions, no array about a partial parity log, and no superblock
    about where the data begins: what stands here is written by hand, as of sound drives and none; and arrays that can
    grow left less of each member free, and no member was asked which array its superblock names. No run had a GPU.
    """
    copied: dict[str, Any] = pickle.loads(_pickled(host))
    return copied


@cache
def _pickled(host: str) -> bytes:
    return pickle.dumps(_completed(host))  # thousands of tests change a copy, and this makes one the quickest


def _completed(host: str) -> dict[str, Any]:
    if ":" in host:  # an endpoint, whose facts stand as they were recorded
        return _read(host.replace(":", "-"))
    if host in PODDED.fleet.hosts:
        return _pod_facts(host)
    made_up = {"willow": _tier_files, "sorrel": _sealed_facts}
    raw: dict[str, Any] = made_up[host]() if host in made_up else _read(host)
    choose_routes(load_services(raw))
    if host in CLUSTERED.fleet.hosts:
        return raw
    raw["hardware"]["memory_bytes"] = 1_000_000_000_000
    raw["hardware"]["pci"] += ["10de:20b2"] * 4 + ["10de:1eb8"] * 8
    raw.setdefault(
        "factors", {path[14:]: copy.deepcopy(FACTOR) for path in raw["files"] if path.startswith("/var/lib/totp/")}
    )
    raw.setdefault("swaps", [])
    for run in raw.get("runs", {}).values():
        run.setdefault("has_checkpoints", True)
        run.setdefault("every_steps", 100)
        if run["checkpoint"] is None and run["attempt"] is not None:
            run["checkpoint"] = run["steps"]
    for drive in raw["drives"]:
        drive.setdefault("health", {"passed": True, "pending_sectors": 0, "media_errors": 0, "wear_percent": 0})
        for name, value in {**FREE, "witnesses": ["9c1e"] * len(drive["signatures"])}.items():
            drive.setdefault(name, drive["sample"] if isinstance(drive["sample"], dict) else value)
        if drive["superblock"]:
            drive["superblock"].setdefault("data_offset_bytes", 16 << 20)
    for array in raw["arrays"]:
        array.setdefault("ppl", False)
        array.setdefault("array_size", "default")
        array.setdefault("sync_min", 0)
        array.setdefault("sync_max", "max")
        for member in array["members"]:
            member.setdefault("names_array", array["uuid"])
        if array["level"] in ("raid5", "raid6", "raid10"):
            array["member_bytes"] = RESOURCES[array["md_name"].replace(":", "/")].spec.member_kib * 1024
    sizes = {each["name"]: each["size_bytes"] for each in (*raw["arrays"], *raw.get("mappings", ()))}
    for filesystem in raw["filesystems"]:
        filesystem.setdefault("size_bytes", sizes.get(filesystem["device"], 0))
    for tier in (each.spec for each in RESOURCES.values() if isinstance(each.spec, TierSpec)):
        if tier.host == host and not tier.declared.array and tier.rule_path:
            text = STACK.repository.digest(boot.rule_text(tier, STACK.repository))
            raw["files"][tier.rule_path] = {"digest": text, "mode": "0644", "owner": "root:root", "mtime_ns": 1}
    for path in raw["files"]:
        if path.endswith("/workloads.zip"):
            raw["files"][path]["digest"] = STACK.repository.digest(STACK.repository.workloads)
    for run in (each.spec for each in RESOURCES.values() if isinstance(each.spec, TrainingSpec)):
        if run.host == host:
            raw = _with_firewall(raw, run)
    for name, server in raw.get("servers", {}).items():
        spec = RESOURCES[f"{host}/{name}"].spec
        _rename(raw, server["release"], release_of(spec, STACK.repository))
        for file in files_of_server(spec, STACK.repository):
            if file.path.endswith(".service"):
                raw["files"][file.path]["digest"] = STACK.repository.digest(file.content or "")
        server |= {"has_state": True, "others": [], "manifests": {}, "canary_rows": {}}
    if program.PATH in raw["files"]:
        raw["files"][program.PATH]["digest"] = STACK.repository.digest(program.program(STACK.repository.salt))
        raw["files"][program.LOG_CHAIN_PATH]["digest"] = STACK.repository.digest(program.log_chain_program())
    return with_nothing_more(raw)


def _with_firewall(raw: dict[str, Any], run: TrainingSpec) -> dict[str, Any]:
    """Return *raw* with the table of a *run*, which runs of the recorded hosts did not have, and its unit of today."""
    raw = with_table({"nftables": {}, **raw}, run.firewall)
    for file in files_of_run(run, STACK.repository):
        if file.path.endswith((".nft", ".service")):
            entry = {"mode": f"{file.mode:04o}", "owner": owner(file, run), "mtime_ns": 1}
            raw["files"][file.path] = {"digest": STACK.repository.digest(file.content or ""), **entry}
    return raw


def _pod_facts(host: str) -> dict[str, Any]:
    specs = [declared.spec for declared in declare(PODDED) if declared.spec.host == host]
    planes = [spec for spec in specs if isinstance(spec, PodsSpec)]
    if planes:
        return pod_facts.of_control_plane(planes, PODDED.fleet.hosts, STACK.repository)
    return pod_facts.of_host([spec for spec in specs if isinstance(spec, PodFilesSpec)], STACK.repository, SALT)


def _read(host: str, **renamed: str) -> dict[str, Any]:
    text = (HERE / "recorded" / f"{host}.json").read_text()
    for old, new in renamed.items():
        text = text.replace(old, new)
    read: dict[str, Any] = json.loads(text)
    return read


def _tier_files() -> dict[str, Any]:
    """Return facts of gpu-01 under other names. What keeps its tiers was not recorded: it is as it is declared."""
    raw = _read("gpu-01", **{"RW-GPU-01": "S-WILLOW", "gpu-01": "willow", "RW01": "WILLOW", '"rack"': '"kept"'})
    raw["covers"]["texts"].append(scrub.DEFAULTS)
    file = {"mode": "0644", "owner": "root:root", "mtime_ns": 1}
    raw["files"][scrub.CRON] = {"digest": "theirs", **file}
    raw["texts"][scrub.DEFAULTS] = "AUTOCHECK=false\n"
    raw["units"]["mdcheck_start.timer"] = {"load": "masked", "active": "inactive", "enabled": "masked"}
    for tier in ("hot", "warm"):
        spec = RESOURCES[f"willow/{tier}"].spec
        raw["units"][f"scrub-{tier}.timer"] = {"load": "loaded", "active": "active", "enabled": "enabled"}
        for path, text in scrub.texts(spec, spec.declared.scrub, STACK.repository).items():
            raw["files"][path] = {"digest": STACK.repository.digest(text), **file}
    warm = next(array for array in raw["arrays"] if array["md_name"] == "willow:warm")
    warm["sync_speed_max_kib"] = 100 * 1024
    warm["members"].append({"name": "sde", "slot": None, "state": ["spare"]})
    last = next(drive for drive in raw["drives"] if drive["name"] == "sdd")
    raw["drives"].append({**last, "name": "sde", "path": "/dev/sde", "serial": "WILLOW-SAS4"})
    raw["owners"]["tier-warm"]["serials"].append("WILLOW-SAS4")
    return raw


def _sealed_facts() -> dict[str, Any]:
    """Return facts of gpu-01 under other names, with what its arrays bear on mappings of them.

    Written by hand before there was a host to record; one of storage-life.4 reports the same, with other sizes.
    """
    raw = _read("gpu-01", **{"RW-GPU-01": "S-SORREL", "gpu-01": "sorrel", "RW01": "SORREL", '"rack"': '"sealed"'})
    raw["packages"]["cryptsetup-bin"] = "2:2.6.1-4~deb12u2"
    raw.update(mappings=[], luks_headers=[], luks_copies={}, credentials={}, tpm=2)
    raw["libraries"] = {name: [f"/usr/lib/x86_64-linux-gnu/{name}"] for name in luks.TPM_LIBRARIES}
    file = {"owner": "root:root", "mtime_ns": 1}
    for number, tier in enumerate(("hot", "warm")):
        spec, uuid = RESOURCES[f"sorrel/{tier}"].spec, f"5ea1ed00-0000-4000-8000-00000000000{number}"
        array = next(array for array in raw["arrays"] if array["md_name"] == spec.array_key)
        mapping = {"name": f"dm-{number}", "mapped_name": spec.mapping, "on": [array["name"]]}
        raw["mappings"].append({**mapping, "size_bytes": array["size_bytes"] - (16 << 20)})
        for found in (*raw["filesystems"], *raw["mounts"]):
            if found["device"] == array["name"]:
                found["device"] = mapping["name"]
        header = {"uuid": uuid, "version": 2, "sequence": 3, "key_slots": 1, "data_offset_bytes": 16 << 20}
        raw["luks_headers"].append({"device": array["name"], **header})
        raw["luks_copies"][spec.header_path] = header
        raw["owners"][f"tier-{tier}"]["luks"] = uuid
        digest = STACK.repository.digest
        raw["files"][spec.unlock_path] = {
            "digest": digest(luks.unit_text(spec, STACK.repository)),
            "mode": "0644",
            **file,
        }
        raw["files"][spec.key_path] = {"digest": digest(SECRETS[spec.declared.key]), "mode": "0600", **file}
        if spec.declared.tpm2:
            raw["files"][spec.key_path]["digest"] = "of what only the TPM can read"
            raw["credentials"][spec.key_path] = {
                "sealed_by": "tpm2",
                "opens": True,
                "digest": digest(SECRETS[spec.declared.key]),
            }
        raw["files"][spec.header_path] = {"digest": {"unknown": "larger than 1 MiB"}, "mode": "0600", **file}
        [uuid] = [found["uuid"] for found in raw["filesystems"] if found["device"] == mapping["name"]]
        text = boot.unit_text(spec, STACK.repository).replace(f"${{filesystem:{spec.carrier}}}", uuid)
        raw["texts"][spec.unit_path] = text
    return raw


def _rename(raw: dict[str, Any], old: str, new: str) -> None:
    """Rename a server's release by its current content."""
    for table in ("files", "directories"):
        raw[table] = {path.replace(f"/releases/{old}", f"/releases/{new}"): found for path, found in raw[table].items()}
    for server in raw["servers"].values():
        server["release"] = new


HOST = "gpu-01"


def blank() -> dict[str, Any]:
    """Return the recorded facts as they were before any tier was made."""
    raw = recorded(HOST)
    for drive in raw["drives"]:
        if drive["superblock"]:
            drive |= {**FREE, "superblock": None, "signatures": [], "witnesses": [], "holders": [], "sample": []}
    ours = re.compile(r"/etc/mdadm/mdadm.conf.d/|/etc/udev/rules.d/62-tier-|\bsrv-")
    for name in ("files", "texts", "units"):
        raw[name] = {key: value for key, value in raw[name].items() if not ours.search(key)}
    raw["filesystems"] = [found for found in raw["filesystems"] if not found["device"].startswith("md")]
    raw["mounts"] = [found for found in raw["mounts"] if not found["target"].startswith("/srv/")]
    return raw | {"arrays": [], "owners": {}}
