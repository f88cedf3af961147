"""Links by which units start, and links to /dev/null: each is compared with what the packaged unit says of itself."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from typing import Callable

from rackwright.facts.probe.observe import listing
from rackwright.facts.probe.sources import System, content

UNIT = r"[\w:.\\@-]+\.(?:service|socket|target|timer|path|mount|automount|slice|swap|device)"
ENABLED = re.compile(rf"/etc/systemd/(system|user)/(?:({UNIT})\.(wants|requires)/)?({UNIT})")
GENERATED = re.compile(rf"/run/systemd/generator(\.early|\.late)?/(?:({UNIT})\.(wants|requires)/)?({UNIT})")
VENDOR = re.compile(rf"(?:/usr)?/lib/systemd/(system|user)/({UNIT})")
MASK = re.compile(r"/etc/((?:systemd|udev)/.+|(?:sysctl|modprobe|tmpfiles)\.d/.+)")
PROFILE = re.compile(r"/etc/apparmor\.d/(disable|force-complain)/([\w.-]+)")
PROFILES = {
    "disable": ("usr.bin.firefox", "usr.bin.thunderbird", "usr.sbin.rsyslogd"),
    "force-complain": ("usr.bin.chromium-browser", "usr.sbin.sssd"),
}
"""Profiles that the scripts of packages switch off or let pass. Source: the postinst scripts of Debian and Ubuntu."""
OF_GENERATORS = {
    "local-fs.target": r"systemd-(fsck-root|remount-fs|growfs-root)\.service|systemd-(fsck|growfs)@[\w.\\-]+\.service",
    "getty.target": r"(serial-getty|container-getty|getty)@[\w.\\-]+\.service|console-getty\.service",
    "multi-user.target": r"rc-local\.service|cloud-init\.target|systemd-networkd\.service",
    "sysinit.target": r"systemd-hibernate-resume@[\w.\\-]+\.service",
    "basic.target": r"systemd-bless-boot\.service",
    "network-online.target": r"systemd-networkd(-wait-online)?\.service",
}
"""Packaged units that generators start, by the target. Source: systemd, src/*-generator; netplan; cloud-init."""
UNIT_TOPS = ("/usr/local/lib", "/usr/lib", "/lib")
KEYS = {"wants": "WantedBy", "requires": "RequiredBy"}


def is_known(system: System, path: str, is_rendered: Callable[[System, str], bool]) -> bool:
    """Return whether a link is one that ``systemctl enable``, a generator, or the script of a package makes.

    *is_rendered* says whether a file of a generator is as its generator writes it.
    """
    target = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(system.root + path)))
    if MASK.fullmatch(path) and target == "/dev/null":
        return hides_nothing(system, path)
    if profile := PROFILE.fullmatch(path):
        return profile[2] in PROFILES[profile[1]] and target == f"/etc/apparmor.d/{profile[2]}"
    if match := ENABLED.fullmatch(path):
        scope, holder, sort, name = match.groups()
        vendor = VENDOR.fullmatch(target)
        return vendor is not None and vendor[1] == scope and is_enabled(system, scope, vendor[2], holder, sort, name)
    if match := GENERATED.fullmatch(path):
        return is_generated(system, target, match, is_rendered)
    return False


def hides_nothing(system: System, path: str) -> bool:
    """Return whether no directory of packages has a file that this link switches off."""
    relative = path[len("/etc/") :]
    folder, _, name = relative.rpartition("/")
    names = {name, template(name)}
    return not any(os.path.lexists(f"{system.root}{top}/{folder}/{each}") for top in UNIT_TOPS for each in names)


def template(name: str) -> str:
    """Return the name of the template of an instance, or *name*. Source: systemd.unit(5)."""
    return re.sub(r"@.+(?=\.[a-z]+$)", "@", name)


def is_enabled(system: System, scope: str, unit: str, holder: str | None, sort: str | None, name: str) -> bool:
    """Return whether the [Install] section of a packaged unit asks for this link, and presets do not refuse it."""
    path = f"/usr/lib/systemd/{scope}/{unit}"
    if not any(os.path.lexists(f"{system.root}{top}/systemd/{scope}/{unit}") for top in UNIT_TOPS):
        # of a package that was removed: it starts nothing, and takes the place of nothing
        return unit == template(name) if holder else hides_nothing(system, f"/etc/systemd/{scope}/{name}")
    if not system.is_packaged(path) or not is_preset(system, scope, unit):
        return False
    install = install_of(system, path)
    if holder is None or sort is None:
        return name in install.get("Alias", ())
    instances = {unit.replace("@.", f"@{instance}.") for instance in install.get("DefaultInstance", ())}
    return holder in install.get(KEYS[sort], ()) and name in ({unit} if "@." not in unit else instances)


def install_of(system: System, path: str) -> dict[str, list[str]]:
    """Return the words of each setting of the [Install] section of a unit."""
    found: dict[str, list[str]] = {}
    section = ""
    for row in content(system.root, path).decode("utf-8", "replace").split("\n"):
        if row.startswith("["):
            section = row.strip()
        elif section == "[Install]" and "=" in row and not row.startswith(("#", ";")):
            key, _, value = row.partition("=")
            found.setdefault(key.strip(), []).extend(value.split())
    return found


def is_preset(system: System, scope: str, unit: str) -> bool:
    """Return whether no preset of packages refuses a unit, or another unit brings it. Source: systemd.preset(5)."""
    folder = f"/usr/lib/systemd/{scope}"
    if preset(system, scope, unit):
        return True
    return any(
        unit in install_of(system, f"{folder}/{other}").get("Also", ())
        for other in listing(system.root + folder, "*.service")
        if other != unit and system.is_packaged(f"{folder}/{other}") and preset(system, scope, other)
    )


def preset(system: System, scope: str, unit: str) -> bool:
    folder = f"/usr/lib/systemd/{scope}-preset"
    names = listing(system.root + folder, "*.preset") if system.exists(folder) else []
    for name in sorted(names):
        if not system.is_packaged(f"{folder}/{name}"):
            continue
        for row in content(system.root, f"{folder}/{name}").decode("utf-8", "replace").split("\n"):
            verb, *patterns = row.split() or [""]
            if verb in ("enable", "disable") and patterns and fnmatchcase(unit, patterns[0]):
                return verb == "enable"
    return True


def is_generated(system: System, target: str, link: re.Match[str], is_rendered: Callable[[System, str], bool]) -> bool:
    """Return whether a generator makes the link: to a unit of its own, or to a packaged one that it knows."""
    folder, holder, sort, name = link.groups()
    own, vendor = GENERATED.fullmatch(target), VENDOR.fullmatch(target)
    known = holder is not None and re.fullmatch(OF_GENERATORS.get(holder, ""), name) is not None
    if own is not None and system.exists(target):
        is_alias = holder is None and folder == ".late" and own[1] == ".late" and not is_unit(system, name)
        is_wanted = holder is not None and own[4] == name
        return own[2] is None and (is_alias or is_wanted) and is_rendered(system, target)
    # systemd reads the name of such a link, and netplan's leads to no file
    unit = (own[4] if own[2] is None else "") if own is not None else vendor[2] if vendor is not None else ""
    is_of_system = own is not None or (vendor is not None and vendor[1] == "system")
    is_own = sort == "wants" and is_of_system and unit in (name, template(name))
    return known and is_own and system.is_packaged(f"/usr/lib/systemd/system/{template(name)}")


def is_unit(system: System, name: str) -> bool:
    return any(system.exists(f"{top}/systemd/system/{name}") for top in ("/etc", *UNIT_TOPS))
