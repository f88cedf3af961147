"""Rules about the files of accounts: lines, groups' other ways in, homes, shells and dates."""

import stat
from collections.abc import Iterator

from rackwright.audit.undeclared.accounts import DYNAMIC_UIDS, NOBODY, SYSTEM_UIDS
from rackwright.audit.undeclared.declaration import HostDeclaration, foreign_workloads
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.account_files import HomeFacts
from rackwright.facts.facts import Facts, UserFacts
from rackwright.facts.probe.accounts import NO_LOGIN

OF_GROUPS = ("/etc/group", "/etc/gshadow")
NO_SHELLS = frozenset(
    f"{folder}/{name}" for folder in ("/bin", "/sbin", "/usr/bin", "/usr/sbin") for name in (*NO_LOGIN, "true")
)
"""Packaged programs that allow no login, by either path of a merged /usr."""
SHELLS = frozenset(
    f"{folder}/{name}"
    for folder in ("/bin", "/usr/bin")
    for name in ("sh", "bash", "rbash", "dash", "zsh", "rzsh", "ksh", "fish", "tmux", "screen")
)
HOMES_OF_PACKAGES = ("/bin", "/dev", "/etc/", "/nonexistent", "/opt/", "/proc", "/run", "/usr/", "/var/", "/srv/")
"""Beginnings of the homes that packages give to their accounts: none where accounts of people write."""
WRITABLE_BY_ALL = ("/var/tmp", "/var/lock", "/run/lock", "/run/user", "/dev/shm", "/dev/mqueue", "/run/screen")  # noqa: S108 - places of mounts, where nothing is written


def lines(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the lines that programs read in different ways, and the names and ids that stand twice."""
    files = facts.account_files
    for line in files.odd_lines:
        yield Finding(_thing(line.file, line.name), f"line {line.line} of {line.file}: {line.reason}")
    for each in files.duplicates:
        if each.sort == "name":
            yield Finding(_thing(each.file, each.key), f"several lines of {each.file}, of which programs read one")
        else:
            names = ", ".join(each.names)
            yield Finding(_thing(each.file, each.names[-1]), f"the id {each.key} in {each.file} is that of {names}")


def _thing(file: str, name: str) -> str:
    return f"{'group' if file in OF_GROUPS else 'user'}:{name}"


def group_rights(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the groups that an account joins without being a member."""
    for name, rights in facts.account_files.group_rights.items():
        found = []
        if rights.has_password:
            found.append("a password of the group, with which accounts join it")
        if rights.administrators:
            found.append(f"administrators {', '.join(rights.administrators)}, who give it members")
        if rights.other_members:
            found.append(f"/etc/group and /etc/gshadow differ in {', '.join(rights.other_members)}")
        if rights.is_without_group:
            found.append("a line in /etc/gshadow alone")
        if found:
            yield Finding(f"group:{name}", "; ".join(found))


def accounts(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the accounts whose home, shell or dates are not those of their package, and that no claim compares."""
    files = facts.account_files
    base, dates = files.base_users, files.dates
    workloads = foreign_workloads(facts, declared)
    for user in facts.users:
        claimed = declared.wants.get(f"user:{user.name}", {})
        found = [*_shell(user)] if "shell" not in claimed else []
        if user.name in base:
            own = base[user.name]
            values = {"id": (user.uid, own.uid), "group": (user.gid, own.gid), "home": (user.home, own.home)}
            values["shell"] = (user.shell, own.shell)
            found += [
                f"{name} {is_} instead of {was}"
                for name, (is_, was) in values.items()
                if is_ != was and name not in claimed
            ]
        elif "home" not in claimed and user.name not in workloads:
            found += _home(user, declared)
        if _is_used(user, declared):
            found += _owner(user, files.home(user.name))
            if user.name in dates:
                limits = dates[user.name]
                found += _dates(limits.days("last_changed"), limits.days("maximum"), limits.days("inactive"))
                if (day := limits.days("expires")) is not None and "expires" not in claimed:
                    found.append(f"it expires on day {day} since 1970")
        if found:
            yield Finding(f"user:{user.name}", ", ".join(dict.fromkeys(found)))


def _is_used(user: UserFacts, declared: HostDeclaration) -> bool:
    """Return whether root, rackwright, or a person that is declared logs in as *user*."""
    claimed = declared.declares(f"user:{user.name}") and user.shell not in NO_SHELLS
    return user.uid == 0 or user.name in declared.accounts or claimed


def _shell(user: UserFacts) -> Iterator[str]:
    if user.shell and user.shell not in NO_SHELLS and user.shell not in SHELLS and not _is_of_package(user):
        yield f"shell {user.shell}, which is none of the system"
    elif user.shell.rpartition("/")[2] in NO_LOGIN and user.shell not in NO_SHELLS:
        yield f"shell {user.shell}, which only has the name of a program without logins"


def _is_of_package(user: UserFacts) -> bool:
    """Return whether a shell is a program that packages give to their accounts; RW-080 finds files beside those."""
    return user.uid in SYSTEM_UIDS and user.shell.startswith(
        ("/usr/bin/", "/usr/sbin/", "/usr/lib/", "/usr/libexec/", "/bin/", "/sbin/")
    )


def _home(user: UserFacts, declared: HostDeclaration) -> Iterator[str]:
    is_system = user.uid in SYSTEM_UIDS or user.uid == NOBODY or user.uid in DYNAMIC_UIDS
    is_own = user.home in (f"/home/{user.name}", "/root" if user.uid == 0 else "/home")
    if user.name in declared.accounts or declared.declares(f"user:{user.name}"):
        if not is_own and not user.home.startswith(("/var/lib/", "/nonexistent", "/opt/rackwright")):
            yield f"home {user.home} instead of /home/{user.name}"
    elif is_system and not is_own:
        is_usual = user.home in ("/", "") or user.home.startswith(HOMES_OF_PACKAGES)
        if not is_usual or user.home.startswith(WRITABLE_BY_ALL):
            yield f"home {user.home}, where other accounts write"


def _owner(user: UserFacts, home: HomeFacts | None) -> Iterator[str]:
    if home is None:
        return
    mode = int(home.mode, 8)
    if home.sort != "directory":
        yield f"home {user.home} is a {home.sort}"
    elif home.uid not in (user.uid, 0):
        yield f"home {user.home} belongs to {home.owner}"
    elif mode & stat.S_IWOTH:
        yield f"home {user.home} has the mode {home.mode}"


def _dates(last_changed: int | None, maximum: int | None, inactive: int | None) -> Iterator[str]:
    if last_changed == 0:
        yield "a new password is asked for at the next login"
    if maximum is not None:
        yield f"its password ends after {maximum} days"
    if inactive is not None:
        yield f"it is locked {inactive} days after the end of its password"


RULES = (
    Rule(
        "RW-094",
        "Each name and each id of an account or a group stands once, in a line that all programs read alike.",
        "lines of accounts",
        "Programs read the first line of a name, or the last one, or ask another machine: the account is not what it "
        "seems.",
        f"Correct the line with `vipw` or `vigr`, then run `pwck` and `grpck`, {ADMIT}",
        "passwd(5); gshadow(5); nsswitch.conf(5), compat mode",
        lines,
        severity="error",
    ),
    Rule(
        "RW-095",
        "Groups have no password, no administrators, and the same members in both of their files.",
        "passwords and administrators of groups",
        "Accounts become members of such a group without a member being added to it.",
        f"Run `gpasswd --remove-password` or `gpasswd --administrators` for the group, {ADMIT}",
        "gpasswd(1); newgrp(1); gshadow(5)",
        group_rights,
        severity="error",
    ),
    Rule(
        "RW-096",
        "Accounts have the home, the shell and the dates that their packages and resources give them.",
        "homes, shells and dates of accounts",
        "sshd reads keys from the home, the shell runs at each login, and a date ends the logins of automation.",
        f"Run `usermod --home`, `usermod --shell` or `chage` for the account, {ADMIT}",
        "passwd(5); shadow(5); base-passwd, passwd.master",
        accounts,
        severity="error",
    ),
)
