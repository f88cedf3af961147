"""The units of systemd, both those in memory and those that have only a file.

The enabled state is read from the links. ``systemctl list-unit-files`` prints the same states but walks all links once
per unit, which takes 3.5 s instead of 0.1 s in an emulated guest.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any, Iterable, Iterator

from rackwright.facts.probe.observe import (
    ENVIRONMENT,
    FOLDER,
    ReadError,
    attempt,
    listing,
    read,
    run_tool,
    unknown_value,
)

ADMINISTRATOR, RUNTIME = "/etc/systemd/system", "/run/systemd/system"
SEARCH_PATH = (
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    ADMINISTRATOR,
    RUNTIME,
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
)
BEFORE_ALL = ("/etc/systemd/system.control", "/run/systemd/system.control")
"""Folders of `systemctl set-property`, which take precedence over all others."""
VENDOR = ("/usr/lib/", "/lib/", "/usr/local/lib/")
STALE = "an earlier version, in systemd's memory"
UNIT = re.compile(r".+\.(service|socket|target|mount|automount|swap|timer|path|slice|device|scope)")
LOAD_STATES = ("loaded", "masked", "not-found", "bad-setting", "error", "stub", "merged")
ACTIVE_STATES = ("active", "inactive", "failed", "activating", "deactivating", "reloading", "maintenance", "refreshing")
"""Load states and active states of units. Source: systemd, src/basic/unit-def.c."""
UNIT_COUNT = re.compile(r"^(\d+) loaded units listed\.", re.M)
"""Line that systemctl prints below its list of units."""
DEPENDENCY_FOLDERS = (".wants", ".requires", ".upholds")
RECENTLY_SECONDS = 600
"""Uptime after which a host has finished its boot, or never will."""
START_SECONDS = 120
"""Maximum wait for the end of the boot; the caller of the probe waits three minutes."""
RULES = {"WantedBy", "RequiredBy", "UpheldBy", "Alias", "DefaultInstance"}


def wait_for_boot(root: str) -> None:
    """Wait until systemd has finished the boot, because arrays and mounts may be incomplete before that.

    After a power loss, md waits 30 seconds before it starts an array with an interrupted reshape.
    """
    uptime = float(read(f"{root}/proc/uptime").split()[0])
    if uptime < RECENTLY_SECONDS:
        argv = ("systemctl", "is-system-running", "--wait")
        subprocess.run(
            argv,
            env=ENVIRONMENT,
            cwd=FOLDER,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_SECONDS,
            check=False,
        )


def units(root: str) -> dict[str, Any]:
    """Return every unit that systemd has in memory or has a file for.

    systemd validates a unit file only when it loads the file. This function triggers that for the administrator's
    mounts; the load state of any other unit that is not in memory stays unknown.
    """
    states = unit_file_states(root)
    memory_units = {
        name: {"load": load, "active": active, "enabled": states.get(name, "")} for name, load, active in in_memory()
    }
    idle_units = {name: idle_unit(state) for name, state in states.items() if name not in memory_units}
    unloaded_mounts = [
        name
        for name in listing(root + ADMINISTRATOR, "*.mount")
        if isinstance(idle_units.get(name, {}).get("load"), dict)
    ]
    for name, properties in show(("LoadState",), unloaded_mounts).items():
        if name in idle_units and properties["LoadState"] in LOAD_STATES:
            idle_units[name]["load"] = properties["LoadState"]
    return {**memory_units, **idle_units}


def in_memory() -> list[tuple[str, str, str]]:
    """Return name, load state and active state of each unit that systemd has in memory.

    Raises:
        ReadError: the output is no list of units, or its length differs from the count that systemctl prints.
    """
    output = run_tool("systemctl", "list-units", "--all", "--plain", "--no-pager", "--full")
    rows = []
    for line in output.splitlines():
        name, load, active, *_ = *line.split(), "", "", ""
        if (
            UNIT.fullmatch(name) and load in LOAD_STATES and active in ACTIVE_STATES
        ):  # a description may continue on other lines
            rows.append((name, load, active))
    count = UNIT_COUNT.findall(output)
    if [str(len(rows))] != count or not output.endswith("\n"):
        raise ReadError("the output of systemctl is not its list of units, or incomplete")
    return rows


def show(properties: tuple[str, ...], names: list[str]) -> dict[str, dict[str, str]]:
    """Return *properties* of the units *names*; units without all of the properties are left out."""
    output = run_tool("systemctl", "show", f"--property=Id,{','.join(properties)}", "--", *names) if names else ""
    by_unit = {}
    for paragraph in output.split("\n\n"):
        values = dict(line.split("=", 1) for line in paragraph.splitlines() if "=" in line)
        if values.keys() == {"Id", *properties}:
            by_unit[values["Id"]] = values
    return by_unit


def overrides(root: str) -> dict[str, list[str]]:
    """Return for each unit the files that change its behaviour, beside its own unit file.

    These are drop-ins (for the unit, a part of its name before a dash, its aliases, or its type), and unit files that
    take precedence over another file of the same name. Drop-ins that a package installs for its own unit do not count.
    A unit whose files changed since systemd last read them has the entry STALE: systemd still uses the old files.
    """
    files, drop_ins, aliases = unit_files(root)
    overriding = {
        name: paths for name in files if (paths := overriding_files(root, name, files[name], drop_ins, aliases))
    }
    names = [
        name
        for name, places in files.items()
        if (name in overriding or places[0].startswith(f"{ADMINISTRATOR}/"))
        and "@." not in name
        and not os.path.islink(root + places[0])
    ]
    states = show(("NeedDaemonReload",), names)
    for name in names:
        state = states.get(name, {}).get("NeedDaemonReload")
        if state not in ("yes", "no"):
            raise ReadError(f"systemctl does not show whether {name} needs a daemon-reload")
        if state == "yes":
            overriding.setdefault(name, []).append(STALE)
    return overriding


def overriding_files(
    root: str, name: str, unit_paths: list[str], drop_ins: dict[str, list[str]], aliases: dict[str, set[str]]
) -> list[str]:
    """Return the files that change the unit *name*; systemd reads the first of its files *unit_paths*."""
    overriding = {path for path in unit_paths[:-1] if not os.path.islink(root + path) and os.path.getsize(root + path)}
    is_packaged = not unit_paths[0].startswith(f"{ADMINISTRATOR}/")
    for folder in drop_in_folders(name, aliases.get(name, ())):
        for path in drop_ins.get(folder, ()):
            # a package may extend its own unit, and a distribution all units of a type
            if not path.startswith(VENDOR) or (folder == f"{name}.d" and not is_packaged):
                overriding.add(path)
    return sorted(overriding)


def unit_files(root: str) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, set[str]]]:
    """Return the files of each unit by precedence, the drop-ins in each folder, and the aliases of each unit."""
    files: dict[str, list[str]] = {}
    drop_ins: dict[str, list[str]] = {}
    aliases: dict[str, set[str]] = {}
    for folder in (*BEFORE_ALL, *SEARCH_PATH):
        if folder == "/lib/systemd/system" and os.path.islink(f"{root}/lib"):
            continue  # a link to /usr/lib, which is in the list
        for name in listing(root + folder):
            path = f"{folder}/{name}"
            if name.endswith(".d"):
                drop_ins.setdefault(name, []).extend(f"{path}/{each}" for each in listing(root + path, "*.conf"))
            elif UNIT.fullmatch(name):
                files.setdefault(name, []).append(path)
                target = os.path.basename(os.readlink(root + path)) if os.path.islink(root + path) else name
                if target not in (name, "null"):
                    aliases.setdefault(target, set()).add(name)
    for folder in drop_ins:  # an instance has the file of its template
        template = re.sub(r"@[^.]+(\.\w+)\.d$", r"@\1", folder)
        if template in files:
            files.setdefault(folder[: -len(".d")], files[template])
    return files, drop_ins, aliases


def drop_in_folders(name: str, aliases: Iterable[str]) -> Iterator[str]:
    """Yield the names of the drop-in folders of a unit. Source: systemd.unit(5)."""
    for unit in (name, *aliases):
        stem, _, kind = unit.rpartition(".")
        yield f"{unit}.d"
        template, separator, _ = stem.partition("@")
        if separator:
            yield f"{template}@.{kind}.d"
        parts = template.split("-")
        for number in range(1, len(parts)):
            yield f"{'-'.join(parts[:number])}-.{kind}.d"
        yield f"{kind}.d"


def idle_unit(state: Any) -> dict[str, Any]:
    is_masked = isinstance(state, str) and state.startswith("masked")
    return {"load": "masked" if is_masked else unknown_value("not in memory"), "active": "inactive", "enabled": state}


def unit_file_states(root: str) -> dict[str, Any]:
    """Return the state of every unit file, in the words of ``systemctl list-unit-files``."""
    paths: dict[str, str] = {}
    for folder in SEARCH_PATH:
        for name in listing(root + folder):
            if UNIT.fullmatch(name):
                paths.setdefault(name, f"{folder}/{name}")
    links = {**links_in(root + RUNTIME, "enabled-runtime"), **links_in(root + ADMINISTRATOR, "enabled")}
    return {name: attempt(state, root, name, path, links) for name, path in paths.items()}


def links_in(folder: str, meaning: str) -> dict[str, str]:
    """Return *meaning* for every unit that a link below *folder* enables, and for every alias as ``alias -> unit``."""
    states = {}
    for name in listing(folder):
        path = f"{folder}/{name}"
        if name.endswith(DEPENDENCY_FOLDERS):
            for link in listing(path):
                states[link] = meaning
                if os.path.islink(f"{path}/{link}"):  # an instance enables its template
                    states[os.path.basename(os.readlink(f"{path}/{link}"))] = meaning
        elif os.path.islink(path):
            states[f"{name} -> {os.path.basename(os.readlink(path))}"] = meaning
    return states


def state(root: str, name: str, path: str, links: dict[str, str]) -> str:
    if path.startswith("/run/systemd/transient/"):
        return "transient"
    if path.startswith("/run/systemd/generator"):
        return "generated"
    target = os.readlink(root + path) if os.path.islink(root + path) else ""
    if target == "/dev/null" or (not target and os.path.getsize(root + path) == 0):
        return "masked-runtime" if path.startswith("/run/") else "masked"
    if target and os.path.basename(target) != name:
        return "alias"
    if name in links:
        return links[name]
    if target.startswith("/") and os.path.dirname(target) not in SEARCH_PATH:
        return "linked"
    install = dict(re.findall(r"^(\w+)\s*=\s*(.+)$", read(root + path).partition("[Install]")[2], re.M))
    for alias in install.get("Alias", "").split():
        if f"{alias} -> {name}" in links:
            return links[f"{alias} -> {name}"]
    if RULES & install.keys():
        return "disabled"
    return "indirect" if "Also" in install else "static"
