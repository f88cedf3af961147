"""Find and change entries of raw facts."""

from typing import Any

Raw = dict[str, Any]


def with_a_key_more(raw: Raw, account: str) -> None:
    """Add an undeclared key to the home of *account*."""
    raw["login_keys"][account]["files"][f"/home/{account}/.ssh/authorized_keys"].append("SHA256:of-somebody-else")


def note_gpus(raw: Raw, key: str) -> None:
    """Note GPUs for a server that has none."""
    raw["gpu_assignments"][key] = {"fleet": "lab", "gpus": ["0"], "uuids": []}


def share_gpus(raw: Raw, key: str) -> None:
    """Note the same GPUs for another run."""
    raw["gpu_assignments"]["run-other"] = raw["gpu_assignments"][key]


def declare_other_gpus(raw: Raw, key: str) -> None:
    """Note the same boards under other indices."""
    raw["gpu_assignments"][key]["gpus"] = ["9"]
    raw["gpus"][0]["index"] = 9


def lose_pods(raw: Raw, key: str) -> None:
    """Make the jobs of a run fail, or remove the pods of a server."""
    for item in raw["kubernetes_cluster"]["workloads"].values():
        item["conditions"] = {"Failed": "too many starts"}
        for count in ("availableReplicas", "readyReplicas"):
            if count in item["status"]:
                item["status"][count] = 0


def leave_autoscaler(raw: Raw, key: str) -> None:
    """Leave an autoscaler of a server, which was declared before."""
    team, _, name = key.split("/")
    workloads = raw["kubernetes_cluster"]["workloads"]
    workloads[f"{team}/HorizontalPodAutoscaler/{name}-earlier"] = {
        "labels": workloads[f"{team}/Service/{name}"]["labels"], "conditions": {}, "status": {}, "managers": []
    }  # fmt: skip


def record_refusal(raw: Raw, key: str) -> None:
    """Record on a server's host that its release was refused."""
    server = raw["servers"][key]
    server["refused"] = {"release": server["release"], "version": server["version"], "why": "the canary has 3% right"}


def array(raw: Raw, key: str) -> Raw:
    return next(entry for entry in raw["arrays"] if key in (entry["md_name"], entry["uuid"]))


def one_place_more(raw: Raw, key: str) -> None:
    """Add a place to an array, with a member that is none of the drives."""
    found = array(raw, key)
    found["members"].append({"name": "gone0n1", "slot": found["devices"], "state": ["in_sync"]})
    found["devices"] += 1


def drive(raw: Raw, serial: str) -> Raw:
    return next(entry for entry in raw["drives"] if entry["serial"] == serial)


def health(raw: Raw, serial: str) -> Raw:
    found: Raw = drive(raw, serial)["health"]
    return found


def filesystem(raw: Raw, key: str) -> Raw:
    """Return the filesystem on an array, or on what is open under a path."""
    opened = [entry["name"] for entry in raw.get("mappings", ()) if f"/dev/mapper/{entry['mapped_name']}" == key]
    on = opened[0] if opened else array(raw, key)["name"]
    return next(entry for entry in raw["filesystems"] if entry["device"] == on)


def header(raw: Raw, md_name: str) -> Raw:
    return next(entry for entry in raw["luks_headers"] if entry["device"] == array(raw, md_name)["name"])


def mapping(raw: Raw, md_name: str) -> Raw:
    return next(entry for entry in raw["mappings"] if entry["on"] == [array(raw, md_name)["name"]])


def copy(raw: Raw, md_name: str) -> Raw:
    found: Raw = raw["luks_copies"][f"/etc/rackwright/tiers/{md_name.partition(':')[2]}.header"]
    return found


def credential(raw: Raw, path: str) -> Raw:
    found: Raw = raw["credentials"][path]
    return found


def lock_to_other_tpm(raw: Raw, path: str) -> None:
    """Seal the credential to the TPM of another mainboard."""
    credential(raw, path).update(opens=False, digest={"unknown": "systemd-creds ended with 1"})


def header_made_anew(raw: Raw, md_name: str) -> None:
    for found in (header(raw, md_name), copy(raw, md_name)):
        found["uuid"] = "another"


def opened_as_another(raw: Raw, md_name: str) -> None:
    raw["mappings"].insert(0, {**mapping(raw, md_name), "name": "dm-9", "mapped_name": "another"})


def mount(raw: Raw, target: str) -> Raw:
    return next(entry for entry in raw["mounts"] if entry["target"] == target)


def path(key: str) -> str:
    return key if key.startswith("/") else f"/etc/systemd/system/{key}"


def without(entries: list[Raw], **wanted: str) -> None:
    entries[:] = [entry for entry in entries if any(entry[key] != value for key, value in wanted.items())]


def file_entry(raw: Raw, key: str) -> Raw:
    return raw["files"][path(key)]


def rewrite(raw: Raw, key: str) -> None:
    file_entry(raw, key)["digest"] = "of something else"
    if path(key) in raw["texts"]:
        raw["texts"][path(key)] += "# by hand\n"


def blacken(raw: Raw, key: str) -> None:
    for table, name in ((file_entry(raw, key), "digest"), (raw["texts"], path(key))):
        table[name] = {"unknown": "it is not UTF-8"}


ONE_MORE = 1 << 20


def link(raw: Raw, name: str) -> Raw:
    return next(entry for entry in raw["links"] if entry["name"] == name)


def add_shadowing_route(raw: Raw, name: str) -> None:
    """Add a preferred route to the same destination."""
    raw["routes"].append({**route(raw, name), "gateway": "192.0.2.99", "metric": 0})


def route(raw: Raw, name: str) -> Raw:
    to = name.partition(" ")[0]
    ways = [entry for entry in raw["routes"] if entry["destination"] == ("default" if to == "0.0.0.0/0" else to)]
    return next(entry for entry in ways if entry["link"] != "management")


def path_to(raw: Raw, key: str) -> Raw:
    return raw["paths"][key.partition(":")[2]]


def write(raw: Raw, file: str, text: str) -> None:
    """Add an unmanaged file."""
    raw["files"][file] = {"digest": "theirs", "mode": "0644", "owner": "root:root", "mtime_ns": 1}
    raw["texts"][file] = text
    raw.setdefault("directories", {}).setdefault(
        file.rpartition("/")[0], {"mode": "0755", "owner": "root:root", "mtime_ns": 1}
    )


def load_services(raw: Raw) -> Raw:
    """Add that each running service began after the last change of its files; return *raw*."""
    running = [name for name, unit in raw.get("units", {}).items() if unit.get("active") == "active"]
    services = [name for name in running if name.endswith(".service")]
    raw.setdefault("loads", {name: {**LOADED} for name in services})
    raw.setdefault("changed_files", {})
    raw.setdefault("same_content", {})
    return raw


def choose_routes(raw: Raw) -> Raw:
    """Add that the kernel takes the cheapest of the configured routes to each destination; return *raw*."""
    chosen: Raw = {}
    for route in sorted(raw.get("routes", []), key=lambda route: -route["metric"]):
        everywhere = "::/0" if ":" in (route["gateway"] or "") else "0.0.0.0/0"
        destination = everywhere if route["destination"] == "default" else route["destination"]
        chosen[destination] = [{"gateway": route["gateway"], "link": route["link"], "to": "192.0.2.1"}]
    raw.setdefault("chosen_routes", chosen)
    return raw


def divert(raw: Raw, key: str) -> None:
    """Let the kernel take another route for some addresses of a destination."""
    rows = raw["chosen_routes"].setdefault(key.partition(" ")[0], [])
    rows.append({"gateway": "192.0.2.77", "link": "other0", "to": "192.0.2.9"})


LOADED = {"started_ns": 2, "loaded_ns": 2, "program_replaced": False}


def change_after_start(raw: Raw, key: str) -> None:
    """Change the file, or the program, of ``UNIT:PATH`` after the start of the unit."""
    unit, _, path = key.rpartition(":")
    service = raw["loads"].setdefault(unit, {**LOADED})
    if path == "program":
        service["program_replaced"] = True
    else:
        raw["changed_files"][path] = service["loaded_ns"] + 1


INTERFACES = "/etc/network/interfaces"


def account(raw: Raw, name: str) -> Raw:
    return raw["users"][name]


def directory(raw: Raw, path: str) -> Raw:
    return raw["directories"][path]


def listener(raw: Raw, key: str) -> None:
    protocol, _, port = key.partition(":")
    raw["sockets"] = [found for found in raw["sockets"] if (found["protocol"], found["port"]) != (protocol, int(port))]


def toggle(table: Raw, key: str) -> None:
    """Remove the key if it exists, else add it."""
    if table.pop(key, None) is None:
        table[key] = "1.0"


def built_modules(raw: Raw, name: str) -> list[Raw]:
    return [module for kernel in raw["kernels"].values() for module in kernel["modules"] if module["name"] == name]


def newer_kernel(raw: Raw, key: str) -> None:
    """Make a kernel without modules the next, while the kernel with modules runs."""
    raw["sysctls"]["kernel.osrelease"] = next(iter(raw["kernels"]))
    raw["kernels"]["99.1"] = {"bootable": True, "modules": []}


def newer_kernel_without(raw: Raw, key: str) -> None:
    """Make a kernel without DKMS modules the next."""
    raw["kernels"]["99.1"] = {"bootable": True, "modules": []}


def stop_run(raw: Raw, name: str) -> None:
    """Stop a run by hand, which has saved its state."""
    raw["units"][f"training-{name}.service"]["active"] = "inactive"
    raw["runs"][name]["outcome"] = "stopped"


def stop_sshd(raw: Raw, name: str) -> None:
    raw["units"][f"training-{name}-door.service"]["active"] = "inactive"


def model(raw: Raw, key: str, flaw: str) -> None:
    name, _, version = key.partition("/")
    raw["servers"][name]["models"][version] = flaw


def set_otherwise(raw: Raw, key: str) -> None:
    gpu = raw["gpus"][-1]
    if key == "mig":
        gpu["mig_instances"] = gpu["mig_instances"][1:]
    else:
        gpu[key] = gpu[key] - 50 if isinstance(gpu[key], float) else not gpu[key]
