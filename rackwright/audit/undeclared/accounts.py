"""Rules about accounts: logins, groups with rights, sudo, SSH and PAM."""

from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration, foreign_workloads
from rackwright.audit.undeclared.paths import changed_in, files_in, unpackaged_in
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.facts import Facts, UserFacts
from rackwright.facts.probe.accounts import NO_LOGIN

GROUPS = ("root", "sudo", "wheel", "adm", "shadow", "disk", "kmem", "docker", "lxd", "incus-admin", "libvirt")
"""Groups whose members can read all data or become root, by files, devices or sockets.
Source: base-passwd's users-and-groups.txt; the manuals of Docker, LXD, Incus and libvirt."""
SYSTEM_UIDS = range(1, 1000)
"""Ids of the accounts of packages. Source: Debian Policy 9.2.2."""
NOBODY = 65534
DYNAMIC_UIDS = range(61184, 65520)
"""Ids of accounts that systemd makes for the time of a service. Source: systemd, docs/UIDS-GIDS.md."""
SUDOERS, SUDOERS_FOLDER = "/etc/sudoers", "/etc/sudoers.d"
SSHD, SSHD_FOLDER = "/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d"
INTERACTIVE = "keyboard-interactive"
TRUSTED_HOSTS = ("/etc/ssh/shosts.equiv", "/etc/hosts.equiv")
"""Machines whose accounts log in without a key of their own. Source: sshd(8), FILES."""
PAM = "/etc/pam.d"
PAM_COMMON = f"{PAM}/common-"
"""Prefix of the files that pam-auth-update writes from the profiles of packages."""


def _is_declared(user: str, facts: Facts, declared: HostDeclaration) -> bool:
    return (
        declared.declares(f"user:{user}")
        or declared.declares(f"authorized_keys:{user}")
        or user in declared.accounts
        or user in foreign_workloads(facts, declared)
    )


def _allows_login(user: UserFacts) -> bool:
    return user.shell.rpartition("/")[2] not in NO_LOGIN


def logins(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the accounts of people: those with a login shell, or an id above those of packages."""
    for user in facts.users:
        is_system = user.uid in SYSTEM_UIDS or user.uid == NOBODY or user.uid in DYNAMIC_UIDS
        # packages give some of their accounts a shell, which no password and no key lets in
        is_locked = is_system and user.password == "locked"  # noqa: S105 - the kind of password, not one
        is_person = user.uid != 0 and not is_locked and (not is_system or _allows_login(user))
        if is_person and not _is_declared(user.name, facts, declared):
            yield Finding(f"user:{user.name}", f"id {user.uid}, shell {user.shell}, password {user.password}")


def roots(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the accounts that are root by their id; no declaration gives this id, also not to a declared name."""
    for user in facts.users:
        if user.uid == 0 and user.name != "root":
            yield Finding(f"user:{user.name}", "has the id 0 of root")


def passwordless(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for user in facts.users:
        if user.password == "none":  # noqa: S105 - the kind of password, not one
            yield Finding(f"user:{user.name}", "logs in without a password")


def groups(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the accounts of people in groups with rights; packages put only their own accounts there."""
    users = {user.name: user for user in facts.users}
    rules = [rule for texts in facts.sudo_rules().values() for rule in texts]
    granted = {rule.split()[0][1:] for rule in rules if rule.startswith("%")}
    for name in sorted({*GROUPS, *granted}):
        group = facts.group(name)
        if group is None or "members" in declared.wants.get(f"group:{name}", {}):
            continue
        for member in group.members:
            user = users.get(member)
            is_package = user is not None and user.uid in SYSTEM_UIDS and not _allows_login(user)
            claimed = "groups" in declared.wants.get(f"user:{member}", {})
            if member != "root" and not is_package and not claimed and member not in declared.accounts:
                yield Finding(f"group:{name}/{member}", f"{member} is a member of {name}")


def sudoers(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for path, effect in _sudo_files(facts, declared):
        if effect:
            yield Finding(f"file:{path}", effect)


def sudoers_without_effect(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    for path, effect in _sudo_files(facts, declared):
        if not effect:
            file = facts.sudo_file(path)
            reason = f"sudo ignores it for {file.ignored}" if file and file.ignored else "neither rules nor settings"
            yield Finding(f"file:{path}", reason)


def _sudo_files(facts: Facts, declared: HostDeclaration) -> Iterator[tuple[str, str]]:
    """Yield the undeclared files of sudo, each with its rules and settings; empty for a file without effect."""
    rules = facts.sudo_rules()
    for path in (
        *unpackaged_in(facts, declared, SUDOERS_FOLDER),
        *changed_in(facts, declared, SUDOERS, SUDOERS_FOLDER),
    ):
        file = facts.sudo_file(path)
        settings = file.settings if file and not file.ignored else ()
        effect = "; ".join((*rules.get(path, ()), *settings))
        if not effect and (file is None or path == SUDOERS):  # an earlier probe, or changed comments or includes
            effect = "it differs from the file of its package" if path in facts.changed_conffiles else "unknown effect"
        yield path, effect


def authorized_keys(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the files with keys of accounts whose keys nothing declares.

    Without role `access`, the keys of the accounts with which rackwright logs in are declared nowhere.
    """
    for account in facts.login_accounts:
        if declared.declares(f"authorized_keys:{account}") or account in declared.accounts:
            continue
        login = facts.login_keys(account)
        if login is None:
            continue
        if login.command != "none":
            yield Finding(f"authorized_keys:{account}", f"sshd asks the command {login.command}")
        for path, keys in login.files.items():
            if keys and not declared.declares_path(path):
                yield Finding(f"authorized_keys:{account}", f"{path}: {', '.join(map(str, keys))}")


def authorities(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    found: dict[str, tuple[str, ...]] = {}
    for account in facts.login_accounts:
        if login := facts.login_keys(account):
            found.update(login.authorities)
    for path, keys in found.items():
        if not declared.declares_path(path):
            yield Finding(f"file:{path}", f"trusts certificates of {', '.join(keys) or 'no key'}")


def principals(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the sources of names that certificates may have for an account, beside the account's own name."""
    found: dict[str, tuple[str, ...]] = {}
    for account in facts.login_accounts:
        login = facts.login_keys(account)
        if login is None:
            continue
        if login.principals_command != "none":
            yield Finding(f"principals:{account}", f"sshd asks the command {login.principals_command}")
        for path, names in login.principals.items():
            found[path] = (*found.get(path, ()), *names)
    for path, all_names in found.items():
        if not declared.declares_path(path):
            yield Finding(f"file:{path}", f"admits certificates for {', '.join(dict.fromkeys(all_names)) or 'nobody'}")


def interactive_logins(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the accounts of rackwright that sshd asks a question, which no program answers."""
    for account in facts.login_accounts:
        login = facts.login_keys(account) if account in declared.accounts else None
        ways = login.methods if login else ()
        if ways and all(INTERACTIVE in way or "password" in way for way in ways):
            yield Finding(f"user:{account}", f"sshd asks for {' or '.join(ways)}")


def sshd_settings(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    yield from files_in(facts, declared, SSHD, SSHD_FOLDER, *TRUSTED_HOSTS)


def pam(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    modules = facts.pam_modules()
    for finding in files_in(facts, declared, PAM):
        path = finding.thing.removeprefix("file:")
        if not path.startswith(PAM_COMMON):
            yield Finding(finding.thing, f"{finding.found}: {', '.join(modules.get(path, ()))}")
    offered = set(facts.pam_profile_modules)
    for path, names in modules.items():
        if path.startswith(PAM_COMMON) and not declared.declares_path(path) and (added := set(names) - offered):
            yield Finding(f"file:{path}", f"with {', '.join(sorted(added))}, which no package put there")


RULES = (
    Rule(
        "RW-020",
        "Each account that people can use is declared.",
        "accounts",
        "The account of a person who left stays open until it is found.",
        f"Remove the account with `userdel`, declare it in role `access`, {ADMIT}",
        "passwd(5); Debian Policy 9.2.2",
        logins,
        severity="error",
    ),
    Rule(
        "RW-021",
        "Only root has the id 0.",
        "accounts with the id 0",
        "Another account with that id is root under a name that logs do not show.",
        f"Remove the account, {ADMIT}",
        "passwd(5); CIS Debian Linux 12 Benchmark, 7.2",
        roots,
        severity="error",
    ),
    Rule(
        "RW-022",
        "Groups with rights have only declared members.",
        "groups",
        "Members of these groups can read all data or become root.",
        f"Remove the member with `gpasswd -d`, declare it in role `access`, {ADMIT}",
        "base-passwd, users-and-groups.txt; Docker, Post-installation steps",
        groups,
        severity="error",
    ),
    Rule(
        "RW-023",
        "The rules and settings of sudo in /etc/sudoers and /etc/sudoers.d are those of packages and roles.",
        "rules of sudo",
        "A rule lets an account run commands as root, and a setting can take the password off or keep variables.",
        f"Remove the file with `rm` (a packaged one: install its package again), run `visudo -c`, {ADMIT}",
        "sudoers(5)",
        sudoers,
        severity="error",
    ),
    Rule(
        "RW-024",
        "Each key that logs in to an account is declared.",
        "authorized keys",
        "The owner of such a key logs in without a password, also as root.",
        f"Remove the line from the file, declare role `access`, {ADMIT}",
        "sshd(8), AUTHORIZED_KEYS FILE FORMAT",
        authorized_keys,
        severity="error",
    ),
    Rule(
        "RW-025",
        "sshd trusts only declared certificate authorities.",
        "authorities of sshd",
        "The owner of such an authority can issue a login to any account.",
        f"Remove TrustedUserCAKeys from sshd's configuration, {ADMIT}",
        "sshd_config(5), TrustedUserCAKeys",
        authorities,
        severity="error",
    ),
    Rule(
        "RW-026",
        "The files in /etc/pam.d are those of packages and roles, and the common ones name only modules of packages.",
        "files of PAM",
        "A module of PAM sees each password, and decides about each login.",
        f"Restore the packaged file, or run `pam-auth-update`, {ADMIT}",
        "pam.d(5); pam-auth-update(8)",
        pam,
        severity="error",
    ),
    Rule(
        "RW-027",
        "The configuration of sshd is that of its package and of roles.",
        "configuration of sshd",
        "A line there can allow passwords, root, or tunnels.",
        f"Remove the file or restore the packaged one, {ADMIT}",
        "sshd_config(5)",
        sshd_settings,
        severity="error",
    ),
    Rule(
        "RW-028",
        "No account has an empty password.",
        "passwords",
        "Everybody at the console is in.",
        "Run `passwd -l` for the account",
        "shadow(5); CIS Debian Linux 12 Benchmark, 7.2",
        passwordless,
        severity="error",
    ),
    Rule(
        "RW-029",
        "sshd takes the principals of certificates only from declared files.",
        "principals of sshd",
        "A name in such a file lets the certificate of another person in.",
        f"Remove AuthorizedPrincipalsFile or AuthorizedPrincipalsCommand from sshd's configuration, {ADMIT}",
        "sshd_config(5), AuthorizedPrincipalsFile",
        principals,
        severity="error",
    ),
    Rule(
        "RW-039",
        "Each file in /etc/sudoers.d has rules or settings that sudo reads.",
        "files without effect in /etc/sudoers.d",
        "Its author expects an effect that it does not have; another name gives it that effect.",
        f"Remove the file with `rm`, {ADMIT}",
        "sudoers(5), Including other files from within sudoers",
        sudoers_without_effect,
        severity="notice",
    ),
    Rule(
        "RW-129",
        "sshd asks the accounts of rackwright no question.",
        "methods of sshd",
        "A second factor for all accounts locks automation out at its next login.",
        "Except the account by `Match User` in sshd's configuration; role `access` does",
        "sshd_config(5), AuthenticationMethods; ansible/ansible#16259, #40340",
        interactive_logins,
        severity="error",
    ),
)
