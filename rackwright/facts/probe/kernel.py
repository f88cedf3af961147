"""How the kernel is set: its runtime values, its modules and the words it was started with; and which are installed."""

from __future__ import annotations

import os
import re
from typing import Any

from rackwright.facts.probe.elf import modinfo
from rackwright.facts.probe.observe import ReadError, attempt, known, listing, read

SYSCTLS_LEFT_OUT = (
    r"net\.\w+\.(conf|neigh)\.(?!(all|default)(\.|$))[^.]+",  # of one interface
    r"kernel\.sched_domain",  # of one processor
    r"fs\.((aio|file|inode)-nr|(dentry|inode)-state|quota)",  # these change by themselves
    r"kernel\.(random|ns_last_pid|pty\.nr|hung_task_detect_count)",
    r"net\.(netfilter\.)?nf_conntrack_count",
    r"fs\.binfmt_misc",  # a filesystem of its own, and to look for it mounts it
    r"vm\.stat_refresh",  # to read it makes every processor work
    r"net\.ipv6\.conf\.\w+\.stable_secret",
    r"net\.ipv4\.tcp_fastopen_key",
)
"""Settings that are not read, each with all that is below it; as regular expressions."""
LEFT_OUT = re.compile(rf"({'|'.join(SYSCTLS_LEFT_OUT)})(\.|$)")
DOTS_FOR_SLASHES = str.maketrans("./", "/.")
SETTING_BYTES = 16 << 10
"""Has to be read at once: for what does not fit, the kernel cuts a list off and never gives the rest."""


def sysctls(root: str) -> dict[str, Any]:
    """Return the kernel's runtime settings by the names of sysctl(8): a dot within a name is written ``/``."""
    found: dict[str, Any] = {}
    settings_in(f"{root}/proc/sys", "", found)
    return found


def settings_in(folder: str, prefix: str, found: dict[str, Any]) -> None:
    """Put every setting below *folder* into *found*, and every folder that could not be entered, with the reason."""
    with os.scandir(folder) as listed:
        entries = list(listed)
    for entry in entries:
        key = prefix + entry.name.translate(DOTS_FOR_SLASHES)
        if LEFT_OUT.match(key):
            continue
        if entry.is_dir(follow_symlinks=False):
            value = attempt(settings_in, entry.path, f"{key}.", found)
        else:
            value = attempt(setting, entry.path)
        if value is not None:
            found[key] = value


def setting(path: str) -> str | None:
    """Return a setting with single blanks between its words, None where it can only be written, even by root."""
    try:
        file = os.open(path, os.O_RDONLY)
    except PermissionError:
        if os.stat(path).st_mode & 0o444:
            raise
        return None
    try:
        content = os.read(file, SETTING_BYTES)
    finally:
        os.close(file)
    if len(content) == SETTING_BYTES:
        raise ReadError(f"longer than {SETTING_BYTES} bytes")
    text = content.decode().rstrip("\0")
    if "\0" in text:
        raise ReadError("not a text")
    return " ".join(text.split())


def modules(root: str) -> list[str]:
    """Return the loaded modules."""
    return sorted(line.split(" ", 1)[0] for line in read(f"{root}/proc/modules").splitlines())


def modules_builtin(root: str) -> list[str]:
    """Return the modules that are part of the running kernel, by the names that they would be loaded under."""
    running = read(f"{root}/proc/sys/kernel/osrelease")
    paths = read(f"{root}/lib/modules/{running}/modules.builtin").split()
    return sorted(os.path.basename(path).split(".", 1)[0].replace("-", "_") for path in paths)


def module_versions(root: str) -> dict[str, str]:
    """Return the version of each module in the running kernel that says one."""
    folder = f"{root}/sys/module"
    return {
        name: read(f"{folder}/{name}/version") for name in listing(folder) if os.path.exists(f"{folder}/{name}/version")
    }


def kernels(root: str) -> dict[str, Any]:
    """Return the installed kernels by release: whether it can be started, and what modules were added to it."""
    folder = f"{root}/lib/modules"
    return {
        release: {
            "bootable": any(os.path.exists(f"{root}/boot/{image}-{release}") for image in ("vmlinuz", "vmlinux")),
            "modules": attempt(added_modules, root, f"/lib/modules/{release}"),
        }
        for release in listing(folder)
        if os.path.isdir(f"{folder}/{release}")
    }


def added_modules(root: str, folder: str) -> list[dict[str, Any]]:
    """Return the modules of a kernel that did not come with it: those outside of its folder ``kernel``."""
    found = []
    for name in listing(root + folder):
        top = f"{root}{folder}/{name}"
        if name != "kernel" and os.path.isdir(top) and not os.path.islink(top):
            for where, _, files in sorted(os.walk(top)):
                found += [f"{where}/{file}" for file in sorted(files) if ".ko" in file]
    return [added_module(path, path[len(root) :]) for path in found]


def added_module(path: str, shown: str) -> dict[str, Any]:
    told = attempt(modinfo, path)
    return {
        "path": shown,
        # as the kernel calls it: its file may be called otherwise
        "name": attempt(lambda: known(told).get("name", os.path.basename(shown).partition(".ko")[0]).replace("-", "_")),
        "version": attempt(lambda: known(told).get("version")),
    }


WORD = re.compile(r'(?:"[^"]*"?|[^"\s])+')


def kernel_parameters(root: str) -> list[str]:
    """Return the words of the kernel's command line, cut and freed of quotes as next_arg in lib/cmdline.c does it."""
    return [unquoted(word) for word in WORD.findall(read(f"{root}/proc/cmdline"))]


def boot_id(root: str) -> str:
    """Return what the kernel calls this start of it: another one after each restart."""
    return read(f"{root}/proc/sys/kernel/random/boot_id").strip()


def unquoted(word: str) -> str:
    """Return ``key=two words`` for ``key="two words"`` and for ``"key=two words"``."""
    if word.startswith('"'):
        return bare(word)
    key, equals, value = word.partition("=")
    return key + equals + bare(value)


def bare(text: str) -> str:
    if not text.startswith('"'):
        return text
    return text[1:-1] if text.endswith('"') else text[1:]
