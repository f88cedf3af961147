"""Rules about services: listening sockets, units, schedules, and programs that start by themselves."""

import ipaddress
import re
from collections.abc import Iterator

from rackwright.audit.undeclared import armed
from rackwright.audit.undeclared.declaration import (
    OPEN_PORTS,
    HostDeclaration,
    foreign_workloads,
    is_of_workload,
)
from rackwright.audit.undeclared.paths import changed_in, files_in, link_target, unpackaged_in, without_workloads
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.errors import command
from rackwright.facts.facts import Facts
from rackwright.facts.inventory import TRANSIENT, ListenerFacts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared.unit_overrides import UNUSED_STATES

SSHD = ("sshd", "systemd")
"""Programs that hold sshd's port; with ssh.socket it is systemd."""
SYSTEMD = "/usr/lib/systemd/"
CLUSTER_UNITS = ("kubelet.service", "containerd.service", "cri-containerd-", "k8s.io/")
"""Units and control groups of a node; its cluster decides about the containers in them."""
UNIT_FOLDERS = tuple(
    f"{top}/systemd/{name}" for top in ("/etc", "/usr/local/lib", "/usr/lib") for name in ("system", "user")
)
STARTERS = ("socket", "timer", "path")
"""Types of units that start another one of the same name, which may be switched off itself."""
LINKED = ("/etc/systemd/", "/lib/systemd/", "/usr/lib/systemd/", "/run/systemd/", "/dev/null")
"""Targets of links that enable, rename or mask a unit; the file of the unit is judged, and not its links."""
CRON = ("/etc/crontab", "/etc/anacrontab", "/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly")
CRON_MONTHLY = ("/etc/cron.monthly", "/etc/cron.yearly")
START = (
    "/etc/rc.local",
    "/etc/bash.bashrc",
    "/etc/zsh",
    "/etc/skel",
    "/etc/ssh/sshrc",
    "/etc/xdg/autostart",
    "/etc/environment.d",
    "/etc/binfmt.d",
    "/etc/grub.d",
    "/etc/initramfs-tools/hooks",
    "/etc/initramfs-tools/scripts",
    "/etc/kernel/install.d",
    "/etc/kernel/postinst.d",
    "/etc/kernel/postrm.d",
    "/etc/kernel/preinst.d",
    "/etc/kernel/prerm.d",
    "/etc/logrotate.conf",
    "/etc/logrotate.d",
    "/etc/rsyslog.conf",
    "/etc/rsyslog.d",
    "/etc/init.d",
    "/etc/ld.so.preload",
    "/etc/profile.d",
    "/etc/update-motd.d",
    "/etc/systemd/system-generators",
    "/etc/systemd/user-generators",
    "/etc/systemd/system-environment-generators",
    *(
        f"{top}/systemd/{name}"
        for top in ("/usr/lib", "/usr/local/lib")
        for name in (
            "system-generators",
            "user-generators",
            "system-environment-generators",
            "system-shutdown",
            "system-sleep",
        )
    ),
    "/etc/NetworkManager/dispatcher.d",
    "/etc/networkd-dispatcher",
    "/etc/network/if-up.d",
    "/etc/network/if-pre-up.d",
    "/etc/network/if-down.d",
    "/etc/network/if-post-down.d",
    "/etc/dhcp/dhclient-exit-hooks.d",
    "/etc/dhcp/dhclient-enter-hooks.d",
)
"""Files and directories whose programs run at a boot, a login, a change of a link, a rotation of logs, or in each
process."""
RUNNING = ("active", "activating", "reloading")
PROGRAMS = (".service", ".timer", ".path", ".socket")
"""Ends of the names of units that run programs; scopes and slices have processes that others started."""
WORK_OF_OURS = "rackwright-"
"""Beginning of the names of the units in which steps run; the record of such a unit decides, and not its name."""


def listeners(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the sockets that other machines reach, and whose service nothing declares."""
    workloads = foreign_workloads(facts, declared)
    for listener in facts.listeners:
        if not _is_loopback(listener.address) and not _is_expected(listener, facts, declared, workloads):
            owner = ", ".join((*listener.units, *listener.programs)) or "the kernel"
            address = f"[{listener.address}]" if ":" in listener.address else listener.address
            yield Finding(f"socket:{listener.protocol}:{address}:{listener.port}", f"opened by {owner}")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_expected(listener: ListenerFacts, facts: Facts, declared: HostDeclaration, workloads: frozenset[str]) -> bool:
    """Return whether the declaration names the port or the unit, or the distribution brings the program by itself.

    The ports of a unit that a role writes are declared as well; a person put any other process there.
    """
    socket = f"socket:{listener.protocol}:{listener.port}"
    if declared.declares(socket) or socket in declared.ports:
        return True
    programs, units = listener.programs, listener.units
    if not programs or not units:
        return False
    if listener.protocol == "tcp" and listener.port == declared.host.ssh.port:
        return all(path.rpartition("/")[2] in SSHD for path in programs)
    if all(path.startswith(SYSTEMD) for path in programs) and all(unit.startswith("systemd-") for unit in units):
        return True
    # interpreters are programs of the base system too, so that the unit has to be one of a package
    if {*programs} <= {*facts.base_programs} and all(_is_packaged_unit(unit, facts) for unit in units):
        return True
    return all(
        (declared.declares(f"unit:{unit}") and not (listener.protocol == "tcp" and declared.declares_ports_of(unit)))
        or is_of_workload(unit, workloads)
        or (declared.in_cluster and unit.startswith(CLUSTER_UNITS))
        for unit in units
    )


def _is_packaged_unit(unit: str, facts: Facts) -> bool:
    """Return whether the file of a service, or of its template, is one of a package."""
    name = re.sub(r"@[^.]*\.", "@.", unit)
    state = facts.unit(name)
    own = {f"{folder}/{name}" for folder in UNIT_FOLDERS}
    is_file = state is not None and name.endswith(".service") and state.enabled not in ("", "transient", "generated")
    return is_file and not own & {*facts.unpackaged}


def units(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from without_workloads(facts, declared, _units(facts, declared))


def _units(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for path in unpackaged_in(facts, declared, *UNIT_FOLDERS):
        folder, _, name = path.rpartition("/")
        target = link_target(facts, path)
        is_link = target is not None and (target.startswith(LINKED) or not target.startswith("/"))
        if folder in UNIT_FOLDERS and not is_link and not declared.declares(f"unit:{name}"):
            yield Finding(f"unit:{name}", path if target is None else f"{path}, a link to {target}", path)


def transient_units(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the running services that have no file, as transient units have none."""
    for name in facts.units_without_file:
        unit = facts.unit(name)
        is_running = unit is not None and unit.enabled == TRANSIENT and unit.active in RUNNING
        if not is_running or not name.endswith(PROGRAMS) or declared.declares(f"unit:{name}"):
            continue
        if not name.startswith(WORK_OF_OURS):
            yield Finding(f"unit:{name}", "runs without a file")
        elif not facts.is_recorded_step(name):
            yield Finding(f"unit:{name}", "runs without a file, and is not the step that its name says")


def failed_runs(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the declared units whose last run failed, where no claim says that they are active all the time.

    Runs and servers have an outcome of their own. A unit that the target cannot show may fail there without a reason.
    """
    unread = []
    facts.table("units")  # without it, no unit is known
    for name in declared.names("unit"):
        if not _runs_at_times(declared, name) or f"unit:{name}" in declared.not_shown:
            continue
        try:
            unit = facts.unit(name)
            if unit is not None and unit.active == "failed":
                remedy = f"Run {command('journalctl --unit {}', name)}, correct the cause, then run"
                yield Finding(
                    f"unit:{name}", "its last run failed", remedy=f"{remedy} {command('systemctl start {}', name)}"
                )
        except UnknownFact as reason:
            unread.append(str(reason))
    if unread:
        raise UnknownFact("; ".join(unread[:3]))


def _runs_at_times(declared: HostDeclaration, name: str) -> bool:
    """Return whether the declared unit *name* runs from time to time: at each start, or when another unit starts it.

    systemd never runs a unit that is switched off, unless a declared socket, timer or path starts it. Its package may
    have run it once, before the role has switched it off.
    """
    want = declared.wants[f"unit:{name}"]
    if "active" in want or name.startswith(OPEN_PORTS):
        return False
    starters = (f"unit:{name.rpartition('.')[0]}.{kind}" for kind in STARTERS)
    return want.get("state") not in UNUSED_STATES or any(
        declared.wants.get(each, {}).get("active") == "active" for each in starters
    )


def trials(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the changes that the host takes back by itself unless a new login comes in time."""
    for name, trial in facts.trials.items():
        if text := armed.describe(name, trial, facts):
            yield Finding(f"trial:{name}", text)


def drop_ins(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for path in unpackaged_in(facts, declared, "/etc/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"):
        if path.endswith(".conf") and path.rpartition("/")[0].endswith(".d"):
            yield Finding(f"file:{path}", "a drop-in that no package installed")
    for path in changed_in(facts, declared, "/etc/systemd"):
        yield Finding(f"file:{path}", "it differs from the file of its package")


def user_units(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for account, names in facts.user_units().items():
        yield from (Finding(f"user_unit:{account}/{name}", "a unit of the account's own") for name in names)
    for account in facts.lingering:
        yield Finding(f"linger:{account}", "units of the account start at boot")


def cron(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from files_in(facts, declared, *CRON, *CRON_MONTHLY)
    for account, commands in facts.crontabs().items():
        if commands:
            yield Finding(f"crontab:{account}", f"{commands} commands")


def at_jobs(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from (Finding(f"at:{name}", "a waiting job") for name in facts.at_jobs)


def start_programs(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from files_in(facts, declared, *START)


RULES = (
    Rule(
        "RW-030",
        "Each port that other machines reach has a declared service.",
        "listening sockets",
        "An unknown service is a way into the host, and may hold a port that a role needs.",
        f"Stop the service, declare the role that it belongs to, {ADMIT}",
        "proc_net_tcp.rst of Linux; CIS Debian Linux 12 Benchmark, 2.1",
        listeners,
        severity="error",
    ),
    Rule(
        "RW-031",
        "Each unit file below /etc/systemd, /usr/lib/systemd and /usr/local/lib/systemd has a package or a resource.",
        "units",
        "A unit of unknown origin runs as root at each boot.",
        f"Run `systemctl disable --now` for the unit, remove its file, run `systemctl daemon-reload`, {ADMIT}",
        "systemd.unit(5), UNIT FILE LOAD PATH",
        units,
    ),
    Rule(
        "RW-032",
        "Settings and drop-ins of systemd belong to a package or a resource.",
        "drop-ins",
        "A drop-in replaces the command, the user or the limits of a packaged unit.",
        f"Remove the file or restore the packaged one, then run `systemctl daemon-reload`, {ADMIT}",
        "systemd.unit(5), drop-in files",
        drop_ins,
    ),
    Rule(
        "RW-033",
        "Accounts have no units of their own, and none lingers.",
        "units of accounts",
        "Such a unit runs without root's knowledge; with lingering, also without a login.",
        f"Remove the unit, or run `loginctl disable-linger`, {ADMIT}",
        "systemd.unit(5), Load path when running in user mode; loginctl(1)",
        user_units,
    ),
    Rule(
        "RW-034",
        "Each schedule of cron belongs to a package or a resource.",
        "schedules of cron",
        "A forgotten job runs for years, mostly as root.",
        f"Remove the job or restore the packaged file, {ADMIT}",
        "cron(8); crontab(5)",
        cron,
    ),
    Rule(
        "RW-035",
        "No job of at waits.",
        "jobs of at",
        "The job runs once, at an hour that only its author knows.",
        f"Remove the job with `atrm`, {ADMIT}",
        "at(1)",
        at_jobs,
    ),
    Rule(
        "RW-036",
        "Each file in the listed places of start scripts, hooks and generators belongs to a package or a resource.",
        "programs that start by themselves",
        "The program runs at each boot or login, or in each process, mostly as root.",
        f"Remove the file or restore the packaged one, {ADMIT}",
        "systemd.generator(7); ld.so(8), /etc/ld.so.preload; interfaces(5)",
        start_programs,
    ),
    Rule(
        "RW-037",
        "No service runs without a file.",
        "running services",
        "Such a service is in no backup and no package, and it is gone after the next boot.",
        f"Stop the unit, write a unit file for what is needed, {ADMIT}",
        "systemd.unit(5), transient units",
        transient_units,
    ),
    Rule(
        "RW-170",
        "The last run of each declared unit that runs from time to time was successful.",
        "runs of units",
        "The work of the unit, such as the removal of unused layers or the setting of GPUs, is not done.",
        "Read the log of the unit, correct the cause, then start it again",
        "systemd.service(5), Type=oneshot; systemctl(1), is-failed",
        failed_runs,
        severity="error",
    ),
    Rule(
        "RW-038",
        "No change of logins or of the network is on trial.",
        "changes on trial",
        "The host restores its earlier files by itself, because no new login has confirmed the change.",
        "Leave its timer alone: wait for that time, or run `rackwright up`, which starts from the earlier files",
        "docs/explanation/design.md",
        trials,
    ),
)
