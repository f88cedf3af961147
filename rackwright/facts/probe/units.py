"""systemd's units: those it has in memory, and those it has only a file for.

What is enabled is read from the links themselves. ``systemctl list-unit-files`` says the same, but walks all links
once per unit: 3.5 s in an emulated guest, where this takes 0.1.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any, Iterable, Iterator

from rackwright.facts.probe.observe import (
    ENVIRONMENT,
    ReadError,
    attempt,
    listing,
    read,
    tool,
    unknown,
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
"""Folders in which `systemctl set-property` writes, which come before everything else."""
VENDOR = ("/usr/lib/", "/lib/", "/usr/local/lib/")
STALE = "an earlier version, in systemd's memory"
UNIT = re.compile(r".+\.(service|socket|target|mount|automount|swap|timer|path|slice|device|scope)")
LOADS = ("loaded", "masked", "not-found", "bad-setting", "error", "stub", "merged")
ACTIVES = ("active", "inactive", "failed", "activating", "deactivating", "reloading", "maintenance", "refreshing")
"""Words of systemd for units. Source: systemd, src/basic/unit-def.c."""
COUNTED = re.compile(r"^(\d+) loaded units listed\.", re.M)
"""The line that systemctl prints below its list of units."""
PULLS = (".wants", ".requires", ".upholds")
RECENTLY_SECONDS = 600
"""A host that has been up for longer has started, or never will."""
START_SECONDS = 120
"""Who waits for the probe gives it up after three minutes."""
RULES = {"WantedBy", "RequiredBy", "UpheldBy", "Alias", "DefaultInstance"}


def started(root: str) -> None:
    """Wait until systemd is through with starting the host, which may have all of its arrays and mounts only then.

    md waits half a minute after a loss of power before it starts an array in the middle of a reshape.
    """
    uptime = float(read(f"{root}/proc/uptime").split()[0])
    if uptime < RECENTLY_SECONDS:
        argv = ("systemctl", "is-system-running", "--wait")
        subprocess.run(
            argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, timeout=START_SECONDS, check=False
        )


def units(root: str) -> dict[str, Any]:
    """Return every unit that systemd has in memory or a file for.

    Whether a unit file is good systemd knows only after loading it. That is asked for here for the administrator's
    mounts; for any other unit that is not in memory it stays unknown.
    """
    states = enabled(root)
    loaded = {
        name: {"load": load, "active": active, "enabled": states.get(name, "")} for name, load, active in in_memory()
    }
    idle = {name: idle_unit(state) for name, state in states.items() if name not in loaded}
    asked = [
        name for name in listing(root + ADMINISTRATOR, "*.mount") if isinstance(idle.get(name, {}).get("load"), dict)
    ]
    for name, shown in show(("LoadState",), asked).items():
        if name in idle and shown["LoadState"] in LOADS:
            idle[name]["load"] = shown["LoadState"]
    return {**loaded, **idle}


def in_memory() -> list[tuple[str, str, str]]:
    """Return the units that systemd has in memory: name, whether the file is good, whether it is active.

    Raises:
        ReadError: systemctl printed something else, or not all of it: it counts its lines itself.
    """
    printed = tool("systemctl", "list-units", "--all", "--plain", "--no-pager", "--full")
    found = []
    for line in printed.splitlines():
        name, load, active, *_ = *line.split(), "", "", ""
        if UNIT.fullmatch(name) and load in LOADS and active in ACTIVES:  # a description may go on in other lines
            found.append((name, load, active))
    counted = COUNTED.findall(printed)
    if [str(len(found))] != counted or not printed.endswith("\n"):
        raise ReadError("what systemctl prints is not its list of units, or not all of it")
    return found


def show(properties: tuple[str, ...], names: list[str]) -> dict[str, dict[str, str]]:
    """Return *properties* of the units *names*; units about which systemctl prints something else are left out."""
    printed = tool("systemctl", "show", f"--property=Id,{','.join(properties)}", "--", *names) if names else ""
    found = {}
    for block in printed.split("\n\n"):
        shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if shown.keys() == {"Id", *properties}:
            found[shown["Id"]] = shown
    return found


def overrides(root: str) -> dict[str, list[str]]:
    """Return by unit the files that change what systemd does with it, beside the file that it has by itself.

    These are drop-ins (for the unit, for a part of its name before a dash, for its aliases, or for all of its type)
    and files of its name that come before another one. Drop-ins that a package brings for its own unit are none. A unit
    whose files systemd has not read since they were changed has the entry STALE: it does what they said before.
    """
    files, drop_ins, aliases = unit_files(root)
    found = {name: paths for name in files if (paths := changing(root, name, files[name], drop_ins, aliases))}
    asked = [
        name
        for name, places in files.items()
        if (name in found or places[0].startswith(f"{ADMINISTRATOR}/"))
        and "@." not in name
        and not os.path.islink(root + places[0])
    ]
    shown = show(("NeedDaemonReload",), asked)
    for name in asked:
        state = shown.get(name, {}).get("NeedDaemonReload")
        if state not in ("yes", "no"):
            raise ReadError(f"systemctl does not show whether {name} is as its files say")
        if state == "yes":
            found.setdefault(name, []).append(STALE)
    return found


def changing(
    root: str, name: str, places: list[str], drop_ins: dict[str, list[str]], aliases: dict[str, set[str]]
) -> list[str]:
    """Return what changes the unit *name*, whose files are at *places*; systemd reads the first of them."""
    before = {path for path in places[:-1] if not os.path.islink(root + path) and os.path.getsize(root + path)}
    packaged = not places[0].startswith(f"{ADMINISTRATOR}/")
    for folder in drop_in_folders(name, aliases.get(name, ())):
        for path in drop_ins.get(folder, ()):
            # a package may change its own unit, and a distribution all of a type
            if not path.startswith(VENDOR) or (folder == f"{name}.d" and not packaged):
                before.add(path)
    return sorted(before)


def unit_files(root: str) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, set[str]]]:
    """Return the files of each unit in their order, the drop-ins of each folder, and the aliases of each unit."""
    files: dict[str, list[str]] = {}
    drop_ins: dict[str, list[str]] = {}
    aliases: dict[str, set[str]] = {}
    for folder in (*BEFORE_ALL, *SEARCH_PATH):
        if folder == "/lib/systemd/system" and os.path.islink(f"{root}/lib"):
            continue  # it is /usr/lib, once more
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
    """Yield the names of the folders in which drop-ins of a unit are. Source: systemd.unit(5)."""
    for each in (name, *aliases):
        stem, _, kind = each.rpartition(".")
        yield f"{each}.d"
        template, at, _ = stem.partition("@")
        if at:
            yield f"{template}@.{kind}.d"
        parts = template.split("-")
        for number in range(1, len(parts)):
            yield f"{'-'.join(parts[:number])}-.{kind}.d"
        yield f"{kind}.d"


def idle_unit(state: Any) -> dict[str, Any]:
    masked = isinstance(state, str) and state.startswith("masked")
    return {"load": "masked" if masked else unknown("not in memory"), "active": "inactive", "enabled": state}


def enabled(root: str) -> dict[str, Any]:
    """Return every unit file's state, in the words of ``systemctl list-unit-files``."""
    paths: dict[str, str] = {}
    for folder in SEARCH_PATH:
        for name in listing(root + folder):
            if UNIT.fullmatch(name):
                paths.setdefault(name, f"{folder}/{name}")
    links = {**links_in(root + RUNTIME, "enabled-runtime"), **links_in(root + ADMINISTRATOR, "enabled")}
    return {name: attempt(state, root, name, path, links) for name, path in paths.items()}


def links_in(folder: str, meaning: str) -> dict[str, str]:
    """Return every unit that a link below *folder* pulls in, and every alias as ``alias -> unit``."""
    found = {}
    for name in listing(folder):
        path = f"{folder}/{name}"
        if name.endswith(PULLS):
            for link in listing(path):
                found[link] = meaning
                if os.path.islink(f"{path}/{link}"):  # an instance enables its template
                    found[os.path.basename(os.readlink(f"{path}/{link}"))] = meaning
        elif os.path.islink(path):
            found[f"{name} -> {os.path.basename(os.readlink(path))}"] = meaning
    return found


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
