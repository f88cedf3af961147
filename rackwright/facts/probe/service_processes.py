"""The processes of running services beside what systemd says about their units.

systemd applies the settings of a unit when it starts a process. A change afterwards, or a start with other settings
that are gone since, shows in the process alone. Each list has only differences: it is empty on an unchanged host.
Values of environments are compared here, and never leave the host.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from typing import Any, Iterable, Iterator

from rackwright.facts.probe.control_groups import GROUPS
from rackwright.facts.probe.loads import DELETED
from rackwright.facts.probe.observe import ReadError, attempt, read, run_tool
from rackwright.facts.probe.unit_properties import LIMITS, SANDBOX, amount, first, format_limit

MOST_PROCESSES = 4096
"""Maximum number of processes that are looked at; services of hosts have some hundreds."""
SECONDS = 10
"""Time limit for all processes together."""
OWN_CHANGES = {"NOFILE": "higher", "MEMLOCK": "higher", "CORE": "lower", "STACK": "lower"}
"""Changes that programs make to their own limits: more files and locked memory, no dumps of memory, small stacks."""
NAMESPACES = {
    "net": ("a network", ("PrivateNetwork", "NetworkNamespacePath", "JoinsNamespaceOf")),
    "ipc": ("messages", ("PrivateIPC", "IPCNamespacePath", "JoinsNamespaceOf")),
    "uts": ("a host name", ("ProtectHostname",)),
    "user": ("accounts", ("PrivateUsers", "DelegateNamespaces")),
    "pid": ("processes", ("PrivatePIDs", "DelegateNamespaces")),
}
"""Namespaces of a process, and the settings that make them. Source: systemd.exec(5)."""
OFF = ("", "no", "default", "all", "~", "[not set]")
STANDARD_NAMES = re.compile(
    r"PATH|LANG|LANGUAGE|LC_\w+|USER|LOGNAME|HOME|SHELL|TERM|COLUMNS|LINES|INVOCATION_ID|JOURNAL_STREAM|SYSTEMD_EXEC_PID"
    r"|SYSTEMD_NSS_DYNAMIC_BYPASS|SYSTEMD_ACTIVATION_\w+"
    r"|(RUNTIME|STATE|CACHE|LOGS|CONFIGURATION|CREDENTIALS)_DIRECTORY|NOTIFY_SOCKET|WATCHDOG_(PID|USEC)|LISTEN_\w+"
    r"|MAINPID|MANAGERPID|PIDFILE|REMOTE_(ADDR|PORT)|TRIGGER_\w+|MONITOR_\w+|MEMORY_PRESSURE_(WATCH|WRITE)|XDG_\w+"
    r"|FDSTORE|LOG_NAMESPACE|SERVICE_RESULT|EXIT_(CODE|STATUS)|container(_\w+)?|DBUS_STARTER_\w+"
)
"""Names that systemd itself gives to processes. Source: systemd.exec(5), "Environment variables"."""
LOADERS = ("LD_PRELOAD", "LD_AUDIT")
"""Names with which the dynamic linker loads libraries into a program that another program has started."""
OWN_NAMES = {"haproxy": "HAPROXY_", "nginx": "NGINX"}
"""Beginnings of the names that a program gives to itself when it starts itself again."""
ENTRY = re.compile(rb"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
PLAIN = re.compile(r"""\s*([A-Za-z_]\w*)=(?:"([\w./:=,@+ -]*)"|'([\w./:=,@+ -]*)'|([\w./:=,@+-]*))\s*""")
"""A line of an environment file whose value has no escapes."""
NAME = re.compile(r"^\s*([A-Za-z_]\w*)=", re.M)
TRUSTED = ("/etc/", "/usr/", "/run/systemd/", "/lib/")
"""Directories of root, in which the probe reads environment files."""
CHROOTING = ("haproxy", "unbound", "avahi-daemon", "nsd", "named", "dovecot", "master", "ntpd", "chronyd", "sshd")
"""Programs that go to another root directory by themselves."""
CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
)  # fmt: skip
"""Names by number. Source: include/uapi/linux/capability.h."""
SENSITIVE = ("/etc", "/usr", "/opt", "/lib", "/lib64", "/bin", "/sbin", "/var/lib", "/srv", "/boot", "/root", "/home")
"""Directories with programs, configuration and data, in which no other mounts are hidden from the host."""
OF_SYSTEMD = re.compile(r"/run/systemd/|/(var/)?tmp/systemd-private-|/run/credentials/|/run/host/")
"""Beginnings of the paths that systemd itself mounts into sandboxes."""
UNITS, WRITTEN = "/etc/systemd/system/", ": written by rackwright"
"""Place of units, and the mark in the first line of ours."""
RUNS = ("training-", "guard-")
"""Beginnings of the names of units whose programs leave their parents."""
EXECUTOR = "/usr/lib/systemd/systemd-executor"
"""The program that sets processes up for systemd 255 and later."""
AGAIN_SECONDS = 0.2


def service_processes(root: str, listed: list[dict[str, list[str]]], manager: dict[str, str]) -> dict[str, Any]:
    """Return for each running service how its processes differ from what systemd says about its unit."""
    until, left = time.monotonic() + SECONDS, [MOST_PROCESSES]
    base = Base(root, manager)
    rows = {}
    for values in listed:
        name = first(values, "Id")
        if not name.endswith(".service"):
            continue
        found = attempt(lambda: differences(root, values, base, left))  # noqa: B023
        if time.monotonic() > until:
            raise ReadError(f"the processes of all services take more than {SECONDS} s")
        if found:
            rows[name] = found
    return rows


class Base:
    """The first process of the host, with which others are compared."""

    def __init__(self, root: str, manager: dict[str, str]) -> None:
        self.mounts = os.readlink(f"{root}/proc/1/ns/mnt")
        self.namespaces = {name: namespace(root, 1, name) for name in NAMESPACES}
        self.rows = mount_rows(root, 1)
        self.known = {(row["target"], row["root"], row["device"]) for row in self.rows}
        self.limits = limits_of(root, 1)
        # a variable that was added for all services is not the unit's own
        self.environment = {name: value for name, value in manager.items() if OF_MANAGER.fullmatch(name)}


def differences(root: str, values: dict[str, list[str]], base: Base, left: list[int]) -> list[str]:
    """Return how the processes of one service differ; empty if they do not, or have just ended."""
    found = [*states(root, first(values, "ControlGroup"), left)]
    pid = int(first(values, "MainPID") or 0)
    if pid and not is_starting(root, pid):
        if is_ours(root, values):
            found += strangers(root, values)
        for part in (environment, limits, rights, root_directory, namespaces, mounts):
            try:
                found += part(root, pid, values, base)
            except (FileNotFoundError, ProcessLookupError):
                break  # it has just ended
    return found


def is_starting(root: str, pid: int) -> bool:
    """Return whether a process is still systemd's own, which sets everything up before it runs the program.

    Such a process has the name of the program in parentheses. Source: systemd, src/core/execute.c.
    """
    try:
        is_named = status_of(root, pid).get("Name", "").startswith("(")
        return is_named and program_name(root, pid) in (program_name(root, 1), EXECUTOR)
    except (FileNotFoundError, ProcessLookupError):
        return True  # it has just ended


def states(root: str, group: str, left: list[int]) -> Iterator[str]:
    """Yield the processes of a control group that do not run: stopped by a signal, or held by another process."""
    stopped: list[str] = []
    for pid in processes_in(root, group):
        left[0] -= 1
        if left[0] < 0:
            raise ReadError(f"more than {MOST_PROCESSES} processes")
        try:
            status = status_of(root, pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        state = status.get("State", "?")[:1]
        if state in ("T", "t") or status.get("TracerPid", "0") != "0":
            stopped.append(status.get("Name", "?") if state == "T" else f"{status.get('Name', '?')} in a debugger")
    if stopped:
        more = f" and {len(stopped) - 3} more" if len(stopped) > 3 else ""
        yield f"stopped: {', '.join(stopped[:3])}{more}"


def is_ours(root: str, values: dict[str, list[str]]) -> bool:
    """Return whether rackwright wrote the unit. Runs start processes on hosts by programs that leave their parents."""
    path = first(values, "FragmentPath")
    if not path.startswith(UNITS) or os.path.basename(path).startswith(RUNS):
        return False
    try:
        return WRITTEN in read(root + path).partition("\n")[0]
    except FileNotFoundError:
        return False


def strangers(root: str, values: dict[str, list[str]]) -> Iterator[str]:
    """Yield the processes of a control group that no process of the service has started.

    A process whose parent ends gets another one, and is looked at again: it may be about to end as well.
    """
    roots = {int(first(values, name) or 0) for name in ("MainPID", "ControlPID")}
    group = first(values, "ControlGroup")
    found = foreign_in(root, group, roots)
    if found:
        time.sleep(AGAIN_SECONDS)
        again = foreign_in(root, group, roots)
        found = {pid: name for pid, name in found.items() if pid in again}
    if found:
        names = sorted(set(found.values()))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"no process of the service started {', '.join(names[:3])}{more}"


def foreign_in(root: str, group: str, roots: set[int]) -> dict[int, str]:
    """Return the names of the processes of a control group that descend from none of *roots*, by number."""
    parents, names = {}, {}
    for pid in processes_in(root, group)[:MOST_PROCESSES]:
        try:
            status = status_of(root, pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if not status.get("State", "?").startswith("Z"):
            parents[pid], names[pid] = int(status.get("PPid", "0")), status.get("Name", "?")
    known, size = {*roots}, -1
    while size != len(known):
        size = len(known)
        known |= {pid for pid, parent in parents.items() if parent in known and parent}
    return {pid: name for pid, name in names.items() if pid not in known}


def processes_in(root: str, group: str) -> list[int]:
    """Return the processes of a control group; those of the groups below it are not its own."""
    for place in (f"{GROUPS}{group}", f"{GROUPS}/systemd{group}", f"{GROUPS}/unified{group}"):
        path = f"{root}{place}/cgroup.procs"
        if group and os.path.exists(path):
            try:
                return [int(word) for word in read(path).split()]
            except OSError:  # a group of threads has none
                return []
    return []


def status_of(root: str, pid: int) -> dict[str, str]:
    lines = (line.partition(":") for line in read(f"{root}/proc/{pid}/status").splitlines())
    return {key: value.strip() for key, _, value in lines}


def program_name(root: str, pid: int) -> str:
    path = os.readlink(f"{root}/proc/{pid}/exe")
    return path[: -len(DELETED)] if path.endswith(DELETED) else path


def started_program(root: str, values: dict[str, list[str]]) -> str:
    """Return the program that systemd starts, where its links lead."""
    match = re.match(r"\{ path=(\S+) ;", first(values, "ExecStartEx"))
    return os.path.realpath(root + match[1])[len(root) :] if match else ""


def is_started_command(root: str, pid: int, values: dict[str, list[str]]) -> bool:
    """Return whether a process has the arguments that systemd gave it, as far as these have no variables."""
    match = re.search(r"; argv\[\]=(.*?) ; flags=", first(values, "ExecStartEx"))
    with open(f"{root}/proc/{pid}/cmdline", "rb") as file:
        words = file.read(1 << 16).rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return match is not None and words.startswith(match[1].partition("$")[0].strip())


def environment(root: str, pid: int, values: dict[str, list[str]], base: Base) -> Iterator[str]:
    """Yield the names of the environment that a process has beside those of its unit, lacks, or has another value of.

    A program that writes its title over its environment has none that could be compared.
    """
    with open(f"{root}/proc/{pid}/environ", "rb") as file:
        content = file.read(1 << 20)
    entries = [ENTRY.fullmatch(each) for each in content.rstrip(b"\0").split(b"\0")] if content.strip(b"\0") else []
    if content and (not entries or any(entry is None for entry in entries)):
        return
    own = OWN_NAMES.get(os.path.basename(program_name(root, pid)), "")
    found = {entry[1].decode(): entry[2] for entry in entries if entry}
    found = {name: value for name, value in found.items() if not own or not name.startswith(own)}
    expected, names, is_whole = expected_environment(root, values, base)
    if program_name(root, pid) != started_program(root, values) or not is_started_command(root, pid, values):
        is_whole = False  # another program started this one, and may have changed its environment
    elif first(values, "PAMName"):
        is_whole = False  # modules of PAM add names
    if not is_whole:
        extra = [name for name in found if name in LOADERS and name not in names]
    else:
        extra = [name for name in found if name not in names and not STANDARD_NAMES.fullmatch(name)] if is_whole else []
        extra += [name for name in found if name in LOADERS and name not in names and name not in extra]
    if extra:
        yield f"environment has {', '.join(sorted(extra)[:8])}"
    if is_whole:
        if lacking := [name for name in expected if name not in found]:
            yield f"environment lacks {', '.join(sorted(lacking)[:8])}"
        changed = [name for name, value in expected.items() if name in found and found[name] != os.fsencode(value)]
        if changed:
            yield f"environment has another value of {', '.join(sorted(changed)[:8])}"


def expected_environment(root: str, values: dict[str, list[str]], base: Base) -> tuple[dict[str, str], set[str], bool]:
    """Return the values that a unit gives, all names it may give, and whether these are all."""
    given = dict(base.environment)
    own = dict(word.partition("=")[::2] for line in values.get("Environment", []) for word in shlex.split(line))
    given.update(own)
    names, is_whole = set(given), True
    for line in values.get("EnvironmentFiles", []):
        path = line.rpartition(" (")[0]
        if not path:
            continue
        if not path.startswith(TRUSTED) or "*" in path:
            is_whole = False
            continue
        try:
            text = read(root + path)
        except FileNotFoundError:
            continue
        for name in NAME.findall(text):
            names.add(name)
            given.pop(name, None)
        for match in filter(None, map(PLAIN.fullmatch, text.splitlines())):
            given[match[1]] = match[2] or match[3] or match[4] or ""
        if "\\\n" in text:
            is_whole = False
    names.update(word for line in values.get("PassEnvironment", []) for word in line.split())
    for word in (word for line in values.get("UnsetEnvironment", []) for word in line.split()):
        given.pop(word.partition("=")[0], None)
    return (
        {name: value for name, value in given.items() if name not in base.environment or name in own},
        names,
        is_whole,
    )


def manager_values() -> dict[str, str]:
    """Return the environment that systemd gives to all services."""
    output = run_tool("systemctl", "show-environment")
    pairs = (line.partition("=") for line in output.splitlines())
    return {name: value for name, equals, value in pairs if equals}


OF_MANAGER = re.compile(r"PATH|LANG|LANGUAGE|LC_\w+")
"""Names that systemd gives to services by itself. Source: systemd, src/core/manager.c, manager_default_environment."""
PATHS = re.compile(r"(/usr)?(/local)?/s?bin(:(/usr)?(/local)?/s?bin)*")


def manager_environment(values: dict[str, str]) -> list[str]:
    """Return the names that systemd gives to all services beside its own."""
    odd = [name for name in values if not OF_MANAGER.fullmatch(name)]
    return sorted([*odd, *(["PATH"] if not PATHS.fullmatch(values.get("PATH", "")) else [])])


def limits_of(root: str, pid: int) -> dict[str, tuple[float, float]]:
    """Return the soft and the hard limits of a process, by their names of the kernel."""
    rows = {}
    for line in read(f"{root}/proc/{pid}/limits").splitlines()[1:]:
        match = re.match(r"(Max [a-z ]*?[a-z])\s+(unlimited|\d+)\s+(unlimited|\d+)\b", line)
        if match:
            rows[match[1]] = (amount(match[2]), amount(match[3]))
    return rows


def limits(root: str, pid: int, values: dict[str, list[str]], base: Base) -> Iterator[str]:
    """Yield the limits of a process that are not those of its unit; a container cannot give more than it has."""
    found = limits_of(root, pid)
    for name, words in LIMITS.items():
        hard, soft = first(values, f"Limit{name}"), first(values, f"Limit{name}Soft")
        if words not in found or not hard or not soft:
            continue
        hardest = base.limits.get(words, (0.0, float("inf")))[1]
        for kind, wanted, is_found in (
            ("hard", amount(hard), found[words][1]),
            ("soft", amount(soft), found[words][0]),
        ):
            way = "lower" if is_found < wanted else "higher"
            is_own = OWN_CHANGES.get(name) == way or (kind == "soft" and way == "higher")
            if is_found not in (wanted, min(wanted, hardest)) and not is_own:
                yield f"limit {name} is {format_limit(is_found)}, and {format_limit(wanted)} in the unit"
                break


def rights(root: str, pid: int, values: dict[str, list[str]], base: Base) -> Iterator[str]:
    """Yield the protections of a unit that its process does not have."""
    if re.search(r"flags=[^;]*(privileged|no-setuid|ambient)", first(values, "ExecStartEx")):
        return
    status = status_of(root, pid)
    if first(values, "NoNewPrivileges") == "yes" and status.get("NoNewPrivs") == "0":
        yield "it may gain rights, and the unit refuses that"
    filters = ("SystemCallFilter", "RestrictAddressFamilies", "RestrictNamespaces", "MemoryDenyWriteExecute")
    if any(first(values, name) not in OFF for name in filters) and status.get("Seccomp") == "0":
        yield "it has no filter of system calls, and the unit has one"
    bounding = first(values, "CapabilityBoundingSet").split()
    if bounding and "CapBnd" in status:
        wanted = {word[len("cap_") :] for word in bounding}
        bits = int(status["CapBnd"], 16)
        if more := [name for bit, name in enumerate(CAPABILITIES) if bits >> bit & 1 and name not in wanted]:
            yield f"it may have {', '.join(f'cap_{name}' for name in more[:5])}, and the unit refuses that"
    user = first(values, "User")
    if user not in ("", "root", "0") and not first(values, "PAMName") and status.get("Uid", "1").split()[0] == "0":
        yield f"it runs as root, and the unit as {user}"


def root_directory(root: str, pid: int, values: dict[str, list[str]], base: Base) -> Iterator[str]:
    """Yield another root directory of a process than that of its unit."""
    found = os.readlink(f"{root}/proc/{pid}/root")
    is_declared = any(first(values, name) not in OFF for name in ("RootDirectory", "RootImage"))
    name = os.path.basename(program_name(root, pid))
    if found != "/" and not is_declared and name not in CHROOTING:
        yield f"its root directory is {found}"


def namespace(root: str, pid: int, name: str) -> str:
    """Return the number of a namespace of a process; empty for one that this kernel does not have."""
    path = f"{root}/proc/{pid}/ns/{name}"
    return os.readlink(path) if os.path.islink(path) else ""


def namespaces(root: str, pid: int, values: dict[str, list[str]], base: Base) -> Iterator[str]:
    """Yield the namespaces that a process has for itself, and that its unit does not ask for."""
    for name, (words, settings) in NAMESPACES.items():
        is_declared = any(first(values, setting) not in OFF for setting in settings)
        if not is_declared and namespace(root, pid, name) != base.namespaces[name]:
            yield f"it has {words} of its own, and the unit has none"


def mounts(root: str, pid: int, values: dict[str, list[str]], base: Base) -> Iterator[str]:
    """Yield the mounts that a process alone has over programs, configuration and data, and that its unit does not make.

    systemd mounts directories over themselves to make them read-only; such a mount changes no content.
    """
    if os.readlink(f"{root}/proc/{pid}/ns/mnt") == base.mounts:
        return
    has_credentials = os.path.exists(f"{root}/run/credentials/{first(values, 'Id')}")
    if not has_credentials and not any(first(values, name) not in OFF for name in SANDBOX):
        yield "it has mounts of its own, and the unit has none"
        return
    if any(first(values, name) not in OFF for name in ("RootDirectory", "RootImage", "MountImages", "ExtensionImages")):
        return
    declared = declared_targets(values)
    for row in mount_rows(root, pid):
        target = row["target"]
        if (target, row["root"], row["device"]) in base.known or not is_below(target, SENSITIVE):
            continue
        source = source_of(row, base.rows)
        is_own = source is not None and (source == target or OF_SYSTEMD.match(source))
        if not is_own and not any(is_below(target, (place,)) for place in declared):
            yield f"{source or row['type']} is mounted on {target} for it alone"


def is_below(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def declared_targets(values: dict[str, list[str]]) -> set[str]:
    """Return the places at which a unit mounts something."""
    targets = set()
    for key in ("BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem"):
        for word in (word for line in values.get(key, []) for word in line.split()):
            parts = word.lstrip("-+").split(":")
            targets.add(parts[0] if key == "TemporaryFileSystem" or len(parts) == 1 else parts[1] or parts[0])
    if first(values, "ProtectHome") == "tmpfs":
        targets |= {"/home", "/root", "/run/user"}
    if first(values, "DynamicUser") == "yes":
        targets.add("/var/lib/private")
    return targets


def mount_rows(root: str, pid: int) -> list[dict[str, str]]:
    rows = []
    for line in read(f"{root}/proc/{pid}/mountinfo").splitlines():
        _, _, device, mounted, target, _, *fields = line.split(" ")
        rows.append({"device": device, "root": mounted, "target": target, "type": fields[fields.index("-") + 1]})
    return rows


def source_of(row: dict[str, str], rows: list[dict[str, str]]) -> str | None:
    """Return the path at which the host has what is mounted; None if it has it nowhere."""
    best = None
    for each in rows:
        if each["device"] == row["device"] and is_in_root(row["root"], each["root"]):
            rest = row["root"][len(each["root"].rstrip("/")) :]
            path = (each["target"].rstrip("/") + rest).rstrip("/") or "/"
            if path == row["target"]:
                return path
            best = best or path
    return best


def is_in_root(path: str, top: str) -> bool:
    return top == "/" or is_below(path, (top,))
