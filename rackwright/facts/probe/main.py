"""The entry point of the probe, which reads all facts of a host and writes nothing but its own digest cache."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Sequence

from rackwright.facts.digest import salt_id
from rackwright.facts.probe import (
    account_files,
    accounts,
    archives,
    arrays,
    block,
    boot,
    containers,
    control_groups,
    credentials,
    encryption,
    factors,
    file_integrity,
    gpus,
    kernel,
    kubernetes,
    libraries,
    loads,
    log_chain,
    measures,
    network,
    nftables,
    object_store,
    offers,
    package_database,
    packaged,
    packet_paths,
    paths,
    processes,
    proof,
    python_environments,
    rights,
    runs,
    schedules,
    servers,
    service_processes,
    service_state,
    storage_behaviour,
    system,
    tracking,
    trials,
    unit_properties,
    units,
    vendors,
)
from rackwright.facts.probe.isolate import Isolation, isolate
from rackwright.facts.probe.log_segments import CHAIN
from rackwright.facts.probe.observe import FOLDER, attempt, hanging, unknown_value, unwrap
from rackwright.facts.probe.output import write_facts

LOGIN_KEYS_SECONDS = 60
"""Time limit for the keys of all accounts: sshd runs once for each, which is slow on an emulated host."""
INTEGRITY_SECONDS, INTEGRITY_BYTES = 140, 1 << 30
"""Limits for the account of all files, and for that of Python environments, which run beside all other reads."""


def main(job: dict[str, Any]) -> None:
    os.chdir(FOLDER)  # that of the caller belongs to an account that may only probe
    os.umask(0o077)
    hanging.begin()
    attempt(units.wait_for_boot, "")
    write_facts(
        {
            "format": job["format"],
            **collect(
                "",
                bytes.fromhex(job["salt"]),
                job.get("nonce", ""),
                job.get("key_types", ()),
                job.get("account_of_files", True),
            ),
        }
    )


def collect(
    root: str, salt: bytes, nonce: str = "", key_types: Sequence[str] = (), account_of_files: bool = True
) -> dict[str, Any]:
    """Return all facts of the system whose files are below *root*; an empty *root* means this system."""
    account: dict[str, Callable[[], Any]] = {}
    if account_of_files:
        account["integrity"] = lambda: file_integrity.file_integrity(root, salt)
        account["package_database"] = lambda: package_database.package_database(root)
    integrity = Isolation(account, INTEGRITY_SECONDS, INTEGRITY_BYTES)
    environments = Isolation(python_environments.readers(root, salt), INTEGRITY_SECONDS, INTEGRITY_BYTES)
    taken_at = time.time()
    identity, boot_id = attempt(system.identity, root), attempt(kernel.boot_id, root)
    proofs = attempt(proof.begin, root, nonce, list(key_types), identity, boot_id, taken_at)
    machine = attempt(block.BlockDevices, root)
    start = attempt(loads.start_of_system, root)
    changes = system.Changes(start if isinstance(start, int) else system.NEVER)
    tree = attempt(system.tree, root, salt, changes)
    opened = attempt(processes.open_files, root)
    packages = attempt(system.packages, root)
    unit_states = attempt(units.units, root)  # before the arrays: units that wait for md exist until it is done
    properties = attempt(lambda: unit_properties.properties(unwrap(unit_states)))
    manager = attempt(service_processes.manager_values)
    listeners = attempt(lambda: processes.listeners(root, unwrap(opened)))
    return {
        "taken_at": taken_at,
        "salt_id": salt_id(salt),
        "covers": {
            "files": system.COVERED,
            "texts": system.TEXTS,
            "sysctls_left_out": kernel.SYSCTLS_LEFT_OUT,
        },
        "identity": identity,
        "os": attempt(system.release, root),
        "hardware": attempt(system.hardware, root),
        "units": unit_states,
        "loads": attempt(lambda: loads.loads(root, unwrap(unit_states))),
        "service_processes": attempt(
            lambda: service_processes.service_processes(root, unwrap(properties), unwrap(manager))
        ),
        "group_limits": attempt(lambda: control_groups.group_limits(root, unwrap(properties))),
        "manager_environment": attempt(lambda: service_processes.manager_environment(unwrap(manager))),
        "changed_files": attempt(lambda: [unwrap(start), unwrap(tree), changes.times][-1]),
        "same_content": attempt(lambda: [unwrap(start), unwrap(tree), changes.spans][-1]),
        "unit_overrides": attempt(units.overrides, root),
        "trials": attempt(trials.trials, root),
        "step_units": attempt(trials.step_units, root),
        "drives": attempt(lambda: block.drives(unwrap(machine))),
        "arrays": attempt(lambda: arrays.arrays(unwrap(machine))),
        "filesystems": attempt(lambda: block.filesystems(unwrap(machine))),
        "mappings": attempt(lambda: encryption.mappings(unwrap(machine))),
        "luks_headers": attempt(lambda: encryption.luks_headers(unwrap(machine))),
        "luks_copies": attempt(encryption.luks_copies, root),
        "tpm": attempt(credentials.tpm, root),
        "credentials": attempt(credentials.credentials, root, salt),
        "mounts": attempt(lambda: unwrap(machine).mounts),
        "filesystem_states": attempt(lambda: storage_behaviour.filesystem_states(unwrap(machine))),
        "device_states": attempt(lambda: storage_behaviour.device_states(unwrap(machine))),
        "rebuild_speed_kib": attempt(storage_behaviour.rebuild_speed, root),
        "swaps": attempt(block.swap_areas, root),
        "links": attempt(network.links, root),
        "routes": attempt(network.routes, root),
        "chosen_routes": attempt(network.chosen_routes, root),
        "dead_routes": attempt(network.dead_routes, root),
        **{name: attempt(reader, root) for name, reader in packet_paths.READERS.items()},
        "sockets": attempt(network.sockets, root),
        "nftables": attempt(nftables.tables, root),
        "packet_filters": attempt(nftables.packet_filters, root),
        "nfs_exports": attempt(offers.nfs_exports, root),
        "kernel_names": attempt(offers.kernel_names, root),
        "kubernetes_node": attempt(kubernetes.node, root),
        "kubernetes_cluster": attempt(kubernetes.cluster, root),
        "kubernetes_certificates": attempt(kubernetes.certificates, root),
        "resolvers": attempt(network.resolvers, root),
        "search_domains": attempt(network.search_domains, root),
        "paths": attempt(paths.paths, root),
        "packages": packages,
        "held": attempt(system.held_packages, root),
        "environments": attempt(system.environments, root),
        "environment_files": environments.results().get("environment_files", {}),
        "other_environments": environments.results().get("other_environments", {}),
        "tracking_accounts": attempt(tracking.accounts, root),
        "tracking_rights": attempt(tracking.rights, root),
        "state_directories": attempt(service_state.state_directories, root),
        "service_variables": attempt(service_state.variables, root),
        "service_certificates": attempt(service_state.service_certificates, root),
        "users": attempt(accounts.users, root),
        "groups": attempt(accounts.groups, root),
        "account_files": attempt(account_files.account_files, root),
        "login_keys": isolate("login_keys", accounts.login_keys, root, seconds=LOGIN_KEYS_SECONDS),
        "sysctls": attempt(kernel.sysctls, root),
        "modules": attempt(kernel.modules, root),
        "modules_builtin": attempt(kernel.modules_builtin, root),
        "module_versions": attempt(kernel.module_versions, root),
        "secure_boot": attempt(kernel.secure_boot, root),
        "kernels": attempt(kernel.kernels, root),
        "libraries": attempt(libraries.libraries, root),
        "kernel_parameters": attempt(kernel.kernel_parameters, root),
        "boot_id": boot_id,
        "boot": attempt(boot.boot, root),
        "files": attempt(lambda: unwrap(tree)[0]),
        "directories": attempt(lambda: unwrap(tree)[1]),
        "texts": attempt(system.texts, root),
        "owners": attempt(system.owners, root),
        "initramfs": attempt(system.initramfs, root),
        "readings": attempt(vendors.readings, root),
        "dkms": attempt(vendors.dkms, root),
        "accelerator_users": attempt(lambda: vendors.accelerator_users(root, unwrap(opened))),
        "redirecting_bridges": attempt(vendors.redirecting_bridges, root),
        "cdi": attempt(containers.cdi, root),
        "images": attempt(containers.images, root),
        "containers": attempt(containers.containers, root),
        "listeners": listeners,
        "base_programs": attempt(lambda: packaged.base_programs(root, processes.programs_of(unwrap(listeners)))),
        "shadowing_programs": attempt(packaged.shadowing_programs, root),
        "changed_conffiles": attempt(packaged.changed_conffiles, root),
        "archives": attempt(archives.archives, root),
        "foreign_packages": attempt(lambda: archives.foreign_packages(root, unwrap(packages))),
        "factors": attempt(factors.factors, root, salt),
        "sudoers": attempt(rights.sudoers, root),
        "sudo_settings": attempt(rights.sudo_settings, root),
        "pam_modules": attempt(rights.pam_modules, root),
        "pam_profile_modules": attempt(rights.pam_profile_modules, root),
        "crontabs": attempt(schedules.crontabs, root),
        "at_jobs": attempt(schedules.at_jobs, root),
        "lingering": attempt(schedules.lingering, root),
        "user_units": isolate("user_units", schedules.user_units, root),
        "module_taints": attempt(kernel.module_taints, root),
        "grub_parameters": attempt(kernel.grub_parameters, root),
        "log_chain": isolate("log_chain", log_chain.log_chain, root) if os.path.exists(root + CHAIN) else None,
        "object_store": attempt(object_store.object_store, root),
        "gpu_assignments": attempt(gpus.assignments, root),
        "runs": attempt(runs.runs, root),
        "servers": isolate("servers", servers.servers, root) if os.path.exists(root + servers.SERVERS) else {},
        "measures": measures.measures(),
        "proofs": attempt(lambda: proof.end(unwrap(proofs))),
        **files_of(integrity.results()),
        **gpus.gpus(root),
        "finished_at": time.time(),  # the last value, so that little time passes until the caller reads its own clock
    }


def files_of(results: dict[str, Any]) -> dict[str, Any]:
    """Return the account of all files, its list of the files of configuration that no package installed, and dpkg's."""
    nothing = unknown_value("this command asked for no account of files")
    integrity = results.get("integrity", nothing)
    return {
        "unpackaged": attempt(lambda: unwrap(integrity).pop("unpackaged")),
        "integrity": integrity,
        "package_database": results.get("package_database", nothing),
    }
