"""Settings, modules and boot parameters of the kernel, and the installed kernels."""

from __future__ import annotations

import os
import re
from typing import Any

from rackwright.facts.probe.elf import modinfo, open_module
from rackwright.facts.probe.observe import ReadError, attempt, listing, read, unwrap

SYSCTLS_LEFT_OUT = (
    r"net\.\w+\.(conf|neigh)\.(?!(all|default)(\.|$))[^.]+",  # of one interface
    r"kernel\.sched_domain",  # of one processor
    r"fs\.((aio|file|inode)-nr|(dentry|inode)-state|quota)",  # values that change without configuration
    r"kernel\.(random|ns_last_pid|pty\.nr|hung_task_detect_count)",
    r"net\.(netfilter\.)?nf_conntrack_count",
    r"fs\.binfmt_misc",  # a filesystem of its own, which an access mounts
    r"vm\.stat_refresh",  # a read makes every processor work
    r"net\.ipv6\.conf\.\w+\.stable_secret",
    r"net\.ipv4\.tcp_fastopen_key",
)
"""Settings that are not read, each with all settings below it; as regular expressions."""
LEFT_OUT = re.compile(rf"({'|'.join(SYSCTLS_LEFT_OUT)})(\.|$)")
DOTS_FOR_SLASHES = str.maketrans("./", "/.")
SETTING_BYTES = 16 << 10
"""Maximum size of a setting. One read must return all, because the kernel drops the rest of a longer list."""


def sysctls(root: str) -> dict[str, Any]:
    """Return the kernel's runtime settings by their names in sysctl(8), with ``/`` for a dot within a name."""
    settings: dict[str, Any] = {}
    collect_settings(f"{root}/proc/sys", "", settings)
    return settings


def collect_settings(folder: str, prefix: str, settings: dict[str, Any]) -> None:
    """Add every setting below *folder* to *settings*, and every unreadable folder with the reason."""
    with os.scandir(folder) as scan:
        entries = list(scan)
    for entry in entries:
        key = prefix + entry.name.translate(DOTS_FOR_SLASHES)
        if LEFT_OUT.match(key):
            continue
        if entry.is_dir(follow_symlinks=False):
            value = attempt(collect_settings, entry.path, f"{key}.", settings)
        else:
            value = attempt(setting, entry.path)
        if value is not None:
            settings[key] = value


def setting(path: str) -> str | None:
    """Return a setting with single spaces between its words; None for a write-only setting."""
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


TAINTS = re.compile(r"\(([A-Z]+)[+-]?\)$")
"""Flags at the end of a line of /proc/modules. Source: kernel/module/procfs.c, module_flags."""


def module_taints(root: str) -> dict[str, str]:
    """Return the flags of each loaded module that taints the kernel: O out of tree, E unsigned, P proprietary."""
    rows = (line.partition(" ") for line in read(f"{root}/proc/modules").splitlines())
    return {name: flags[1] for name, _, rest in rows if (flags := TAINTS.search(rest))}


def grub_parameters(root: str) -> dict[str, Any]:
    """Return the words that each configuration file of GRUB adds to the kernel's command line, by its path."""
    folder = "/etc/default/grub.d"
    paths = ("/etc/default/grub", *(f"{folder}/{name}" for name in listing(root + folder, "*.cfg")))
    return {path: attempt(grub_words, root + path) for path in paths if os.path.exists(root + path)}


def grub_words(path: str) -> list[str]:
    texts = (text for _, text in GRUB.findall(read(path)))
    return sorted({unquote(word) for text in texts for word in WORD.findall(text) if not word.startswith("$")})


def modules_builtin(root: str) -> list[str]:
    """Return the built-in modules of the running kernel, by their module names."""
    running = read(f"{root}/proc/sys/kernel/osrelease")
    paths = read(f"{root}/lib/modules/{running}/modules.builtin").split()
    return sorted(os.path.basename(path).split(".", 1)[0].replace("-", "_") for path in paths)


def module_versions(root: str) -> dict[str, str]:
    """Return the version of each module in the running kernel that has one."""
    folder = f"{root}/sys/module"
    return {
        name: read(f"{folder}/{name}/version") for name in listing(folder) if os.path.exists(f"{folder}/{name}/version")
    }


SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""Four bytes of attributes, and 1 for Secure Boot. Source: UEFI Specification 2.10, section 3.3."""
SIGNED = b"~Module signature appended~\n"
"""End of the file of a signed module. Source: Linux, include/linux/module_signature.h."""


def secure_boot(root: str) -> bool | None:
    """Return whether the firmware loads only signed boot programs; None for a firmware without the setting."""
    if not os.path.exists(root + SECURE_BOOT):
        return None
    with open(root + SECURE_BOOT, "rb") as file:
        return file.read(5)[4:] == b"\1"


def is_signed(path: str) -> bool:
    with open_module(path) as file:
        file.seek(-len(SIGNED), os.SEEK_END)
        return bool(file.read() == SIGNED)


def kernels(root: str) -> dict[str, Any]:
    """Return the installed kernels by release: whether each can boot, and its added modules."""
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
    """Return the modules of a kernel that are not part of its package: those outside its folder ``kernel``."""
    paths = []
    for name in listing(root + folder):
        top = f"{root}{folder}/{name}"
        if name != "kernel" and os.path.isdir(top) and not os.path.islink(top):
            for parent, _, files in sorted(os.walk(top)):
                paths += [f"{parent}/{file}" for file in sorted(files) if ".ko" in file]
    is_secure = attempt(secure_boot, root)
    return [added_module(path, path[len(root) :], is_secure not in (None, False)) for path in paths]


def added_module(path: str, host_path: str, has_secure_boot: bool) -> dict[str, Any]:
    """Return path, name and version of a module, and with Secure Boot whether it is signed: a packed file is slow."""
    info = attempt(modinfo, path)
    return {
        "path": host_path,
        # the module's name in the kernel, which may differ from its file name
        "name": attempt(
            lambda: unwrap(info).get("name", os.path.basename(host_path).partition(".ko")[0]).replace("-", "_")
        ),
        "version": attempt(lambda: unwrap(info).get("version")),
        "signed": attempt(is_signed, path) if has_secure_boot else None,
    }


GRUB = re.compile(r"^\s*GRUB_CMDLINE_LINUX\w*=([\"']?)(.*?)\1\s*$", re.M)
WORD = re.compile(r'(?:"[^"]*"?|[^"\s])+')


def kernel_parameters(root: str) -> list[str]:
    """Return the words of the kernel's command line, split and unquoted as by next_arg in lib/cmdline.c."""
    return [unquote(word) for word in WORD.findall(read(f"{root}/proc/cmdline"))]


def boot_id(root: str) -> str:
    """Return the kernel's identifier of the current boot; each boot has another one."""
    return read(f"{root}/proc/sys/kernel/random/boot_id").strip()


def unquote(word: str) -> str:
    """Return ``key=two words`` for ``key="two words"`` and for ``"key=two words"``."""
    if word.startswith('"'):
        return strip_quotes(word)
    key, equals, value = word.partition("=")
    return key + equals + strip_quotes(value)


def strip_quotes(text: str) -> str:
    if not text.startswith('"'):
        return text
    return text[1:-1] if text.endswith('"') else text[1:]
